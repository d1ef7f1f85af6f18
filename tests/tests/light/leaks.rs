//! Nothing for the VPN leaves by another way, and nothing direct fails, whatever becomes of the VPN, of steer and of bridges.
//!
//! `STEER_SECONDS` says for how long, and `STEER_SEED` repeats the choices of a run that printed it (`cargo xtask soak`).

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use steer_tests::{
    client::Ask,
    fixture::{BRIDGE, Shared, lookup, open, resolve, server},
    lab::{
        Client, HostSnapshot, Ns, Steer,
        plan::{Path, Range},
    },
    pace::{asked, choice, patience},
};

/// Numbers of names that the clients ask for: the even ones are the VPN's.
const NUMBERS: u16 = 20_000;

/// Packets to the servers, counted at the provider or at the VPN's far end.
#[derive(Debug)]
struct Wire {
    /// Of the names that are for the VPN.
    vpn: u64,
    /// Of the others.
    direct: u64,
}

impl Wire {
    const TABLE: &str = "leaks";

    /// Counts what comes in by an interface of a namespace for the numbers from `first` on: what other tests began may
    /// still send.
    fn watch(lab: &Shared, ns: Ns, interface: &str, first: u16) -> Result<()> {
        let (fresh, last) = (Range::Fresh, first + NUMBERS - 1);
        let v4 = format!("{}-{}", fresh.host_v4(first), fresh.host_v4(last));
        let v6 = format!("{}-{}", fresh.host_v6(first), fresh.host_v6(last));
        let mut rules = String::new();
        // In the order in which they are read.
        for bit in [0, 1] {
            rules += &format!(
                "iifname {interface} ip daddr {v4} ip daddr & 0.0.0.1 == 0.0.0.{bit} counter\n\
                 iifname {interface} ip6 daddr {v6} ip6 daddr & ::1 == ::{bit} counter\n"
            );
        }
        let table = Self::TABLE;
        let hook = "type filter hook prerouting priority -400;";
        let text = format!("table inet {table} {{\nchain in {{ {hook}\n{rules} }}\n}}\n");
        let line = format!("echo '{text}' | nft -f -");
        lab.lab.run(ns, &["sh", "-ec", &line])?.stdout().map(drop)
    }

    /// What was counted, and counts no more.
    fn take(lab: &Shared, ns: Ns) -> Result<Self> {
        let list = ["nft", "-j", "list", "table", "inet", Self::TABLE];
        let listed: serde_json::Value = serde_json::from_str(&lab.lab.run(ns, &list)?.stdout()?)?;
        let rules = listed["nftables"].as_array().into_iter().flatten();
        let packets: Vec<_> = rules
            .flat_map(|object| object["rule"]["expr"].as_array().into_iter().flatten())
            .filter_map(|statement| statement["counter"]["packets"].as_u64())
            .collect();
        let delete = ["nft", "delete", "table", "inet", Self::TABLE];
        lab.lab.run(ns, &delete)?.stdout()?;
        ensure!(packets.len() == 4, "nft lists {listed}");
        Ok(Self {
            vpn: packets[0] + packets[1],
            direct: packets[2] + packets[3],
        })
    }
}

fn is_for_vpn(server: IpAddr) -> bool {
    let last = match server {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    last % 2 == 0
}

/// What a client did.
#[derive(Debug, Default)]
struct Done {
    by_vpn: usize,
    blocked: usize,
    direct: usize,
}

/// Asks for names of both paths, of which nobody knew, and connects to them, until it is told to stop. What is for the VPN may
/// fail, and what is not may not.
fn work(client: &mut Client, first: u16, numbers: &AtomicU16, stop: &AtomicBool) -> Result<Done> {
    let mut done = Done::default();
    while !stop.load(Ordering::Relaxed) {
        for v6 in [false, true] {
            let number = first + 2 * (numbers.fetch_add(1, Ordering::Relaxed) % (NUMBERS / 2));
            for (number, zone) in [(number, "fresh"), (number + 1, "plain")] {
                let name = lookup(number, zone, v6);
                resolve(client, name).with_context(|| format!("n{number}.{zone}, v6 {v6}"))?;
            }
            // The datagrams are not waited for: the servers tell where they came from.
            for number in [number, number + 1] {
                let _ = client.ask(&Ask::Send {
                    server: server(number, v6),
                    connected: number % 4 < 2,
                });
            }
            match open(client, server(number, v6)) {
                Ok((_, path)) => {
                    ensure!(path == Path::Vpn, "n{number}.fresh, v6 {v6}: {path:?}");
                    done.by_vpn += 1;
                }
                Err(_) => done.blocked += 1,
            }
            let number = number + 1;
            let (_, path) = open(client, server(number, v6))
                .with_context(|| format!("direct, n{number}.plain, v6 {v6}"))?;
            ensure!(path == Path::Direct, "n{number}.plain, v6 {v6}: {path:?}");
            done.direct += 1;
        }
    }
    Ok(done)
}

/// Lets the VPN flap, kills steer, and has a bridge come and go, as the dice fall, until it is time; how often each.
fn disturb(
    lab: &mut Shared,
    steer: &mut Option<Steer>,
    rng: &mut Rng,
    until: Instant,
) -> Result<[usize; 3]> {
    let [mut flaps, mut kills, mut bridges] = [0; 3];
    let a_while = |rng: &mut Rng| thread::sleep(Duration::from_millis(rng.u64(0..400)));
    let config = config(lab);
    while Instant::now() < until {
        let (flap, kill) = *rng
            .choice(&[(true, false), (false, true), (true, true)])
            .context("a choice")?;
        if flap {
            lab.lab.tunnel_down()?;
            a_while(rng);
            flaps += 1;
        }
        if kill {
            if let Some(steer) = steer.take() {
                steer.kill()?;
            }
            a_while(rng);
            *steer = Some(lab.lab.steer(&config, &[])?);
            kills += 1;
        }
        if rng.bool() {
            lab.in_box("ip link add br-passing type bridge; ip link set br-passing up")?;
            a_while(rng);
            lab.in_box("ip link del br-passing")?;
            bridges += 1;
        }
        if flap {
            lab.lab.tunnel_up()?;
        }
        a_while(rng);
    }
    Ok([flaps, kills, bridges])
}

/// With every bridge that there is or will be.
fn config(lab: &Shared) -> String {
    let config = lab.config();
    config.replace(&format!("bridges = [\"{BRIDGE}\"]"), "bridges = [\"br-*\"]")
}

#[test]
fn nothing_leaks_and_nothing_fails_while_the_vpn_flaps_and_steer_is_killed() -> Result<()> {
    let seconds = asked("STEER_SECONDS", choice(&[15], &[5])[0])?;
    let seed = asked("STEER_SEED", fastrand::u64(..))?;
    println!("STEER_SEED={seed} STEER_SECONDS={seconds}");
    let mut rng = Rng::with_seed(seed);

    let mut lab = Shared::unsteered()?;
    // Without the VPN's interface, which is another each time.
    lab.lab.tunnel_down()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.lab.tunnel_up()?;
    let first = lab.numbers(NUMBERS + 1)?.next_multiple_of(2);
    let tunnel = lab.lab.tunnel_interface();
    Wire::watch(&lab, Ns::Isp, "box", first)?;
    Wire::watch(&lab, Ns::Vpn, tunnel, first)?;
    let mut clients = lab.clients()?;
    let mut steer = Some(lab.lab.steer(&config(&lab), &[])?);
    let (numbers, stop) = (AtomicU16::new(0), AtomicBool::new(false));
    let until = Instant::now() + patience(Duration::from_secs(seconds));
    let [flaps, kills, bridges] = thread::scope(|scope| {
        let busy: Vec<_> = clients
            .iter_mut()
            .map(|(who, client)| {
                let (numbers, stop) = (&numbers, &stop);
                (
                    *who,
                    scope.spawn(move || work(client, first, numbers, stop)),
                )
            })
            .collect();
        let disturbed = disturb(&mut lab, &mut steer, &mut rng, until);
        stop.store(true, Ordering::Relaxed);
        for (who, busy) in busy {
            let done = busy
                .join()
                .map_err(|_| anyhow::anyhow!("{who} panicked"))?
                .with_context(|| who.to_owned())?;
            println!("{who}: {done:?}");
            ensure!(done.by_vpn > 0 && done.direct > 0, "{who}: {done:?}");
        }
        disturbed
    })?;
    println!("{flaps} flaps, {kills} kills, {bridges} bridges");
    let mut wrong = lab.contacts();
    println!("the servers saw {} connections and datagrams", wrong.len());
    wrong.retain(|one| is_for_vpn(one.server.ip()) != (one.path() == Path::Vpn));
    assert!(wrong.is_empty(), "these took a wrong path: {wrong:?}");
    let (isp, far) = (Wire::take(&lab, Ns::Isp)?, Wire::take(&lab, Ns::Vpn)?);
    println!("packets at the provider: {isp:?}, at the VPN's far end: {far:?}");
    assert!(isp.direct > 0 && far.vpn > 0, "nothing was counted");
    assert_eq!((isp.vpn, far.direct), (0, 0), "packets on a wrong path");
    if let Some(steer) = steer.take() {
        steer.terminate()?;
    }
    lab.lab.tunnel_down()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.lab.tunnel_up()?;
    lab.done()
}
