//! steer as a service: its manager is told that it is ready, that it is alive, what the VPN is like, and that it ends.

use std::{os::unix::net::UnixDatagram, time::Duration};

use anyhow::{Context as _, Result, ensure};
use steer_tests::{fixture::Shared, lab::HostSnapshot, pace::patience};

use crate::first_packet::{http, late_connections_end, quic, quic_takes_its_path};

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

#[test]
fn by_its_unit_it_does_all_that_it_does_otherwise() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let systemd = lab.lab.systemd(&http(&lab, "reset"))?;
    lab.steers()?;
    late_connections_end(&mut lab)?;
    let pid = systemd.steer(&lab.lab)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    for confined in ["NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(confined), "{status}");
    }
    systemd.control(&lab.lab, "reload steer")?;
    lab.steers().context("reloaded")?;

    systemd.control(&lab.lab, "kill --signal=KILL steer")?;
    systemd.wait_other(&lab.lab, pid)?;
    lab.steers().context("killed, and started again")?;

    systemd.restart(&lab.lab, &quic(&lab))?;
    quic_takes_its_path(&mut lab)?;
    systemd.control(&lab.lab, "stop steer")?;
    drop(systemd);
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
