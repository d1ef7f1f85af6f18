//! Ports of the VPN's address that containers answer, through a firewall as Docker makes it.

use std::{net::TcpStream, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{getsockopt, sockopt};
use steer::route::{
    Event, Forward, Numbers, Protocol, VpnId, Wanted, cleanup, obstacles, plan, watch,
};

use crate::{
    containers::{BRIDGE, FAR, addresses, ask_tcp, ask_udp, at, bridged, container, serve, wanted},
    host::{Host, MARKED},
    netns::{self, Namespace, assert_same, set_rp_filter, sh, snapshot, way},
};

/// The VPN's addresses.
const VPN: [&str; 2] = ["10.8.0.2", "fd00:8::2"];

const TCP: u16 = 8080;
const UDP: u16 = 5353;

fn forwards() -> Result<Vec<Forward>> {
    let mut forwards = Vec::new();
    for address in addresses(2) {
        for (protocol, port) in [(Protocol::Tcp, TCP), (Protocol::Udp, UDP)] {
            forwards.push(Forward {
                protocol,
                port,
                to: address.parse()?,
                to_port: 80,
                bridge: BRIDGE.into(),
                vpn: VpnId(0),
            });
        }
    }
    Ok(forwards)
}

/// As Docker 20.10 has it: it drops all that is not published, and keeps a chain for IPv4 alone. Of an `internal` network it
/// lets nothing out, either.
fn firewall(kind: &str, internal: bool) -> Result<()> {
    let [v4, v6] = ["iptables", "ip6tables"].map(|program| format!("{program}{kind}"));
    for (program, users) in [(&v4, true), (&v6, false)] {
        let run = |rule: &str| sh(program, rule);
        run("-w -P FORWARD DROP")?;
        run("-w -N DOCKER")?;
        if users {
            run("-w -N DOCKER-USER")?;
            run("-w -A DOCKER-USER -j RETURN")?;
            run("-w -A FORWARD -j DOCKER-USER")?;
        }
        if internal {
            let [v4, v6] = crate::containers::NETWORKS;
            let net = if users { v4 } else { v6 };
            run(&format!("-w -A FORWARD ! -s {net} -o {BRIDGE} -j DROP"))?;
            run(&format!("-w -A FORWARD ! -d {net} -i {BRIDGE} -j DROP"))?;
            continue;
        }
        run(&format!(
            "-w -A FORWARD -o {BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        ))?;
        run(&format!("-w -A FORWARD -o {BRIDGE} -j DOCKER"))?;
        run(&format!(
            "-w -A FORWARD -i {BRIDGE} ! -o {BRIDGE} -j ACCEPT"
        ))?;
    }
    Ok(())
}

/// All rules there are, of whatever kind, without what was counted.
fn rules(host: &Host) -> Result<String> {
    let mut text = snapshot(host.run_dir())?;
    for program in ["iptables-nft-save", "ip6tables-nft-save"] {
        text += &sh(program, "")?;
    }
    for kind in ["nft", "legacy"] {
        for program in ["iptables", "ip6tables"] {
            text += &sh(&format!("{program}-{kind}"), "-w -S")?;
        }
    }
    let comments = |line: &&str| !line.starts_with('#');
    Ok(text.lines().filter(comments).collect::<Vec<_>>().join("\n"))
}

fn answered(far: &Namespace) -> Result<[String; 4]> {
    far.run(|| {
        Ok([
            ask_tcp(&at(VPN[0], TCP))?,
            ask_tcp(&at(VPN[1], TCP))?,
            ask_udp(&at(VPN[0], UDP))?,
            ask_udp(&at(VPN[1], UDP))?,
        ])
    })
}

fn with_ports(host: &Host) -> Result<Wanted> {
    Ok(Wanted {
        forwards: forwards()?,
        ..wanted(host)
    })
}

/// The host, the VPN's far end, and a container that tells who asks it.
fn between() -> Result<(Host, Namespace, Namespace)> {
    let (host, far) = bridged(&[])?;
    let server = container(2)?;
    server.run(|| {
        for address in addresses(2) {
            serve("container", &at(&address, 80))?;
        }
        Ok(())
    })?;
    Ok((host, far, server))
}

fn seen() -> [String; 4] {
    let of = |family: usize| format!("container to {}", FAR[family]);
    [of(0), of(1), of(0), of(1)]
}

async fn through_a_firewall(kind: &'static str, internal: bool) -> Result<()> {
    let (host, far, _server) = between()?;
    firewall(kind, internal)?;
    let before = rules(&host)?;
    let mut routing = host.open().await?;
    let with = plan(&with_ports(&host)?);
    let without = plan(&wanted(&host));
    routing.apply(&without).await?;
    let alone = rules(&host)?;
    assert!(!alone.contains("steer: tcp"), "{alone}");

    routing.apply(&with).await?;
    assert_eq!(routing.apply(&with).await?, [], "all is there");
    routing.apply(&without).await?;
    assert_same(&alone, &rules(&host)?);
    routing.apply(&with).await?;
    routing.remove().await?;
    assert_same(&before, &rules(&host)?);

    // A killed run's are adopted, or cleaned up.
    for _ in 0..2 {
        let mut routing = host.open().await?;
        routing.apply(&with).await?;
        std::mem::forget(routing);
    }
    let mut routing = host.open().await?;
    assert_eq!(routing.apply(&with).await?, [], "all is there");
    routing.apply(&without).await?;
    assert_same(&alone, &rules(&host)?);
    routing.apply(&with).await?;
    std::mem::forget(routing);
    cleanup(host.run_dir(), Numbers::default()).await?;
    assert_same(&before, &rules(&host)?);
    let mut routing = host.open().await?;
    routing.apply(&with).await?;
    std::mem::forget(routing);
    std::fs::remove_file(host.run_dir().join("routing.json"))?;
    cleanup(host.run_dir(), Numbers::default()).await?;
    // Of what was before that only the record knew.
    set_rp_filter("vpn0", 1)?;
    assert_same(&before, &rules(&host)?);

    let mut routing = host.open().await?;
    routing.apply(&without).await?;
    let [v4, ..] = answered(&far)?;
    assert_eq!(v4, "refused", "nobody listens on the host itself");
    routing.apply(&with).await?;
    assert_eq!(answered(&far)?, seen());

    // Somebody empties the chain, as a firewall's reload does, and dockerd makes it anew.
    let program = format!("iptables{kind}");
    sh(&program, "-w -F DOCKER-USER")?;
    let changes = routing.apply(&with).await?;
    assert_eq!(changes.len(), 4, "{changes:?}");
    assert_eq!(answered(&far)?, seen());
    Ok(())
}

#[test]
fn clients_are_answered_through_a_firewall_of_nft() -> Result<()> {
    netns::run(async || through_a_firewall("-nft", false).await)
}

#[test]
fn clients_are_answered_through_a_firewall_of_the_older_kind() -> Result<()> {
    netns::run(async || through_a_firewall("-legacy", false).await)
}

#[test]
fn clients_are_answered_by_a_network_without_a_way_out() -> Result<()> {
    netns::run(async || through_a_firewall("-nft", true).await)
}

#[test]
fn what_is_not_forwarded_stays_closed() -> Result<()> {
    netns::run(async || {
        let (host, far, server) = between()?;
        server.run(|| serve("container", &at("172.18.0.2", 81)))?;
        firewall("-nft", false)?;
        let mut routing = host.open().await?;
        routing.apply(&plan(&with_ports(&host)?)).await?;
        far.run(|| {
            netns::ip("route add 172.18.0.0/16 via 10.8.0.2")?;
            for server in ["172.18.0.2:80", "172.18.0.2:81"] {
                assert_eq!(ask_udp(server)?, "silence", "{server}");
            }
            Ok(())
        })?;
        Ok(())
    })
}

#[test]
fn what_else_drops_is_told() -> Result<()> {
    netns::run(async || {
        let (host, _far, _server) = between()?;
        let with = plan(&with_ports(&host)?);
        let told = async || -> Result<Vec<String>> { Ok(obstacles(&with).await?) };
        assert_eq!(told().await?, [""; 0]);
        firewall("-nft", false)?;
        assert_eq!(told().await?, [""; 0], "Docker's own is opened");
        sh("nft", "flush ruleset")?;

        sh("iptables-legacy", "-w -P FORWARD DROP")?;
        sh("nft", "add table inet mine")?;
        sh(
            "nft",
            "add chain inet mine through { type filter hook forward priority 0 ; policy drop ; }",
        )?;
        let found = told().await?;
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("the chain FORWARD of iptables-legacy has the policy DROP"));
        assert!(found[1].contains("\"inet mine through\""));
        for sentence in found {
            // What it says to do is taken by whom it says it to.
            let command = sentence.split('`').nth(1).context("a command")?;
            let (program, arguments) = command.split_once(' ').context("arguments")?;
            sh(program, arguments)?;
        }
        assert_eq!(obstacles(&plan(&wanted(&host))).await?, [""; 0]);
        Ok(())
    })
}

#[test]
fn a_firewall_that_cannot_be_listed_stops_nothing_else() -> Result<()> {
    netns::run(async || {
        let (host, far, _server) = between()?;
        firewall("-nft", false)?;
        let with = plan(&with_ports(&host)?);
        // What nft adds there, iptables cannot list.
        let foreign = |chain: &str| -> Result<()> {
            let rule = format!("add rule ip filter {chain} fib daddr type local accept");
            sh("nft", &rule)?;
            ensure!(sh("iptables-nft", "-w -S").is_err(), "it lists the rule");
            Ok(())
        };
        let opened =
            || Ok::<_, anyhow::Error>(sh("nft", "list table ip filter")?.contains("proto-dst"));
        foreign("FORWARD")?;
        let mut routing = host.open().await?;
        routing.apply(&with).await?;
        let [answer, ..] = answered(&far)?;
        assert_eq!(answer, seen()[0]);
        routing.remove().await?;
        assert!(!opened()?);

        let mut routing = host.open().await?;
        routing.apply(&with).await?;
        foreign("DOCKER-USER")?;
        let error = routing.remove().await.err().context("what is left")?;
        assert!(error.to_string().contains("iptables-nft -S"), "{error}");
        assert!(opened()?);

        sh("nft", "flush chain ip filter DOCKER-USER")?;
        foreign("DOCKER-USER")?;
        let mut routing = host.open().await?;
        routing.apply(&with).await?;
        assert_eq!(way(MARKED)?, "vpn0");
        assert!(!opened()?);
        Ok(())
    })
}

#[test]
fn dockers_chain_is_watched() -> Result<()> {
    netns::run(async || {
        let (host, _far, _server) = between()?;
        firewall("-nft", false)?;
        let with = plan(&with_ports(&host)?);
        let mut routing = host.open().await?;
        routing.apply(&with).await?;
        let mut watch = watch()?;
        let mut told = async || -> Result<()> {
            let told = async { while watch.next().await != Some(Event::Nft) {} };
            Ok(tokio::time::timeout(Duration::from_secs(5), told).await?)
        };
        sh("iptables-nft", "-w -F DOCKER-USER")?;
        told().await?;
        assert_eq!(routing.apply(&with).await?.len(), 4);
        sh("nft", "delete table ip filter")?;
        assert_eq!(routing.apply(&with).await?, []);
        sh("iptables-nft", "-w -N DOCKER-USER")?;
        told().await?;
        assert_eq!(routing.apply(&with).await?.len(), 4);
        Ok(())
    })
}

#[test]
fn segments_of_answers_fit_through_the_vpn() -> Result<()> {
    netns::run(async || {
        let (host, far, _server) = between()?;
        netns::ip("link set vpn0 mtu 1300")?;
        let mut routing = host.open().await?;
        routing.apply(&plan(&with_ports(&host)?)).await?;
        // What the container's answer to the first segment said, less what the segments' times take.
        for (server, headers) in [(at(VPN[0], TCP), 40), (at(VPN[1], TCP), 60)] {
            let size = far.run(move || {
                let stream = TcpStream::connect(server)?;
                Ok(getsockopt(&stream, sockopt::TcpMaxSeg)?)
            })?;
            assert_eq!(size, 1300 - headers - 12);
        }
        Ok(())
    })
}

#[test]
fn without_docker_nothing_is_asked_of_iptables() -> Result<()> {
    netns::run(async || {
        let (host, far, _server) = between()?;
        let mut routing = host.open().await?;
        routing.apply(&plan(&with_ports(&host)?)).await?;
        let rules = sh("nft", "list ruleset")?;
        assert!(
            !rules.contains("DOCKER") && !rules.contains("FORWARD"),
            "{rules}"
        );
        let legacy = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names")
            .context("the older tables")?;
        assert_eq!(legacy, "", "asking has made tables");
        assert_eq!(answered(&far)?, seen());
        Ok(())
    })
}
