//! Whole networks and single containers through the VPN, unchanged; by the servers' logs, and by a capture at the provider.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use steer_tests::{
    lab::{
        Answer, Capture, DockerVersion, HostSnapshot, IMAGE, Lab, Ns, Resolver, ResolverPlace,
        plan::{Path, RESOLVER_V4, Range, TUNNEL_V4, TUNNEL_V6},
    },
    pace::patience,
};

/// All that comes from the box by the provider's wire and is not the tunnel's own.
fn begin_capture(lab: &Lab) -> Result<Capture> {
    // Neighbours ask for each other's link addresses.
    lab.capture(
        "not arp and not icmp6 and not igmp and not port 1194 and not port 51820 and not port 51830 and not dst host 10.8.0.1",
    )
}

pub fn isolated(selector: &str) -> String {
    format!("[[scope]]\n{selector}\ndefault = \"vpn\"\ndns = \"{RESOLVER_V4}\"\n")
}

pub const QUIET: [&str; 2] = ["--no-resolve", "--no-presets"];

pub fn network(lab: &Lab, name: &str) -> Result<()> {
    let subnet = format!("fd00:e{}::/64", name.len());
    let made = lab.docker(&["network", "create", "--ipv6", "--subnet", &subnet, name])?;
    made.stdout().map(drop)
}

/// The host as it is once there was a container on each of the networks, for the kernel gives bridges addresses then.
pub(super) fn snapshot(lab: &Lab, networks: &[&str]) -> Result<HostSnapshot> {
    for network in networks {
        let ran = lab.container_with(&["--network", network], &["sleep", "1"])?;
        ensure!(ran.ok(), "{}", ran.said());
    }
    as_now(lab)
}

/// The host once no container is left on any bridge, as the kernel notices a moment later.
pub(super) fn as_now(lab: &Lab) -> Result<HostSnapshot> {
    for _ in 0..100 {
        let bridges = lab.shell(Ns::Box, "ip -o link show type bridge")?;
        if !bridges.contains("state UP") {
            break;
        }
        thread::sleep(patience(Duration::from_millis(100)));
    }
    HostSnapshot::take(lab)
}

#[test]
fn ten_containers_by_the_vpn_and_a_second_network_direct() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    network(&lab, "under")?;
    let before = snapshot(&lab, &["under", "lab"])?;
    let config = isolated("network = \"under\"") + "on_stop = \"release\"\n";
    let steer = lab.steer(&config, &QUIET)?;
    let capture = begin_capture(&lab)?;
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
    println!("{}", steer.terminate()?);
    let left = before.diff(&as_now(&lab)?);
    ensure!(left.is_empty(), "{left}");
    Ok(())
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
    let capture = begin_capture(&lab)?;
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
    nc -w 5 198.51.100.11 80 </dev/null & busybox timeout 1 busybox tftp -g -r x -l /dev/null 198.51.100.11 9 &
    curl -sSm20 -o /dev/null https://v4.direct.example/; code=$?; wait; exit $code";

#[test]
fn containers_that_send_at_once_leak_nothing() -> Result<()> {
    let containers = many("STEER_CONTAINERS", 12)?;
    const AT_A_TIME: usize = 8;
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    let steer = lab.steer(&isolated("label = \"steer.path=vpn\""), &QUIET)?;
    let capture = begin_capture(&lab)?;
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
        for to in 198.51.100.11 2001:db8:d1::c; do
            nc -w 1 $to 80 </dev/null & busybox tftp -g -r x -l /dev/null $to 9 & busybox ping -c 1 -W 1 $to &
            nc -w 1 $to 853 </dev/null & busybox nslookup v4.direct.example $to &
        done
        curl -sm2 -o /dev/null https://v4.direct.example/
        curl -sm2 -o /dev/null https://v6.direct.example/
        sleep 0.3
        busybox killall tftp
    done >/dev/null 2>&1";

/// What of it must be seen in the tunnel, or nothing is shown by its not being seen elsewhere.
const KINDS: [&str; 7] = [
    "icmp[icmptype] == icmp-echo",
    "icmp6 and ip6[40] == 128",
    "udp port 9 and ip",
    "udp port 9 and ip6",
    "tcp port 80 and ip6",
    "udp port 53 and dst host 198.51.100.53",
    "tcp port 443 and ip6",
];

/// How many of the loops' requests came through since it was asked last.
struct Through(usize);

#[test]
fn what_a_rule_blocks_no_isolated_container_reaches_by_name_or_first_octets() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    network(&lab, "under")?;
    let config = "[rules]\nblock = [\".blocked.example\"]\n".to_owned()
        + &isolated("network = \"under\"")
        + "on_stop = \"release\"\n";
    let steer = lab.steer(&config, &QUIET)?;
    let capture = begin_capture(&lab)?;
    let before = lab.seen()?.len();
    // Refused as it connects, let through, and reset as it says a blocked name to an address that has none.
    let script = "
        curl -sSm9 -o /dev/null https://v4.blocked.example/; by_name=$?
        address=$(curl -sSm9 -o /dev/null -w '%{remote_ip}' https://v4.direct.example/); other=$?
        curl -sSm9 -o /dev/null --resolve v4.blocked.example:443:$address https://v4.blocked.example/; by_octets=$?
        echo $by_name $other $by_octets";
    let ran = lab.container_with(&["--network", "under"], &["sh", "-c", script])?;
    println!("{}", ran.said());
    let codes = ran.stdout.lines().last().unwrap_or_default();
    ensure!(codes == "7 0 35", "{codes}: {}", steer.output());
    let seen = lab.seen()?.split_off(before);
    ensure!(seen.len() == 1, "one was let through: {seen:?}");
    for line in [
        "(rule blocked.example, from 172.",
        "was stopped, for it is blocked",
    ] {
        steer.wait_said(line)?;
    }
    let leaked = capture.seen()?;
    ensure!(leaked.is_empty(), "{leaked}");
    steer.terminate().map(drop)
}

impl Through {
    fn more(&mut self, lab: &Lab) -> Result<usize> {
        let all = lab.seen()?.len();
        Ok(all - std::mem::replace(&mut self.0, all))
    }
}

/// Answers whoever comes to a port of a container, over TCP and UDP, with his address as it is seen there.
pub fn answer(lab: &Lab, container: &str, port: u16) -> Result<()> {
    let any = (Ipv6Addr::UNSPECIFIED, port);
    let (tcp, udp) = lab.within_container(container, move || -> Result<_> {
        Ok((TcpListener::bind(any)?, UdpSocket::bind(any)?))
    })??;
    // They end with the container, or with the test.
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream?;
            let peer = stream.peer_addr()?.ip().to_canonical();
            stream.write_all(peer.to_string().as_bytes())?;
        }
        anyhow::Ok(())
    });
    thread::spawn(move || {
        loop {
            let (_, peer) = udp.recv_from(&mut [0; 100])?;
            udp.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer)?;
        }
        #[expect(unreachable_code, reason = "tells the type of the failures")]
        anyhow::Ok(())
    });
    Ok(())
}

/// What that one answers to a client in the Internet.
pub fn asked(lab: &Lab, server: SocketAddr, over_tcp: bool) -> Result<String> {
    let limit = patience(Duration::from_secs(3));
    lab.within(Ns::Internet, move || {
        let mut answer = String::new();
        if over_tcp {
            let mut stream = TcpStream::connect_timeout(&server, limit)?;
            stream.set_read_timeout(Some(limit))?;
            stream.read_to_string(&mut answer)?;
            return Ok(answer);
        }
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(limit))?;
        socket.send_to(b"who am I?", server)?;
        let mut octets = [0; 100];
        let (size, _) = socket.recv_from(&mut octets)?;
        Ok(String::from_utf8_lossy(&octets[..size]).into_owned())
    })?
}

fn forwards_to(version: DockerVersion) -> Result<()> {
    /// Who asks, as the VPN's far end routes him.
    const CLIENT_V4: &str = "10.40.0.254";
    const CLIENT_V6: &str = "fd00:40::fe";
    let lab = Lab::builder().docker(version).up()?;
    lab.load_image()?;
    network(&lab, "under")?;
    lab.shell(
        Ns::Internet,
        "ip route add 10.8.0.0/24 via 10.40.0.1; ip route add fd00:8::/64 via fd00:40::1",
    )?;
    let before = snapshot(&lab, &["under", "lab"])?;
    let config = isolated("network = \"under\"")
        + "forward = [\"4666/tcp -> torrent\", \"4667/udp -> torrent:4666\"]\n";
    let steer = lab.steer(&config, &QUIET)?;
    let capture = begin_capture(&lab)?;
    let mut addresses = Vec::new();
    for round in 0..2 {
        if round > 0 {
            // It comes back with another address, for this one has it now.
            lab.docker(&["rm", "-f", "torrent"])?.stdout()?;
            lab.idle_container("other", "under")?;
        }
        lab.idle_container("torrent", "under")?;
        answer(&lab, "torrent", 4666)?;
        let address = [
            "inspect",
            "-f",
            "{{.NetworkSettings.Networks.under.IPAddress}}",
            "torrent",
        ];
        addresses.push(lab.docker(&address)?.stdout()?);
        for (server, client) in [
            (IpAddr::from(TUNNEL_V4), CLIENT_V4),
            (TUNNEL_V6.into(), CLIENT_V6),
        ] {
            for (port, over_tcp) in [(4666, true), (4667, false)] {
                let server = SocketAddr::new(server, port);
                let mut said = asked(&lab, server, over_tcp);
                for _ in 0..3 {
                    if said.is_ok() {
                        break;
                    }
                    said = asked(&lab, server, over_tcp);
                }
                let said =
                    said.with_context(|| format!("round {round}, {server}: {}", steer.output()))?;
                println!("round {round}: {server} was asked by {said}");
                ensure!(said == client, "{server}: {said}");
            }
        }
        // Nobody else gets in, and nobody comes by the other way.
        let closed = asked(&lab, SocketAddr::new(TUNNEL_V4.into(), 4668), true);
        ensure!(closed.is_err(), "{closed:?}");
    }
    ensure!(addresses[0] != addresses[1], "{addresses:?}");
    let leaked = capture.seen()?;
    ensure!(leaked.is_empty(), "{leaked}");
    lab.docker(&["rm", "-f", "torrent", "other"])?.stdout()?;
    steer.terminate()?;
    let kept = before.diff(&as_now(&lab)?);
    ensure!(!kept.is_empty(), "nothing is kept");
    lab.steer_cleanup()?.stdout()?;
    let left = before.diff(&as_now(&lab)?);
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

#[test]
fn ports_of_the_vpns_address_lead_to_a_container() -> Result<()> {
    forwards_to(DockerVersion::Installed)
}

#[test]
fn ports_of_the_vpns_address_lead_to_a_container_of_sid() -> Result<()> {
    forwards_to(DockerVersion::Sid)
}

#[test]
fn nothing_of_a_scope_leaks_whatever_happens() -> Result<()> {
    let moment = patience(Duration::from_secs(2));
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
    // One that has long been at it, with answers on their way.
    thread::sleep(moment);
    let older = lab.steer(&isolated("network = \"under\""), &QUIET)?;
    let capture = begin_capture(&lab)?;
    thread::sleep(moment);
    let leaked = capture.seen()?;
    println!(
        "containers older than steer: {} packets outside the tunnel",
        leaked.lines().count()
    );
    ensure!(leaked.is_empty(), "{leaked}\n{}", older.output());
    drop(capture);
    older.terminate()?;
    lab.steer_cleanup()?.stdout()?;
    // As a host that was shut down: no daemon, no container, no bridge.
    let version = lab.stop_docker()?;
    lab.shell(
        Ns::Box,
        "ip -o link show type bridge | cut -d: -f2 | xargs -n 1 ip link del",
    )?;
    let capture = begin_capture(&lab)?;
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
    for kind in KINDS {
        let line = format!("timeout 20 tcpdump -i tun0 -n -c 1 '{kind}'");
        let seen = lab.run(Ns::Vpn, &["sh", "-c", &line])?;
        ensure!(seen.ok(), "no {kind} in the tunnel: {}", seen.said());
    }

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

#[test]
fn who_gets_the_address_of_one_that_was_free_is_isolated() -> Result<()> {
    let rounds = many("STEER_CONTAINERS", 4)?;
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    let steer = lab.steer(&isolated("label = \"steer.path=vpn\""), &QUIET)?;
    let capture = begin_capture(&lab)?;
    // One address in turns, each as soon as the other has gone.
    let script = format!(
        "for i in $(seq {rounds}); do
            docker run --rm --pull never --network bridge {IMAGE} sh -c 'ip -4 -o addr show eth0; nc -w 1 198.51.100.12 80 </dev/null'
            docker run --rm --pull never --network bridge --label steer.path=vpn {IMAGE} sh -c '
                ip -4 -o addr show eth0; nc -w 2 198.51.100.11 80 </dev/null && echo reached'
        done"
    );
    let ran = lab.docker_shell(&script)?.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let addresses: BTreeSet<_> = said
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    let reached = said.lines().filter(|line| *line == "reached").count();
    let seen = capture.seen()?;
    let of = |to: &str| {
        seen.lines()
            .filter(|line| line.contains(&format!("> {to}.")))
            .count()
    };
    let (free, leaked) = (of("198.51.100.12"), of("198.51.100.11"));
    println!(
        "addresses {addresses:?}, reached {reached} of {rounds}; direct packets: {free} of the free, {leaked} of the isolated"
    );
    ensure!(leaked == 0, "{seen}\n{}", steer.output());
    ensure!(
        free >= rounds && reached == rounds,
        "{said}\n{}",
        steer.output()
    );
    steer.terminate().map(drop)
}
