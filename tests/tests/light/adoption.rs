//! The next run after a killed one: it goes on with what was learned and begun, and lets go of what is no more wanted. By
//! links and by the filters of older kernels.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{ATTACHMENTS, BRIDGE, Shared, exchange, lookup, open, resolve, server},
    lab::{Client, HostSnapshot, plan::Path},
    pace::{choice, patience},
};

/// Begins connections to a steered address of either family, one after the other, until it is told to stop; says how many.
fn connect_all_along(client: &mut Client, number: u16, stop: &AtomicBool) -> Result<usize> {
    let mut connections = 0;
    while !stop.load(Ordering::Relaxed) {
        for v6 in [false, true] {
            let (connection, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "v6 {v6}, connection {connections}");
            exchange(client, connection, 100)?;
            connections += 1;
        }
        // Where there is one processor, the next run needs some of it.
        thread::sleep(patience(Duration::from_millis(20)));
    }
    Ok(connections)
}

#[test]
fn the_next_run_goes_on_with_what_was_learned_and_begun() -> Result<()> {
    /// Other room than the killed run's tables have, which go on.
    const TABLES: &str = "[tables]\naddresses = 100_000\nflows = 2_048\n";
    let mut lab = Shared::unsteered()?;
    let runs = ["", TABLES].map(|tables| ATTACHMENTS.map(|attachment| (attachment, tables)));
    let runs = runs.concat();
    for &(attachment, tables) in choice(&runs, &runs[ATTACHMENTS.len()..=ATTACHMENTS.len()]) {
        let before = HostSnapshot::take(&lab.lab)?;
        let steer = lab.steer_attached(&lab.config(), attachment)?;
        let (number, seen) = (lab.numbers(1)?, lab.contacts().len());
        let mut clients = lab.clients()?;
        let mut held = Vec::new();
        for (who, client) in &mut clients {
            for v6 in [false, true] {
                resolve(client, lookup(number, "fresh", v6))?;
                let (connection, path) = open(client, server(number, v6))?;
                assert_eq!(path, Path::Vpn, "{attachment}, {who}, v6 {v6}");
                held.push(connection);
            }
        }
        steer.kill()?;

        // Nobody asks for the name again: the address is steered because it was learned. Before the next start, while it
        // takes over, and after.
        let stop = AtomicBool::new(false);
        let mut others = lab.clients()?;
        let steer = thread::scope(|scope| {
            let busy: Vec<_> = others
                .iter_mut()
                .map(|(_, client)| scope.spawn(|| connect_all_along(client, number, &stop)))
                .collect();
            let config = lab.config() + tables;
            let steer = lab.steer_attached(&config, attachment);
            stop.store(true, Ordering::Relaxed);
            for busy in busy {
                let connections = busy.join().expect("a client's thread")?;
                assert!(connections > 2, "{attachment}: {connections} connections");
            }
            steer
        })?;
        let said = steer.output();
        assert!(
            said.contains("adopted what a killed run left: 2 addresses, "),
            "{attachment}: {said}"
        );
        assert_eq!(
            said.contains("its tables keep the room that they have"),
            !tables.is_empty(),
            "{attachment}: {said}"
        );
        let status = lab.lab.ask_steer(&["status", "--json"])?.stdout()?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let room = [&status["addresses"]["room"], &status["held"]["room"]];
        assert_eq!(room, [65_536, 65_536], "{attachment}: {status:#}");
        for (connections, (who, client)) in held.chunks(2).zip(&mut clients) {
            for (&connection, v6) in connections.iter().zip([false, true]) {
                exchange(client, connection, 100_000)
                    .with_context(|| format!("{attachment}, {who}, v6 {v6}: the long one"))?;
                let (_, path) = open(client, server(number, v6))?;
                assert_eq!(path, Path::Vpn, "{attachment}, {who}, v6 {v6}");
            }
        }
        let mut strays = lab.contacts().split_off(seen);
        strays.retain(|contact| contact.path() != Path::Vpn);
        assert!(strays.is_empty(), "{attachment}: {strays:#?}");
        lab.steers()?;
        steer.terminate()?;
        let left = before.diff(&HostSnapshot::take(&lab.lab)?);
        assert_eq!(left, "", "{attachment}");
    }
    lab.done()
}

/// The next run is told of them late. Taken for such as begin while the VPN is down, they would be refused and forgotten, and then
/// go direct.
#[test]
fn connections_that_began_while_nobody_ran_are_held_though_the_vpn_is_down() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let steer = lab.steer_attached(&lab.config(), ATTACHMENTS[0])?;
    let number = lab.numbers(1)?;
    let mut clients = lab.clients()?;
    for (_, client) in &mut clients {
        for v6 in [false, true] {
            resolve(client, lookup(number, "fresh", v6))?;
        }
    }
    steer.kill()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            let (connection, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            exchange(client, connection, 100)?;
        }
    }
    lab.lab.tunnel_down()?;
    let steer = lab.steer_attached(&lab.config(), ATTACHMENTS[0])?;
    steer.wait_said("meanwhile: blocked")?;
    // What it was told before is read by the time that it answers.
    let mut held = Vec::new();
    for _ in 0..5 {
        // It tells by its exit status that the VPN is down.
        let status = lab.lab.ask_steer(&["status", "--json"])?.stdout;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        held.push(status["held"]["used"].as_u64());
        thread::sleep(patience(Duration::from_millis(100)));
    }
    // Those of containers: a process's are held by their sockets.
    assert!(held.iter().all(|&used| used >= Some(2)), "{held:?}");
    steer.terminate()?;
    lab.lab.tunnel_up()?;
    lab.done()
}

#[test]
fn a_run_by_links_takes_over_from_one_by_filters_and_the_other_way_round() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let pairs = [("clsact", "auto"), ("auto", "clsact")];
    for (killed, next) in choice(&pairs, &pairs[..1]) {
        lab.steer_attached(&lab.config(), killed)?.kill()?;
        let steer = lab.steer_attached(&lab.config(), next)?;
        lab.steers()?;
        steer.terminate()?;
        let left = before.diff(&HostSnapshot::take(&lab.lab)?);
        assert_eq!(left, "", "{next} after {killed}");
    }
    lab.done()
}

#[test]
fn what_is_no_more_wanted_is_let_go() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let config = lab.config();
    let bridges = format!("bridges = [\"{BRIDGE}\"]");
    let without_bridge = config.replace(&bridges, "bridges = []");
    let other_rules = config.replace(".fresh.example", ".other.example");
    let configs = [without_bridge.clone(), other_rules];
    for attachment in choice(&ATTACHMENTS, &ATTACHMENTS[..1]) {
        for changed in choice(&configs, &configs[..1]) {
            let steer = lab.steer_attached(&config, attachment)?;
            let number = lab.numbers(1)?;
            for (who, client) in &mut lab.clients()? {
                resolve(client, lookup(number, "fresh", false))?;
                let (_, path) = open(client, server(number, false))?;
                assert_eq!(path, Path::Vpn, "{attachment}, {who}");
            }
            steer.kill()?;
            let steer = lab.steer_attached(changed, attachment)?;
            let said = steer.output();
            for (who, client) in &mut lab.clients()? {
                let goes_on = *changed == without_bridge && *who == "a process";
                let expected = if goes_on { Path::Vpn } else { Path::Direct };
                let (_, path) = open(client, server(number, false))?;
                assert_eq!(path, expected, "{attachment}, {who}: {said}");
            }
            steer.terminate()?;
            let left = before.diff(&HostSnapshot::take(&lab.lab)?);
            assert_eq!(left, "", "{attachment}");
        }
    }
    lab.done()
}

#[test]
fn what_was_made_otherwise_is_begun_anew_and_told() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let pins = lab.lab.steer_bpffs();
    let pins = pins.to_str().context("the lab's folder is not UTF-8")?;
    let changes = [
        (
            format!("rm {pins}/FLOWS"),
            "its map FLOWS is not made as this version makes it",
        ),
        (
            format!("rmdir {pins}/layout-*"),
            "another version of steer made it",
        ),
        (
            format!(
                "rm {pins}/ADDRS; bpftool map create {pins}/ADDRS type hash key 16 value 32 entries 7 name ADDRS"
            ),
            "its map ADDRS is not made as this version makes it",
        ),
    ];
    for (change, told) in choice(&changes, &changes[..1]) {
        lab.steer()?.kill()?;
        lab.in_box(change)?;
        let steer = lab.steer()?;
        let said = steer.output();
        let expected = format!("what a killed run left is begun anew: {told}");
        assert!(said.contains(&expected), "{change}: {said}");
        lab.steers()?;
        steer.terminate()?;
        assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    }
    lab.done()
}

#[test]
fn a_bridge_that_went_while_nobody_ran_is_forgotten_or_attached_to_anew() -> Result<()> {
    const ADD: &str = "ip link add br-other index 4242 type bridge";
    const DELETE: &str = "ip link del br-other";
    let lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let config = lab.config();
    let both = config.replace(BRIDGE, &format!("{BRIDGE}\", \"br-other"));
    for comes_back in choice(&[false, true], &[true]) {
        lab.in_box(ADD)?;
        lab.lab.steer(&both, &[])?.kill()?;
        lab.in_box(DELETE)?;
        if *comes_back {
            // By its number, which the old links are pinned by, it is the same; they hold on to nothing any more.
            lab.in_box(ADD)?;
            let steer = lab.lab.steer(&both, &[])?;
            let pinned = lab.lab.steer_bpffs().join("programs/bridge_ingress");
            let shown = lab.in_box(&format!("bpftool prog show pinned {}", pinned.display()))?;
            let (program, _) = shown.split_once(':').context(shown.clone())?;
            let links = lab.in_box("bpftool link show")?;
            let linked = links
                .lines()
                .filter(|line| line.trim_end().ends_with(&format!("prog {program}")))
                .count();
            let filters = lab.in_box("tc filter show dev br-other ingress")?;
            assert!(
                linked == 2 || filters.contains("bridge_ingress"),
                "{program}: {links}{filters}"
            );
            steer.terminate()?;
            lab.in_box(DELETE)?;
        } else {
            lab.lab.steer(&config, &[])?.terminate()?;
        }
        let left = before.diff(&HostSnapshot::take(&lab.lab)?);
        assert_eq!(left, "", "comes back: {comes_back}");
    }
    lab.done()
}
