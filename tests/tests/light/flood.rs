//! A flood of flows and of answers moves no flow that runs, and takes no more memory than there is room for.
//!
//! `STEER_FLOWS` says how many flows, with a fifth as many answers (`cargo xtask soak`).

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};
use steer_tests::{
    client::{Ask, Flood, Lookup},
    fixture::{Shared, exchange, lookup, open, resolve, server},
    lab::{
        Client, HostSnapshot,
        plan::{Path, Range},
    },
    pace::{asked, choice},
};

/// Long flows of each path and client.
const LONG: u16 = 25;
/// What the docs say that the kernel's tables take at most without long lists of rules.
const TABLES: u64 = 96 << 20;
/// What the daemon may grow by while it is told of more than it can tell.
const DAEMON: u64 = 24 << 20;

/// Octets of memory that a process has.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("the kernel does not tell")?;
    let kilobytes: u64 = words.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

/// Octets of memory that the pinned maps have.
fn tables(lab: &Shared) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(lab.lab.steer_bpffs())? {
        let path = entry?.path();
        if path.is_file() {
            let shown = lab.in_box(&format!("bpftool -j map show pinned {}", path.display()))?;
            let shown: serde_json::Value = serde_json::from_str(&shown)?;
            let octets = shown["bytes_memlock"].as_u64();
            sum += octets.with_context(|| format!("bpftool tells {shown}"))?;
        }
    }
    Ok(sum)
}

/// Begins flows of both paths; only the addresses of the first half are known.
fn long_flows(client: &mut Client, first: u16) -> Result<Vec<usize>> {
    let mut flows = Vec::new();
    for number in first..first + 2 * LONG {
        let right = if number < first + LONG {
            resolve(client, lookup(number, "fresh", false))?;
            Path::Vpn
        } else {
            Path::Direct
        };
        let (flow, path) = open(client, server(number, false))?;
        ensure!(path == right, "number {number}: {path:?}");
        flows.push(flow);
    }
    Ok(flows)
}

/// Sends datagrams to the addresses of the long flows, each a flow of its own, then learns all of them, and as many more as
/// there are, for the VPN.
fn flood(client: &mut Client, first: u16, flows: u32) -> Result<()> {
    let addresses = u32::from(2 * LONG);
    let datagrams = Flood {
        first: Range::Fresh.host_v4(first),
        addresses,
        flows,
    };
    client.ask(&Ask::Flood(datagrams))?;
    let names = Lookup {
        name: "flood.fresh.example".into(),
        ..lookup(0, "fresh", false)
    };
    client.ask(&Ask::ResolveMany(names, flows / 5)).map(drop)
}

#[test]
fn flows_keep_their_path_and_memory_its_bounds() -> Result<()> {
    let flows = asked("STEER_FLOWS", choice(&[20_000], &[1_000])[0])?;
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let steer = lab.steer()?;
    let mut clients = lab.clients()?;
    let mut flooders = lab.clients()?;
    let firsts = [lab.numbers(2 * LONG)?, lab.numbers(2 * LONG)?];
    let mut running = Vec::new();
    for ((who, client), first) in clients.iter_mut().zip(firsts) {
        running.push(long_flows(client, first).with_context(|| (*who).to_owned())?);
    }
    let (memory, maps) = (resident(steer.pid())?, tables(&lab)?);
    let stop = AtomicBool::new(false);
    let exchanged = thread::scope(|scope| -> Result<usize> {
        let floods: Vec<_> = flooders
            .iter_mut()
            .zip(firsts)
            .map(|((_, client), first)| scope.spawn(move || flood(client, first, flows / 2)))
            .collect();
        let stop = &stop;
        let exchanges: Vec<_> = clients
            .iter_mut()
            .zip(&running)
            .map(|((who, client), running)| {
                scope.spawn(move || -> Result<usize> {
                    let mut rounds = 0;
                    while rounds == 0 || !stop.load(Ordering::Relaxed) {
                        for flow in running {
                            // By another path its server would not know it.
                            exchange(client, *flow, 1000)
                                .with_context(|| format!("{who}, flow {flow}, round {rounds}"))?;
                        }
                        rounds += 1;
                    }
                    Ok(rounds * running.len())
                })
            })
            .collect();
        let flooded: Vec<_> = floods.into_iter().map(|it| it.join()).collect();
        stop.store(true, Ordering::Relaxed);
        let mut sum = 0;
        for exchange in exchanges {
            sum += exchange.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        }
        for flooded in flooded {
            flooded.map_err(|_| anyhow::anyhow!("a panic"))??;
        }
        Ok(sum)
    })?;
    let (grown, now) = (resident(steer.pid())?.saturating_sub(memory), tables(&lab)?);
    println!(
        "{flows} flows and {} answers; {exchanged} exchanges on {} flows; the daemon grew by {} KiB, tables {} KiB, before {} KiB; flows_full {}, names_full {}",
        flows / 5,
        4 * LONG,
        grown >> 10,
        now >> 10,
        maps >> 10,
        lab.counter("flows_full")?,
        lab.counter("names_full")?,
    );
    assert!(grown < DAEMON, "the daemon grew by {grown} octets");
    assert!(now < TABLES, "the tables have {now} octets");
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
