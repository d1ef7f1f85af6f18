//! After any way out, the host's rules, routes, nft ruleset, qdiscs, sysctls, cgroup programs
//! and BPF file system are as they were.

use anyhow::Result;
use steer_tests::{
    fixture::{Fixture, exchange, lookup, open, resolve, server},
    lab::{HostSnapshot, plan::Path},
};

/// Has both clients begin flows on both paths.
fn use_it(fixture: &Fixture, number: u16) -> Result<()> {
    for (who, client) in &mut fixture.clients()? {
        for v6 in [false, true] {
            resolve(client, lookup(number, "fresh", v6))?;
            let (connection, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            exchange(client, connection, 10_000)?;
            let (_, path) = open(client, server(number + 1000, v6))?;
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}");
        }
    }
    Ok(())
}

#[test]
fn after_sigterm() -> Result<()> {
    let fixture = Fixture::up()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    for _ in 0..2 {
        let steer = fixture.steer()?;
        use_it(&fixture, 1)?;
        let during = before.diff(&HostSnapshot::take(&fixture.lab)?);
        assert!(
            during.contains("7350"),
            "steer runs and nothing is to be seen of it: {during}"
        );
        steer.terminate()?;
        assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    }
    Ok(())
}

#[test]
fn after_kill_and_cleanup() -> Result<()> {
    let fixture = Fixture::up()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let steer = fixture.steer()?;
    use_it(&fixture, 1)?;
    steer.kill()?;
    // Nobody runs, and yet the kernel learns and steers.
    use_it(&fixture, 2)?;
    fixture.lab.steer_cleanup()?.stdout()?;
    assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    // Cleaning what is clean is no failure, and changes nothing.
    fixture.lab.steer_cleanup()?.stdout()?;
    assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    Ok(())
}

#[test]
fn after_kill_and_another_run() -> Result<()> {
    let fixture = Fixture::up()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    fixture.steer()?.kill()?;
    let steer = fixture.steer()?;
    use_it(&fixture, 1)?;
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    Ok(())
}
