//! steer as a service: its manager is told that it is ready, that it is alive, what the VPN is like, and that it ends.

use std::{os::unix::net::UnixDatagram, time::Duration};

use anyhow::{Context as _, Result, ensure};
use steer_tests::{fixture::Shared, pace::patience};

/// Waits until the manager is told that.
fn told(manager: &UnixDatagram, wanted: &str) -> Result<()> {
    let mut all = String::new();
    let mut buffer = [0; 1024];
    for _ in 0..1000 {
        let size = manager
            .recv(&mut buffer)
            .with_context(|| format!("it is not told \"{wanted}\" but: {all}"))?;
        let said = String::from_utf8_lossy(&buffer[..size]);
        if said.lines().any(|line| line.starts_with(wanted)) {
            return Ok(());
        }
        all.push_str(&said);
    }
    ensure!(false, "it is told {all}");
    Ok(())
}

#[test]
fn its_manager_is_told_of_its_life() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(patience(Duration::from_secs(20))))?;
    let name = path.to_string_lossy();
    let environment = [("NOTIFY_SOCKET", name.as_ref())];
    let steer = lab.lab.steer_started(&lab.config(), &[], &environment)?;
    told(&manager, "READY=1")?;
    told(&manager, "WATCHDOG=1")?;
    lab.lab.tunnel_down()?;
    told(&manager, "STATUS=the VPN is down")?;
    lab.lab.tunnel_up()?;
    told(&manager, "STATUS=steering")?;
    steer.terminate()?;
    told(&manager, "STOPPING=1")?;
    lab.done()
}
