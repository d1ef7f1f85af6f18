//! Packets on their way: a client behind the host, the host, and the VPN's far end.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    host::{Host, blocking, vpn},
    netns::{self, Namespace, add_link, ip, set_rp_filter, sh},
};

const SERVERS: [&str; 2] = ["198.51.100.7:7", "[2001:db8::7]:7"];

/// Whom a server at the VPN's far end takes for the sender; `None` when no answer comes.
fn sender(server: &str, mark: u32) -> Result<Option<String>> {
    let any = if server.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any)?;
    setsockopt(&socket, sockopt::Mark, &mark)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.connect(server)?;
    let mut answer = [0; 64];
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        match socket.send(b"who?").and_then(|_| socket.recv(&mut answer)) {
            Ok(length) => return Ok(Some(String::from_utf8(answer[..length].to_vec())?)),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context(server.to_owned()),
        }
    }
    Ok(None)
}

/// Tells everybody who asks the address that the question came from, for as long as the test lasts.
fn serve() -> Result<()> {
    for server in SERVERS {
        let socket = UdpSocket::bind(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        thread::spawn(move || {
            loop {
                match socket.recv_from(&mut [0; 64]) {
                    Ok((_, from)) => {
                        let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
    }
    Ok(())
}

/// A client behind `client0`, whose packets the host marks as steer's program on a bridge does.
fn client() -> Result<Namespace> {
    let client = Namespace::new()?;
    add_link("client0", &["10.1.0.1/24", "fd00:a::1/64"])?;
    client.take("client0-peer")?;
    client.run(|| {
        ip("link set client0-peer up")?;
        ip("address add 10.1.0.2/24 dev client0-peer")?;
        ip("address add fd00:a::2/64 dev client0-peer nodad")?;
        ip("route add default via 10.1.0.1")?;
        ip("-6 route add default via fd00:a::1")
    })?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    sh("nft", "add table inet test")?;
    sh(
        "nft",
        "add chain inet test in { type filter hook prerouting priority -300 ; }",
    )?;
    sh(
        "nft",
        "add rule inet test in iifname client0 meta mark set 0x1000",
    )?;
    Ok(client)
}

fn far_end() -> Result<Namespace> {
    let far = Namespace::new()?;
    far.take("vpn0-peer")?;
    far.run(|| {
        ip("link set vpn0-peer up")?;
        for address in [
            "10.8.0.1/24",
            "fd00:8::1/64",
            "fe80::1/64",
            "198.51.100.7/32",
            "2001:db8::7/128",
        ] {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            ip(&format!("address add {address} dev vpn0-peer {nodad}"))?;
        }
        serve()
    })?;
    Ok(far)
}

/// The host, the VPN's far end and a client.
fn between() -> Result<(Host, Namespace, Namespace)> {
    let host = Host::new()?;
    ip("address add fe80::2/64 dev vpn0 nodad")?;
    Ok((host, far_end()?, client()?))
}

#[test]
fn marked_packets_arrive_from_the_vpns_address_and_are_answered() -> Result<()> {
    netns::run(async || {
        let (host, _far, client) = between()?;
        let asked_by_client = |server: &'static str| client.run(move || sender(server, 0));

        let mut routing = host.applied().await?;
        for (server, address) in SERVERS.into_iter().zip(["10.8.0.2", "fd00:8::2"]) {
            assert_eq!(
                sender(server, 0x1000)?.as_deref(),
                Some(address),
                "a process of the host"
            );
            assert_eq!(
                asked_by_client(server)?.as_deref(),
                Some(address),
                "a client behind it"
            );
            assert_eq!(
                sender(server, 0)?,
                None,
                "the direct path leads to nobody here"
            );
        }

        set_rp_filter("vpn0", 1)?;
        assert_eq!(
            asked_by_client(SERVERS[0])?,
            None,
            "a strict filter drops the answers"
        );
        routing.apply(&host.plan()).await?;
        assert_eq!(asked_by_client(SERVERS[0])?.as_deref(), Some("10.8.0.2"));

        let other = vpn("vpn1", &[Ipv4Addr::new(10, 9, 0, 2)], &[])?;
        routing.apply(&blocking(Some(other))).await?;
        let refused = sender(SERVERS[1], 0x1000);
        ensure!(
            refused.is_err(),
            "a family that the VPN lacks is refused at once: {refused:?}"
        );
        Ok(())
    })
}

#[test]
fn marks_outlast_those_who_set_others_as_a_whole() -> Result<()> {
    netns::run(async || {
        let (host, _far, client) = between()?;
        let _routing = host.applied().await?;
        sh("nft", "add table inet others")?;
        for (chain, hook) in [
            ("in", "filter hook prerouting"),
            ("out", "route hook output"),
        ] {
            sh(
                "nft",
                &format!("add chain inet others {chain} {{ type {hook} priority mangle ; }}"),
            )?;
        }
        // As `CONNMARK --restore-mark` and `MARK --set-mark` do.
        for rule in ["meta mark set ct mark", "meta mark set 0x7"] {
            for chain in ["in", "out"] {
                sh("nft", &format!("flush chain inet others {chain}"))?;
                sh("nft", &format!("add rule inet others {chain} {rule}"))?;
            }
            for (server, address) in SERVERS.into_iter().zip(["10.8.0.2", "fd00:8::2"]) {
                assert_eq!(
                    sender(server, 0x1000)?.as_deref(),
                    Some(address),
                    "a process, {rule}"
                );
                assert_eq!(
                    client.run(move || sender(server, 0))?.as_deref(),
                    Some(address),
                    "a client, {rule}"
                );
                assert_eq!(sender(server, 0)?, None, "unmarked, {rule}");
            }
        }
        Ok(())
    })
}
