//! Questions of DNS of containers, on their way to the servers that are to answer them.

use std::{fs, net::UdpSocket};

use anyhow::Result;
use steer::route::{DnsRule, VpnId, plan};

use crate::{
    containers::{
        BRIDGE, GATEWAYS, NETWORKS, addresses, ask_by, ask_tcp, ask_udp, at, bridged, container,
        serve, wanted,
    },
    netns::{self, Namespace, assert_same, sh, snapshot},
};

const SERVERS: [&str; 2] = ["10.8.0.53", "fd00:8::53"];
const OTHERS: [&str; 2] = ["198.51.100.7", "2001:db8::7"];
/// What the servers see of a container.
const VPN: [&str; 2] = ["10.8.0.2", "fd00:8::2"];

fn far_addresses() -> Vec<&'static str> {
    SERVERS.into_iter().chain(OTHERS).collect()
}

fn serve_all(far: &Namespace) -> Result<()> {
    far.run(|| {
        for server in SERVERS {
            serve("enforced", &at(server, 53))?;
        }
        for other in OTHERS {
            for port in [53, 853, 80] {
                serve("other", &at(other, port))?;
            }
        }
        Ok(())
    })
}

fn rule(source: Option<&str>, servers: &[&str]) -> Result<DnsRule> {
    let within = NETWORKS.iter().map(|net| net.parse());
    let servers = servers.iter().map(|server| server.parse());
    Ok(DnsRule {
        bridge: BRIDGE.into(),
        source: source.map(str::parse).transpose()?,
        within: within.collect::<Result<_, _>>()?,
        servers: servers.collect::<Result<_, _>>()?,
        vpn: VpnId(0),
    })
}

fn udp(who: &Namespace, server: &str, port: u16) -> Result<String> {
    let server = at(server, port);
    who.run(move || ask_udp(&server))
}

fn tcp(who: &Namespace, server: &str, port: u16) -> Result<String> {
    let server = at(server, port);
    who.run(move || ask_tcp(&server))
}

/// As Docker has it, where the kernel has it.
fn bridged_packets_meet_rules() {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if let Err(error) = fs::write(&path, "1") {
            println!("{path} cannot be set ({error}): bridged packets meet no rules here");
        }
    }
}

#[test]
fn questions_go_to_the_servers_whomever_they_ask() -> Result<()> {
    netns::run(async || {
        let (host, far) = bridged(&far_addresses())?;
        serve_all(&far)?;
        bridged_packets_meet_rules();
        let [first, second] = [container(2)?, container(3)?];
        second.run(|| {
            for address in addresses(3) {
                serve("neighbour", &at(&address, 53))?;
                serve("neighbour", &at(&address, 853))?;
            }
            Ok(())
        })?;
        let before = snapshot(host.run_dir())?;
        let mut routing = host.open().await?;
        let mut wanted = wanted(&host);
        wanted.dns = vec![rule(None, &SERVERS)?];
        routing.apply(&plan(&wanted)).await?;
        assert_eq!(routing.apply(&plan(&wanted)).await?, [], "all is there");

        for family in 0..2 {
            let enforced = format!("enforced to {}", VPN[family]);
            for server in [OTHERS[family], GATEWAYS[family], SERVERS[family]] {
                assert_eq!(udp(&first, server, 53)?, enforced, "UDP to {server}");
                assert_eq!(tcp(&first, server, 53)?, enforced, "TCP to {server}");
                assert_eq!(udp(&first, server, 853)?, "refused", "UDP to {server}");
                assert_eq!(tcp(&first, server, 853)?, "refused", "TCP to {server}");
            }
            let neighbour = &addresses(3)[family];
            let own = format!("neighbour to {}", addresses(2)[family]);
            for port in [53, 853] {
                assert_eq!(udp(&first, neighbour, port)?, own);
                assert_eq!(tcp(&first, neighbour, port)?, own);
            }
            let elsewhere = format!("other to {}", VPN[family]);
            assert_eq!(udp(&first, OTHERS[family], 80)?, elsewhere);
        }

        // A family without a server.
        wanted.dns = vec![rule(None, &SERVERS[..1])?];
        assert_eq!(routing.apply(&plan(&wanted)).await?.len(), 1);
        assert_eq!(udp(&first, OTHERS[0], 53)?, "enforced to 10.8.0.2");
        for server in [OTHERS[1], GATEWAYS[1], SERVERS[1]] {
            assert_eq!(udp(&first, server, 53)?, "refused");
            assert_eq!(tcp(&first, server, 53)?, "refused");
        }
        drop(routing);
        assert_same(&before, &snapshot(host.run_dir())?);
        Ok(())
    })
}

#[test]
fn a_server_may_be_a_container_of_the_network() -> Result<()> {
    netns::run(async || {
        let (host, far) = bridged(&far_addresses())?;
        serve_all(&far)?;
        let [first, server] = [container(2)?, container(3)?];
        let addresses = addresses(3);
        let at_port = addresses.clone().map(|address| at(&address, 53));
        server.run(move || at_port.iter().try_for_each(|it| serve("server", it)))?;
        let mut wanted = wanted(&host);
        let nets = NETWORKS.iter().map(|net| net.parse());
        wanted.networks = nets.collect::<Result<_, _>>()?;
        let servers: Vec<_> = addresses.iter().map(String::as_str).collect();
        wanted.dns = vec![rule(None, &servers)?];
        let mut routing = host.open().await?;
        routing.apply(&plan(&wanted)).await?;
        assert_eq!(routing.apply(&plan(&wanted)).await?, [], "all is there");
        for bridged_packets_meet in ["0", "1"] {
            for family in ["ip", "ip6"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
                // Where there is none, they do not.
                let _ = fs::write(path, bridged_packets_meet);
            }
            for family in 0..2 {
                let answer = format!("server to {}", GATEWAYS[family]);
                for asked in [OTHERS[family], GATEWAYS[family]] {
                    assert_eq!(udp(&first, asked, 53)?, answer);
                    assert_eq!(tcp(&first, asked, 53)?, answer);
                }
                let asks = format!("other to {}", VPN[family]);
                assert_eq!(udp(&server, OTHERS[family], 53)?, asks, "whom it likes");
            }
        }
        Ok(())
    })
}

#[test]
fn only_questions_of_the_sources_are_concerned() -> Result<()> {
    netns::run(async || {
        let (host, far) = bridged(&far_addresses())?;
        serve_all(&far)?;
        let [first, second] = [container(2)?, container(3)?];
        let mut routing = host.open().await?;
        let mut wanted = wanted(&host);
        routing.apply(&plan(&wanted)).await?;
        // A connection that is older than the rules.
        let old = first.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(at(OTHERS[0], 53))?;
            assert_eq!(ask_by(&socket)?, "other to 10.8.0.2");
            Ok(socket)
        })?;

        for address in addresses(2) {
            wanted.dns.push(rule(Some(&address), &SERVERS)?);
        }
        // Many more that are not there, in as many rules as one.
        for number in 4..204 {
            let [v4, v6] = addresses(number);
            wanted.dns.push(rule(Some(&v4), &SERVERS)?);
            wanted.dns.push(rule(Some(&v6), &SERVERS)?);
        }
        routing.apply(&plan(&wanted)).await?;
        assert_eq!(routing.apply(&plan(&wanted)).await?, []);
        let rules = sh("nft", "list chain inet steer translate")?;
        assert_eq!(rules.matches("goto").count(), 2, "{rules}");
        assert_eq!(first.run(move || ask_by(&old))?, "refused");
        for family in 0..2 {
            let seen = VPN[family];
            let server = OTHERS[family];
            assert_eq!(udp(&first, server, 53)?, format!("enforced to {seen}"));
            assert_eq!(udp(&second, server, 53)?, format!("other to {seen}"));
            assert_eq!(tcp(&second, server, 853)?, format!("other to {seen}"));
        }
        Ok(())
    })
}

#[test]
fn the_lists_are_adopted_and_restored() -> Result<()> {
    netns::run(async || {
        let (host, _far) = bridged(&[])?;
        let mut wanted = wanted(&host);
        wanted.dns = vec![
            rule(Some("172.18.0.9"), &[])?,
            rule(None, &["10.8.0.53", "10.8.0.54", "fd00:8::53"])?,
        ];
        let wanted = plan(&wanted);
        let mut routing = host.open().await?;
        routing.apply(&wanted).await?;
        let applied = snapshot(host.run_dir())?;
        std::mem::forget(routing);

        let mut routing = host.open().await?;
        assert_eq!(routing.apply(&wanted).await?, [], "all is there");
        sh("nft", "flush ruleset")?;
        assert_eq!(routing.apply(&wanted).await?.len(), 1);
        for taken in [
            "flush chain inet steer record",
            "flush chain inet steer asks-1",
        ] {
            sh("nft", taken)?;
            assert_eq!(routing.apply(&wanted).await?.len(), 1, "{taken}");
        }
        let lines = |text: &str| text.lines().filter(|line| line.contains("steer")).count();
        assert_eq!(lines(&applied), lines(&snapshot(host.run_dir())?));
        // A step that fails later takes the lists back.
        let before = snapshot(host.run_dir())?;
        let mut refused = host.plan();
        refused.rules.clone_from(&wanted.rules);
        refused.rules.extend(host.plan().rules.last().map(|rule| {
            let mut rule = *rule;
            rule.table = steer::route::TableId(0);
            rule.priority = steer::route::Priority(7369);
            rule
        }));
        assert!(routing.apply(&refused).await.is_err());
        assert_same(&before, &snapshot(host.run_dir())?);
        Ok(())
    })
}
