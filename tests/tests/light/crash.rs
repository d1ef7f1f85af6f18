//! A killed run: the kernel goes on steering, cleanup finds all that was left, and the next run goes on with it. By links
//! and by the filters of older kernels.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{BRIDGE, Fixture, exchange, lookup, open, resolve, server},
    lab::{Client, HostSnapshot, Ns, Steer, plan::Path},
};

/// How bridges are attached to, as `STEER_ATTACHMENT` names it in a debug build; with tcx if the kernel has it.
const ATTACHMENTS: [&str; 2] = ["auto", "clsact"];
/// Somebody else's filter on the bridge.
const THEIRS: &str = "tc filter add dev br-guest ingress pref 40000 protocol all u32 match u32 0 0";

fn start(fixture: &Fixture, attachment: &str) -> Result<Steer> {
    start_with(fixture, &fixture.config(), attachment)
}

fn start_with(fixture: &Fixture, config: &str, attachment: &str) -> Result<Steer> {
    let environment = [("STEER_ATTACHMENT", attachment)];
    let mut steer = fixture.lab.steer_started(config, &[], &environment)?;
    steer.wait_ready()?;
    Ok(steer)
}

/// Has both clients look a name up and begin a flow on the VPN.
fn use_it(fixture: &Fixture, number: u16) -> Result<()> {
    for (who, client) in &mut fixture.clients()? {
        for v6 in [false, true] {
            resolve(client, lookup(number, "fresh", v6))?;
            let (connection, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            exchange(client, connection, 10_000)?;
        }
    }
    Ok(())
}

fn run(fixture: &Fixture, line: &str) -> Result<String> {
    let words: Vec<_> = line.split(' ').collect();
    fixture.lab.run(Ns::Box, &words)?.stdout()
}

#[test]
fn after_sigterm_nothing_is_left_of_filters() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let steer = start(&fixture, "clsact")?;
    use_it(&fixture, 1)?;
    let filters = run(&fixture, "tc filter show dev br-guest ingress")?;
    assert!(filters.contains("bridge_ingress"), "{filters}");
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    Ok(())
}

#[test]
fn after_kill_and_cleanup_nothing_is_left() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    for theirs in [false, true] {
        if theirs {
            run(&fixture, "tc qdisc add dev br-guest clsact")?;
            run(&fixture, THEIRS)?;
        }
        let before = HostSnapshot::take(&fixture.lab)?;
        for attachment in ATTACHMENTS {
            let steer = start(&fixture, attachment)?;
            use_it(&fixture, 1)?;
            steer.kill()?;
            // Nobody runs, and yet the kernel learns and steers.
            use_it(&fixture, 2)?;
            fixture.lab.steer_cleanup()?.stdout()?;
            let left = before.diff(&HostSnapshot::take(&fixture.lab)?);
            assert_eq!(left, "", "{attachment}, others' filters: {theirs}");
        }
    }
    Ok(())
}

#[test]
fn after_kill_and_the_loss_of_all_files_cleanup_finds_the_filters() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    start(&fixture, "clsact")?.kill()?;
    let pins = fixture.lab.steer_bpffs();
    std::fs::remove_dir_all(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
    let done = fixture.lab.steer_cleanup()?.stdout()?;
    assert!(done.contains("tc qdisc del dev br-guest clsact"), "{done}");
    assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    Ok(())
}

#[test]
fn after_kill_and_another_run_nothing_is_left() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    // The last pair comes after the first: a run by links takes over from one by filters, too.
    for (killed, next) in [
        ("auto", "auto"),
        ("clsact", "clsact"),
        ("clsact", "auto"),
        ("auto", "clsact"),
    ] {
        start(&fixture, killed)?.kill()?;
        let steer = start(&fixture, next)?;
        use_it(&fixture, 1)?;
        steer.terminate()?;
        let left = before.diff(&HostSnapshot::take(&fixture.lab)?);
        assert_eq!(left, "", "{next} after {killed}");
    }
    Ok(())
}

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
    }
    Ok(connections)
}

#[test]
fn the_next_run_goes_on_with_what_was_learned_and_begun() -> Result<()> {
    for attachment in ATTACHMENTS {
        let fixture = Fixture::with_debug_steer()?;
        let before = HostSnapshot::take(&fixture.lab)?;
        let steer = start(&fixture, attachment)?;
        let mut clients = fixture.clients()?;
        let mut held = Vec::new();
        for (who, client) in &mut clients {
            for v6 in [false, true] {
                resolve(client, lookup(1, "fresh", v6))?;
                let (connection, path) = open(client, server(1, v6))?;
                assert_eq!(path, Path::Vpn, "{attachment}, {who}, v6 {v6}");
                held.push(connection);
            }
        }
        steer.kill()?;

        // Nobody asks for the name again: the address is steered because it was learned. Before the next start, while it
        // takes over, and after.
        let stop = AtomicBool::new(false);
        let mut others = fixture.clients()?;
        let steer = thread::scope(|scope| {
            let busy: Vec<_> = others
                .iter_mut()
                .map(|(_, client)| scope.spawn(|| connect_all_along(client, 1, &stop)))
                .collect();
            let steer = start(&fixture, attachment);
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
        for (connections, (who, client)) in held.chunks(2).zip(&mut clients) {
            for (&connection, v6) in connections.iter().zip([false, true]) {
                exchange(client, connection, 100_000)
                    .with_context(|| format!("{attachment}, {who}, v6 {v6}: the long one"))?;
                let (_, path) = open(client, server(1, v6))?;
                assert_eq!(path, Path::Vpn, "{attachment}, {who}, v6 {v6}");
                let (_, path) = open(client, server(1001, v6))?;
                assert_eq!(path, Path::Direct, "{attachment}, {who}, v6 {v6}");
                resolve(client, lookup(2, "fresh", v6))?;
                let (_, path) = open(client, server(2, v6))?;
                assert_eq!(path, Path::Vpn, "{attachment}, {who}, v6 {v6}, a new name");
            }
        }
        let strays: Vec<_> = fixture
            .servers
            .contacts()
            .into_iter()
            .filter(|contact| {
                let steered = [server(1, false), server(1, true)].contains(&contact.server);
                steered && contact.path() != Path::Vpn
            })
            .collect();
        assert!(strays.is_empty(), "{attachment}: {strays:#?}");
        steer.terminate()?;
        let left = before.diff(&HostSnapshot::take(&fixture.lab)?);
        assert_eq!(left, "", "{attachment}");
    }
    Ok(())
}

#[test]
fn what_is_no_more_wanted_is_let_go() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let without_bridge = fixture
        .config()
        .replace(&format!("bridges = [\"{BRIDGE}\"]"), "bridges = []");
    let other_rules = fixture.config().replace(".fresh.example", ".other.example");
    for attachment in ATTACHMENTS {
        for config in [&without_bridge, &other_rules] {
            let steer = start(&fixture, attachment)?;
            use_it(&fixture, 1)?;
            steer.kill()?;
            let steer = start_with(&fixture, config, attachment)?;
            let said = steer.output();
            for (who, client) in &mut fixture.clients()? {
                let goes_on = config == &without_bridge && *who == "a process";
                let expected = if goes_on { Path::Vpn } else { Path::Direct };
                let (_, path) = open(client, server(1, false))?;
                assert_eq!(path, expected, "{attachment}, {who}: {said}");
            }
            steer.terminate()?;
            let left = before.diff(&HostSnapshot::take(&fixture.lab)?);
            assert_eq!(left, "", "{attachment}");
        }
    }
    Ok(())
}

#[test]
fn what_was_made_otherwise_is_begun_anew_and_told() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let pins = fixture.lab.steer_bpffs();
    let pins = pins.to_str().context("the lab's folder is not UTF-8")?;
    for (change, told) in [
        (
            format!("rmdir {pins}/layout-*"),
            "another version of steer made it",
        ),
        (
            format!("rm {pins}/FLOWS"),
            "its map FLOWS is not made as this version makes it",
        ),
        (
            format!(
                "rm {pins}/ADDRS; bpftool map create {pins}/ADDRS type hash key 16 value 32 entries 7 name ADDRS"
            ),
            "its map ADDRS is not made as this version makes it",
        ),
    ] {
        start(&fixture, "auto")?.kill()?;
        fixture
            .lab
            .run(Ns::Box, &["sh", "-ec", &change])?
            .stdout()?;
        let steer = start(&fixture, "auto")?;
        let said = steer.output();
        let expected = format!("what a killed run left is begun anew: {told}");
        assert!(said.contains(&expected), "{change}: {said}");
        use_it(&fixture, 1)?;
        steer.terminate()?;
        assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    }
    Ok(())
}

#[test]
fn a_bridge_that_went_while_nobody_ran_is_forgotten_or_attached_to_anew() -> Result<()> {
    const ADD: &str = "ip link add br-other index 4242 type bridge";
    const DELETE: &str = "ip link del br-other";
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let both = fixture
        .config()
        .replace(BRIDGE, &format!("{BRIDGE}\", \"br-other"));
    for comes_back in [false, true] {
        run(&fixture, ADD)?;
        start_with(&fixture, &both, "auto")?.kill()?;
        run(&fixture, DELETE)?;
        if comes_back {
            // By its number, which the old links are pinned by, it is the same; they hold on to nothing any more.
            run(&fixture, ADD)?;
            let steer = start_with(&fixture, &both, "auto")?;
            let pinned = fixture.lab.steer_bpffs().join("programs/bridge_ingress");
            let shown = run(
                &fixture,
                &format!("bpftool prog show pinned {}", pinned.display()),
            )?;
            let (program, _) = shown.split_once(':').context(shown.clone())?;
            let links = run(&fixture, "bpftool link show")?;
            let linked = links
                .lines()
                .filter(|line| line.trim_end().ends_with(&format!("prog {program}")))
                .count();
            let filters = run(&fixture, "tc filter show dev br-other ingress")?;
            assert!(
                linked == 2 || filters.contains("bridge_ingress"),
                "{program}: {links}{filters}"
            );
            steer.terminate()?;
            run(&fixture, DELETE)?;
        } else {
            start(&fixture, "auto")?.terminate()?;
        }
        let left = before.diff(&HostSnapshot::take(&fixture.lab)?);
        assert_eq!(left, "", "comes back: {comes_back}");
    }
    Ok(())
}
