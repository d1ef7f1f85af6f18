//! After any way out, the host's rules, routes, nft ruleset, qdiscs, sysctls, cgroup programs
//! and BPF file system are as they were.

use anyhow::Result;
use steer_tests::{
    fixture::{Shared, exchange, lookup, open, resolve, server},
    lab::{HostSnapshot, plan::Path},
};

/// Has both clients begin flows on both paths.
fn use_it(lab: &mut Shared) -> Result<()> {
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(2)?;
            resolve(client, lookup(number, "fresh", v6))?;
            let (connection, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            exchange(client, connection, 10_000)?;
            let (_, path) = open(client, server(number + 1, v6))?;
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}");
        }
    }
    Ok(())
}

#[test]
fn after_sigterm() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    for _ in 0..2 {
        let steer = lab.steer()?;
        use_it(&mut lab)?;
        let during = before.diff(&HostSnapshot::take(&lab.lab)?);
        assert!(
            during.contains("7350"),
            "steer runs and nothing is to be seen of it: {during}"
        );
        steer.terminate()?;
        assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    }
    lab.done()
}

#[test]
fn after_kill_and_cleanup() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let steer = lab.steer()?;
    use_it(&mut lab)?;
    steer.kill()?;
    // Nobody runs, and yet the kernel learns and steers.
    use_it(&mut lab)?;
    lab.lab.steer_cleanup()?.stdout()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    // Cleaning what is clean is no failure, and changes nothing.
    lab.lab.steer_cleanup()?.stdout()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

#[test]
fn after_kill_and_another_run() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.steer()?.kill()?;
    let steer = lab.steer()?;
    use_it(&mut lab)?;
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
