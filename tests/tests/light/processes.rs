//! Scopes of processes: what those in a cgroup send leaves by the VPN or not at all, by a capture at the provider and by the
//! servers' logs; those in another go direct meanwhile.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path, thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use steer_tests::{
    client::{Ask, Lookup, Told},
    fixture::{Fixture, datagram, exchange, fresh, lookup, open, resolve, server},
    lab::{
        Capture, Client, HostSnapshot, Lab, Ns, Resolver,
        plan::{Path, RESOLVER_V4, RESOLVER_V6},
    },
    pace::patience,
};

/// Only the one who goes direct turns to servers with such numbers.
const DIRECT: u16 = 60_000;
/// By a rule it goes direct.
const EXCEPTION: u16 = 50_000;
/// That of a listener in the scope.
const LISTENER: u16 = 7_777;

/// All that comes from the box by the provider's wire, apart from the tunnel's own and what those send who go direct.
fn begin_capture(lab: &Lab) -> Result<Capture> {
    let direct = [DIRECT, EXCEPTION].map(|number| {
        let [v4, v6] = [false, true].map(|v6| fresh(number, v6));
        format!("and not host {v4} and not host {v6}")
    });
    lab.capture(&format!(
        "not arp and not igmp and not (icmp6 and not ip6[40] == 128) and not port 1194 and not port 51820 and not dst host 10.8.0.1 \
         and not port {LISTENER} {}",
        direct.concat()
    ))
}

fn is_empty(capture: &Capture) -> Result<()> {
    let seen = capture.seen()?;
    ensure!(seen.is_empty(), "beside the tunnel left:\n{seen}");
    Ok(())
}

fn config(lab: &Fixture, cgroup: &str, keys: &str) -> String {
    let cgroup = lab.lab.cgroup().join(cgroup);
    let (v4, v6) = (fresh(EXCEPTION, false), fresh(EXCEPTION, true));
    let direct = format!("direct = [\"{v4}\", \"{v6}\", ");
    format!(
        "{}\n[[scope]]\ncgroup = \"{}\"\n{keys}\n",
        lab.config().replacen("direct = [", &direct, 1),
        cgroup.display()
    )
}

fn isolated(lab: &Fixture, cgroup: &str) -> String {
    let (v4, v6) = (Resolver::V4.ip(), Resolver::V6.ip());
    config(lab, cgroup, &format!("dns = [\"{v4}\", \"{v6}\"]"))
}

/// A name server that is not the scope's, and one that is none.
fn others(v6: bool) -> [SocketAddr; 2] {
    let at = |address: IpAddr| SocketAddr::new(address, 53);
    match v6 {
        false => [
            at(RESOLVER_V4.into()),
            at(Ipv4Addr::new(127, 0, 0, 53).into()),
        ],
        true => [at(RESOLVER_V6.into()), at(Ipv6Addr::LOCALHOST.into())],
    }
}

/// Connections and datagrams of a process take a path.
fn takes(client: &mut Client, number: u16, right: Path) -> Result<()> {
    for v6 in [false, true] {
        let server = server(number, v6);
        let (connection, path) = open(client, server)?;
        ensure!(path == right, "TCP {server}: {path:?}");
        exchange(client, connection, 10_000)?;
        for connected in [true, false] {
            let path = datagram(client, server, connected)?;
            ensure!(path == right, "UDP {server}, {connected}: {path:?}");
        }
    }
    client.ask(&Ask::Close).map(drop)
}

/// All of a process's goes by the VPN.
fn goes_by_the_vpn(client: &mut Client, number: u16) -> Result<()> {
    takes(client, number, Path::Vpn)?;
    for v6 in [false, true] {
        let address = fresh(number, v6);
        let pinged = client.ask(&Ask::Ping(address));
        pinged.with_context(|| format!("ping {address}"))?;
    }
    let mapped = Ipv4Addr::new(10, 200, (number >> 8) as u8, number as u8).to_ipv6_mapped();
    let mapped = SocketAddr::new(mapped.into(), server(number, false).port());
    ensure!(open(client, mapped)?.1 == Path::Vpn, "TCP {mapped}");
    for connected in [true, false] {
        ensure!(
            datagram(client, mapped, connected)? == Path::Vpn,
            "UDP {mapped}"
        );
    }
    client.ask(&Ask::Close).map(drop)
}

/// Whomever it asks, the scope's resolver answers, in his name.
fn asks_the_scopes_resolver(lab: &Fixture, client: &mut Client, number: u16) -> Result<()> {
    let before = lab.resolver.asked().len();
    for v6 in [false, true] {
        for resolver in others(v6) {
            for tcp in [false, true] {
                let question = Lookup {
                    resolver,
                    tcp,
                    ..lookup(number, "plain", v6)
                };
                let found = resolve(client, question.clone());
                let found = found.with_context(|| format!("{resolver}, TCP {tcp}"))?;
                ensure!(found == [fresh(number, v6)], "{resolver}: {found:?}");
                if !tcp {
                    let Told::Seen(from) = client.ask(&Ask::WhoAnswers(question))? else {
                        anyhow::bail!("something else was told");
                    };
                    ensure!(from == resolver, "{resolver}: {from}");
                }
            }
            let encrypted = SocketAddr::new(resolver.ip(), 853);
            let refused = client.ask(&Ask::Open(encrypted));
            ensure!(refused.is_err(), "{encrypted}: {refused:?}");
        }
    }
    let asked = lab.resolver.asked().split_off(before);
    ensure!(asked.len() == 8, "{asked:?}");
    for (from, question) in asked {
        ensure!(
            Path::of(from.ip()) == Path::Vpn,
            "{from} asked {question:?}"
        );
    }
    Ok(())
}

fn nothing_works(client: &mut Client, number: u16) -> Result<()> {
    for v6 in [false, true] {
        let server = server(number, v6);
        ensure!(open(client, server).is_err(), "TCP {server}");
        for connected in [true, false] {
            // Some are told that it cannot be sent and some are told nothing.
            let _ = client.ask(&Ask::Send { server, connected });
        }
        let _ = client.ask(&Ask::Send {
            server: others(v6)[0],
            connected: false,
        });
    }
    Ok(())
}

fn goes_direct(client: &mut Client, number: u16) -> Result<()> {
    takes(client, number, Path::Direct)
}

/// Somebody at the provider comes to the scope's listener, and is answered.
fn is_answered(lab: &Fixture) -> Result<()> {
    let places: [IpAddr; 2] = [
        Ipv4Addr::new(10, 10, 0, 2).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 2).into(),
    ];
    lab.lab.within(Ns::Isp, || {
        for place in places {
            let limit = Some(patience(Duration::from_secs(5)));
            let mut stream = TcpStream::connect((place, LISTENER))?;
            stream.set_read_timeout(limit)?;
            let socket = UdpSocket::bind(match place {
                IpAddr::V4(_) => "0.0.0.0:0",
                IpAddr::V6(_) => "[::]:0",
            })?;
            socket.set_read_timeout(limit)?;
            socket.connect((place, LISTENER))?;
            for _ in 0..3 {
                let mut echo = [0; 5];
                stream.write_all(b"hello")?;
                stream.read_exact(&mut echo).context("TCP")?;
                socket.send(b"hello")?;
                let length = socket.recv(&mut echo).context("UDP")?;
                ensure!(&echo[..length] == b"hello", "{echo:?}");
            }
        }
        Ok(())
    })?
}

/// Who asks is told of the scope.
fn is_told(lab: &Fixture, cgroup: &path::Path) -> Result<()> {
    let status = lab.lab.ask_steer(&["status"])?.stdout()?;
    let scope = format!(
        "cgroup {}: all but the rules' takes the VPN",
        cgroup.display()
    );
    ensure!(status.contains(&scope), "{status}");
    ensure!(status.contains("1 process\n"), "{status}");
    let listed = fs::read_to_string(cgroup.join("cgroup.procs"))?;
    let pid = listed.lines().next().context("nobody is in the cgroup")?;
    for (number, wanted) in [
        (2, "sends that through the VPN"),
        (EXCEPTION, "a rule goes before"),
    ] {
        let address = fresh(number, false).to_string();
        let words = ["explain", "--from", "process", pid, &address];
        let told = lab.lab.ask_steer(&words)?.stdout()?;
        ensure!(told.contains(wanted), "{told}");
    }
    for of_link in ["224.0.0.251", "fe80::1"] {
        let words = ["explain", "--from", "process", pid, of_link];
        let told = lab.lab.ask_steer(&words)?.stdout()?;
        ensure!(told.contains("for its own link alone"), "{told}");
    }
    Ok(())
}

#[test]
fn what_those_in_a_cgroup_send_leaves_by_the_vpn_or_not_at_all() -> Result<()> {
    let mut lab = Fixture::up()?;
    let cgroup = lab.lab.box_cgroup("scoped")?;
    let below = lab.lab.box_cgroup("scoped/below")?;
    // A tunnel that is made anew is another.
    lab.lab.tunnel_down()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.lab.tunnel_up()?;
    let mut other = lab.lab.client_in(&lab.lab.box_cgroup("other")?)?;
    let mut client = lab.lab.client_in(&cgroup)?;
    let config = isolated(&lab, "scoped");
    // Older than its scope.
    let old = server(1, false);
    let (connection, path) = open(&mut client, old)?;
    ensure!(path == Path::Direct, "before there is a scope: {path:?}");
    for v6 in [false, true] {
        for connected in [true, false] {
            client.ask(&Ask::Chat {
                server: server(1, v6),
                connected,
            })?;
        }
    }
    let steer = lab.lab.steer(&config, &[])?;
    steer.wait_said("older than their scope")?;
    let capture = begin_capture(&lab.lab)?;
    ensure!(
        exchange(&mut client, connection, 10_000).is_err(),
        "it went on"
    );
    is_empty(&capture)?;

    goes_by_the_vpn(&mut client, 2)?;
    goes_by_the_vpn(&mut lab.lab.client_in(&below)?, 3)?;
    goes_direct(&mut other, DIRECT)?;
    goes_direct(&mut client, EXCEPTION)?;
    asks_the_scopes_resolver(&lab, &mut client, 4)?;
    client.ask(&Ask::Listen(LISTENER))?;
    is_answered(&lab)?;
    is_empty(&capture)?;
    is_told(&lab, &cgroup)?;

    lab.lab.tunnel_down()?;
    nothing_works(&mut client, 2)?;
    goes_direct(&mut other, DIRECT)?;
    is_empty(&capture)?;
    lab.lab.tunnel_up()?;
    steer.wait_said(&format!("{} is up", lab.lab.tunnel_interface()))?;
    goes_by_the_vpn(&mut client, 2)?;

    steer.kill()?;
    goes_by_the_vpn(&mut client, 2)?;
    asks_the_scopes_resolver(&lab, &mut client, 5)?;
    let steer = lab.lab.steer(&config, &[])?;
    goes_by_the_vpn(&mut client, 2)?;
    is_answered(&lab)?;
    // `on_stop` is to keep.
    steer.terminate()?;
    goes_by_the_vpn(&mut client, 2)?;
    asks_the_scopes_resolver(&lab, &mut client, 6)?;
    goes_direct(&mut other, DIRECT)?;
    is_empty(&capture)?;
    lab.lab.steer_cleanup()?.stdout()?;
    goes_direct(&mut client, 2)?;
    ensure!(is_empty(&capture).is_err(), "the capture sees nothing");
    drop(capture);
    drop(client);
    drop(other);
    lab.lab.tunnel_down()?;
    let left = before.diff(&HostSnapshot::take(&lab.lab)?);
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

#[test]
fn a_cgroup_is_awaited_and_comes_back() -> Result<()> {
    let lab = Fixture::up()?;
    let config = isolated(&lab, "later") + "on_stop = \"release\"\n";
    let steer = lab.lab.steer(&config, &[])?;
    steer.wait_said("it is awaited")?;
    for number in [2, 3] {
        let cgroup = lab.lab.box_cgroup("later")?;
        // Nobody is told when it is attached to.
        thread::sleep(patience(Duration::from_millis(500)));
        let mut client = lab.lab.client_in(&cgroup)?;
        goes_by_the_vpn(&mut client, number)?;
        asks_the_scopes_resolver(&lab, &mut client, number)?;
        drop(client);
        fs::remove_dir(&cgroup)?;
        thread::sleep(patience(Duration::from_millis(100)));
    }
    steer.terminate().map(drop)
}

#[test]
fn what_no_rule_speaks_of_is_blocked() -> Result<()> {
    let lab = Fixture::up()?;
    let cgroup = lab.lab.box_cgroup("scoped")?;
    let keys = "default = \"block\"\non_stop = \"release\"";
    let steer = lab.lab.steer(&config(&lab, "scoped", keys), &[])?;
    let capture = begin_capture(&lab.lab)?;
    let mut client = lab.lab.client_in(&cgroup)?;
    nothing_works(&mut client, 2)?;
    ensure!(client.ask(&Ask::Ping(fresh(2, false))).is_err(), "a ping");
    goes_direct(&mut client, EXCEPTION)?;
    let asked = client.ask(&Ask::WhoAnswers(Lookup {
        resolver: others(false)[1],
        ..lookup(2, "plain", false)
    }));
    ensure!(asked.is_err(), "{asked:?}");
    is_empty(&capture)?;
    steer.terminate()?;
    goes_direct(&mut client, 2)
}
