//! A killed run: the kernel goes on steering, and cleanup or the next run finds all that was left. By links and by the
//! filters of older kernels.

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{Fixture, exchange, lookup, open, resolve, server},
    lab::{HostSnapshot, Ns, Steer, plan::Path},
};

/// How bridges are attached to, as `STEER_ATTACHMENT` names it in a debug build; with tcx if the kernel has it.
const ATTACHMENTS: [&str; 2] = ["auto", "clsact"];
/// Somebody else's filter on the bridge.
const THEIRS: &str = "tc filter add dev br-guest ingress pref 40000 protocol all u32 match u32 0 0";

fn start(fixture: &Fixture, attachment: &str) -> Result<Steer> {
    let environment = [("STEER_ATTACHMENT", attachment)];
    let mut steer = fixture
        .lab
        .steer_started(&fixture.config(), &[], &environment)?;
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

fn tc(fixture: &Fixture, line: &str) -> Result<String> {
    let words: Vec<_> = line.split(' ').collect();
    fixture.lab.run(Ns::Box, &words)?.stdout()
}

#[test]
fn after_sigterm_nothing_is_left_of_filters() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let steer = start(&fixture, "clsact")?;
    use_it(&fixture, 1)?;
    let filters = tc(&fixture, "tc filter show dev br-guest ingress")?;
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
            tc(&fixture, "tc qdisc add dev br-guest clsact")?;
            tc(&fixture, THEIRS)?;
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
