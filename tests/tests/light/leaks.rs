//! Nothing for the VPN leaves by another way, and nothing direct fails, whatever becomes of the VPN and of steer.
//!
//! `STEER_SECONDS` says for how long, and `STEER_SEED` repeats the choices of a run that printed it.

use std::{
    collections::BTreeSet,
    env,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use steer_tests::{
    client::Ask,
    fixture::{Shared, lookup, open, resolve, server},
    lab::{Client, HostSnapshot, Steer, plan::Path},
    pace::{choice, patience},
};

/// Numbers of names that the clients ask for.
const NUMBERS: u16 = 20_000;

/// What a client did.
#[derive(Debug, Default)]
struct Done {
    by_vpn: usize,
    blocked: usize,
    direct: usize,
}

/// Asks for names of both paths, of which nobody knew, and connects to them, until it is told to stop. What is for the VPN may
/// fail, and what is not may not.
fn work(client: &mut Client, numbers: &AtomicU16, stop: &AtomicBool) -> Result<Done> {
    let mut done = Done::default();
    while !stop.load(Ordering::Relaxed) {
        for v6 in [false, true] {
            let number = numbers.fetch_add(2, Ordering::Relaxed);
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

/// Lets the VPN flap and kills steer, as the dice fall, until it is time; how often each.
fn disturb(
    lab: &mut Shared,
    steer: &mut Option<Steer>,
    rng: &mut Rng,
    until: Instant,
) -> Result<[usize; 2]> {
    let [mut flaps, mut kills] = [0; 2];
    let a_while = |rng: &mut Rng| thread::sleep(Duration::from_millis(rng.u64(0..400)));
    let config = lab.config();
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
        if flap {
            lab.lab.tunnel_up()?;
        }
        a_while(rng);
    }
    Ok([flaps, kills])
}

#[test]
fn nothing_leaks_and_nothing_fails_while_the_vpn_flaps_and_steer_is_killed() -> Result<()> {
    let number = |name, default| env::var(name).map_or(Ok(default), |value| value.parse::<u64>());
    let seconds = number("STEER_SECONDS", choice(&[15], &[5])[0])?;
    let seed = number("STEER_SEED", fastrand::u64(..))?;
    println!("STEER_SEED={seed} STEER_SECONDS={seconds}");
    let mut rng = Rng::with_seed(seed);

    let mut lab = Shared::unsteered()?;
    // Without the VPN's interface, which is another each time.
    lab.lab.tunnel_down()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.lab.tunnel_up()?;
    let first = lab.numbers(NUMBERS)?;
    let mut clients = lab.clients()?;
    let mut steer = Some(lab.lab.steer(&lab.config(), &[])?);
    let (numbers, stop) = (AtomicU16::new(first), AtomicBool::new(false));
    let until = Instant::now() + patience(Duration::from_secs(seconds));
    let [flaps, kills] = thread::scope(|scope| {
        let busy: Vec<_> = clients
            .iter_mut()
            .map(|(who, client)| {
                let (numbers, stop) = (&numbers, &stop);
                (*who, scope.spawn(move || work(client, numbers, stop)))
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
    println!("{flaps} flaps, {kills} kills");
    let for_vpn: BTreeSet<_> = (first..numbers.into_inner())
        .step_by(2)
        .flat_map(|number| [false, true].map(|v6| server(number, v6)))
        .collect();
    let mut wrong = lab.contacts();
    println!("the servers saw {} connections and datagrams", wrong.len());
    wrong.retain(|one| for_vpn.contains(&one.server) != (one.path() == Path::Vpn));
    assert!(wrong.is_empty(), "these took a wrong path: {wrong:?}");
    if let Some(steer) = steer.take() {
        steer.terminate()?;
    }
    lab.lab.tunnel_down()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.lab.tunnel_up()?;
    lab.done()
}
