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
        let filter = "not arp and not icmp6 and not igmp and not port 1194 and not port 51820";
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
