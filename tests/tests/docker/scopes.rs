//! Whole networks and single containers through the VPN, unchanged; by the servers' logs, and by a capture at the provider.

use std::{
    fs::{self, File},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use steer_tests::{
    lab::{
        Answer, DockerVersion, IMAGE, Lab, Ns, Resolver, ResolverPlace,
        plan::{Path, RESOLVER_V4, Range},
    },
    pace::patience,
};

/// All that comes from the box by the provider's wire and is not the tunnel's own.
struct Capture {
    child: Child,
    text: std::path::PathBuf,
}

impl Capture {
    fn begin(lab: &Lab) -> Result<Self> {
        let text = lab.dir().join("capture-of-scope");
        // Neighbours ask for each other's link addresses.
        let filter = "not arp and not icmp6 and not igmp and not port 1194 and not port 51820 and not dst host 10.8.0.1";
        let child = lab
            .command(Ns::Isp, "tcpdump")?
            .args(["-i", "box", "-n", "-tt", "-l", "-Q", "in", filter])
            .stdin(Stdio::null())
            .stdout(File::create(&text)?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start tcpdump: is it installed?")?;
        thread::sleep(patience(Duration::from_millis(500)));
        Ok(Self { child, text })
    }

    /// What was seen, a packet a line.
    fn seen(&self) -> Result<String> {
        thread::sleep(patience(Duration::from_millis(300)));
        Ok(fs::read_to_string(&self.text)?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn isolated(selector: &str) -> String {
    format!("[[scope]]\n{selector}\ndefault = \"vpn\"\ndns = \"{RESOLVER_V4}\"\n")
}

const QUIET: [&str; 2] = ["--no-resolve", "--no-presets"];

fn network(lab: &Lab, name: &str) -> Result<()> {
    let subnet = format!("fd00:e{}::/64", name.len());
    let made = lab.docker(&["network", "create", "--ipv6", "--subnet", &subnet, name])?;
    made.stdout().map(drop)
}

#[test]
fn ten_containers_by_the_vpn_and_a_second_network_direct() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    network(&lab, "under")?;
    let steer = lab.steer(&isolated("network = \"under\""), &QUIET)?;
    let capture = Capture::begin(&lab)?;
    let urls = ["https://v4.direct.example/", "https://v4.blocked.example/"];
    for number in 0..10 {
        let name = format!("under{number}");
        let script = urls
            .map(|url| format!("curl -sSm10 -o /dev/null {url}"))
            .join(" && ");
        let run = [
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            "under",
            IMAGE,
            "sh",
            "-c",
            &script,
        ];
        lab.docker(&run)?.stdout()?;
    }
    for number in 0..10 {
        let name = format!("under{number}");
        let status = lab.docker(&["wait", &name])?.stdout()?;
        let said = lab.docker(&["logs", &name])?.said();
        ensure!(status.trim() == "0", "{name}: {said}\n{}", steer.output());
    }
    let seen = lab.seen()?;
    ensure!(seen.len() == 20, "{seen:#?}");
    for request in &seen {
        ensure!(request.path == Path::Vpn, "{request:#?}");
    }
    let leaked = capture.seen()?;
    ensure!(leaked.is_empty(), "{leaked}\n{}", steer.output());
    let ran = lab.container_with(&["--network", "lab"], &["curl", "-sSm10", urls[0]])?;
    ensure!(ran.ok(), "{}", ran.said());
    let last = lab.seen()?.pop().context("nothing was seen")?;
    ensure!(last.path == Path::Direct, "{last:?}");
    println!("{}", steer.output());
    steer.terminate().map(drop)
}

/// A resolver that lies, and tells who asked it.
fn hostile(lab: &Lab) -> Result<Resolver> {
    let liar = Range::Open.host_v4(99).into();
    lab.resolver(move |_| vec![Answer::honest([liar])])
}

fn only_the_enforced_resolver_answers(version: DockerVersion, place: ResolverPlace) -> Result<()> {
    let lab = Lab::builder().docker(version).resolver(place).up()?;
    lab.load_image()?;
    network(&lab, "under")?;
    let hostile = hostile(&lab)?;
    let steer = lab.steer(
        &(isolated("network = \"under\"") + &isolated("container = \"alone*\"")),
        &QUIET,
    )?;
    let capture = Capture::begin(&lab)?;
    let liar = Resolver::V4.ip().to_string();
    let places: [(&str, &[&str]); 4] = [
        ("a network with its resolver", &["--network", "under"]),
        ("one of its own", &["--network", "under", "--dns", &liar]),
        ("a container", &["--network", "lab", "--name", "alone1"]),
        (
            "the default bridge",
            &["--network", "bridge", "--name", "alone2", "--dns", &liar],
        ),
    ];
    for (what, place) in places {
        for name in [
            "v4.blocked.example",
            "v4.direct.example",
            "no-such.direct.example",
        ] {
            let url = format!("https://{name}/");
            let ran = lab.container_with(place, &["curl", "-sSm10", "-o", "/dev/null", &url])?;
            let is_there = !name.starts_with("no-such");
            ensure!(
                ran.ok() == is_there,
                "{what}, {name}: {}\n{}\n{}",
                ran.said(),
                capture.seen()?,
                steer.output()
            );
        }
        let leaked = capture.seen()?;
        ensure!(leaked.is_empty(), "{what}: {leaked}\n{}", steer.output());
    }
    ensure!(hostile.asked().is_empty(), "{:?}", hostile.asked());
    // Over TCP and over TLS, and to others of the same network.
    let dot = format!("nc -w 2 {liar} 853 </dev/null && echo open || echo refused");
    let ran = lab.container_with(&["--network", "under"], &["sh", "-c", &dot])?;
    ensure!(ran.said().contains("refused"), "{}", ran.said());
    steer.terminate().map(drop)
}

#[test]
fn only_the_enforced_resolver_is_asked() -> Result<()> {
    only_the_enforced_resolver_answers(DockerVersion::Installed, ResolverPlace::Internet)
}

#[test]
fn only_the_enforced_resolver_is_asked_with_one_on_loopback() -> Result<()> {
    only_the_enforced_resolver_answers(DockerVersion::Installed, ResolverPlace::Loopback)
}

#[test]
fn only_the_enforced_resolver_is_asked_by_docker_of_sid() -> Result<()> {
    only_the_enforced_resolver_answers(DockerVersion::Sid, ResolverPlace::Internet)
}

/// How many, as the environment says, or as few as a run of all tests bears.
fn many(variable: &str, few: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(number) => Ok(number.parse()?),
        Err(_) => Ok(few),
    }
}

/// Sends at once: a connection, a question and a datagram, to where neither name nor rule leads.
const AT_ONCE: &str = "
    nc -w 5 198.51.100.11 80 </dev/null & nc -u -w 1 198.51.100.11 9 </dev/null &
    curl -sSm20 -o /dev/null https://v4.direct.example/; code=$?; wait; exit $code";

#[test]
fn containers_that_send_at_once_leak_nothing() -> Result<()> {
    let containers = many("STEER_CONTAINERS", 24)?;
    const AT_A_TIME: usize = 8;
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    let steer = lab.steer(&isolated("label = \"steer.path=vpn\""), &QUIET)?;
    let capture = Capture::begin(&lab)?;
    let script = format!(
        "seq {containers} | xargs -P {AT_A_TIME} -I @ sh -c '
            docker run --rm --pull never --network lab --label steer.path=vpn {IMAGE} sh -c \"$SEND\" && echo ok'"
    );
    let mut shell = lab.docker_shell(&script)?;
    let ran = shell.env("SEND", AT_ONCE).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let well = said.lines().filter(|line| *line == "ok").count();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    let leaked = capture.seen()?;
    println!(
        "{well} of {containers} reached the server, {} packets leaked",
        leaked.lines().count()
    );
    ensure!(leaked.is_empty(), "{leaked}\n{}", steer.output());
    ensure!(well == containers, "{well}: {errors}\n{}", steer.output());
    let seen = lab.seen()?;
    ensure!(
        seen.len() == containers && seen.iter().all(|it| it.path == Path::Vpn),
        "{seen:#?}"
    );
    steer.terminate().map(drop)
}

/// Sends all that may leak, over and over: connections, datagrams, echo requests, questions of DNS and over TLS, both families.
const EVERYTHING: &str = "
    while :; do
        for to in 198.51.100.11 2001:db8:d1::b; do
            nc -w 1 $to 80 </dev/null & echo x | nc -u -w 1 $to 9 & ping -c 1 -W 1 $to &
            nc -w 1 $to 853 </dev/null & nslookup v4.direct.example $to &
        done
        curl -sm2 -o /dev/null https://v4.direct.example/ && date +%s >>/proc/1/fd/1
        curl -sm2 -o /dev/null https://v6.direct.example/
        sleep 0.3
    done >/dev/null 2>&1";

/// How many of the loops' requests came through since it was asked last.
struct Through(usize);

impl Through {
    fn more(&mut self, lab: &Lab) -> Result<usize> {
        let all = lab.seen()?.len();
        Ok(all - std::mem::replace(&mut self.0, all))
    }
}

#[test]
fn nothing_of_a_scope_leaks_whatever_happens() -> Result<()> {
    let moment = patience(Duration::from_millis(2500));
    let rounds = many("STEER_ROUNDS", 1)?;
    let mut lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    network(&lab, "under")?;
    let run = |lab: &Lab, name: &str| {
        let options = [
            "run",
            "-d",
            "--restart",
            "always",
            "--name",
            name,
            "--network",
            "under",
        ];
        lab.docker(&[&options[..], &[IMAGE, "sh", "-c", EVERYTHING]].concat())?
            .stdout()
    };
    run(&lab, "first")?;
    // As a host that was shut down: no daemon, no container, no bridge.
    let version = lab.stop_docker()?;
    lab.shell(
        Ns::Box,
        "ip -o link show type bridge | cut -d: -f2 | xargs -n 1 ip link del",
    )?;
    let capture = Capture::begin(&lab)?;
    let nothing = |lab: &Lab, when: &str, steer: &str| {
        let leaked = capture.seen()?;
        println!(
            "{when}: {} packets outside the tunnel",
            leaked.lines().count()
        );
        ensure!(leaked.is_empty(), "{when}: {leaked}\n{steer}");
        lab.seen().map(drop)
    };
    let mut through = Through(0);
    // What it has sent before there was a scope.
    let before = through.more(&lab)?;
    let socket = lab.dir().join("docker.sock");
    let config = format!(
        "[attach]\ndocker = \"{}\"\n{}",
        socket.display(),
        isolated("network = \"under\"")
    );
    let steer = lab.steer(&config, &QUIET)?;
    lab.start_docker(version)?;
    thread::sleep(2 * moment);
    nothing(&lab, "the host has started", &steer.output())?;
    let came = through.more(&lab)?;
    ensure!(came > 0, "nothing came through: {}", steer.output());

    for round in 0..rounds {
        lab.tunnel_down()?;
        thread::sleep(moment);
        through.more(&lab)?;
        run(&lab, &format!("during{round}"))?;
        thread::sleep(moment);
        ensure!(
            through.more(&lab)? == 0,
            "something came through without a VPN"
        );
        lab.tunnel_up()?;
        thread::sleep(2 * moment);
        nothing(&lab, "the VPN went and came back", &steer.output())?;
        ensure!(
            through.more(&lab)? > 0,
            "nothing comes through: {}",
            steer.output()
        );
    }
    let said = steer.terminate()?;
    ensure!(said.contains("steer cleanup puts the host back"), "{said}");
    run(&lab, "stopped")?;
    thread::sleep(moment);
    nothing(&lab, "steer was stopped", &said)?;
    let steer = lab.steer(&config, &QUIET)?;
    thread::sleep(moment);
    nothing(&lab, "and ran again", &steer.output())?;
    steer.kill()?;
    run(&lab, "killed")?;
    lab.tunnel_down()?;
    thread::sleep(moment);
    lab.tunnel_up()?;
    thread::sleep(moment);
    nothing(&lab, "steer was killed", "")?;
    let steer = lab.steer(&config, &QUIET)?;
    through.more(&lab)?;
    thread::sleep(2 * moment);
    nothing(&lab, "and ran again", &steer.output())?;
    ensure!(
        through.more(&lab)? > 0,
        "nothing comes through: {}",
        steer.output()
    );
    let seen = lab.seen()?.split_off(before);
    let direct: Vec<_> = seen.iter().filter(|it| it.path != Path::Vpn).collect();
    ensure!(direct.is_empty(), "{direct:#?}");
    steer.terminate().map(drop)
}
