//! What changes while steer runs: the VPN comes back as a new interface.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use steer_tests::{
    fixture::{Fixture, lookup, open, resolve, server},
    lab::{Ns, plan::Path},
};

/// Tries until it works; an error is that of the last try.
fn soon(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        match work() {
            Err(_) if start.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

#[test]
fn a_vpn_that_comes_back_is_used_again() -> Result<()> {
    let mut fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    let mut clients = fixture.clients()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            resolve(client, lookup(1, "fresh", v6))?;
            assert_eq!(open(client, server(1, v6))?.1, Path::Vpn, "{who}, v6 {v6}");
        }
    }
    fixture.lab.tunnel_down()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            assert!(
                open(client, server(1, v6)).is_err(),
                "{who}, v6 {v6}: no VPN, and yet"
            );
        }
    }
    fixture.lab.tunnel_up()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            soon(|| {
                let (_, path) = open(client, server(1, v6))?;
                ensure!(path == Path::Vpn, "{who}, v6 {v6}: {path:?}");
                Ok(())
            })?;
        }
    }
    let contacts = fixture.servers.contacts();
    assert!(
        contacts.iter().all(|one| one.path() == Path::Vpn),
        "a leak: {contacts:?}"
    );
    steer.terminate()?;
    let dev = fixture.lab.tunnel_interface();
    let filter = format!("/proc/sys/net/ipv4/conf/{dev}/rp_filter");
    let filter = fixture.lab.run(Ns::Box, &["cat", &filter])?.stdout()?;
    assert_eq!(filter.trim(), "1");
    Ok(())
}
