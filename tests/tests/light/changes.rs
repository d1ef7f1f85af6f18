//! What changes while steer runs: the VPN comes back as a new interface.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use steer_tests::{
    fixture::{Shared, lookup, open, resolve, server},
    lab::plan::Path,
    pace::patience,
};

/// Tries until it works; an error is that of the last try.
fn soon(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        match work() {
            Err(_) if start.elapsed() < patience(Duration::from_secs(5)) => {
                thread::sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

#[test]
fn a_vpn_that_comes_back_is_used_again() -> Result<()> {
    let mut lab = Shared::steered()?;
    let number = lab.numbers(1)?;
    let mut clients = lab.clients()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            resolve(client, lookup(number, "fresh", v6))?;
            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
        }
    }
    lab.lab.tunnel_down()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            let opened = open(client, server(number, v6));
            assert!(opened.is_err(), "{who}, v6 {v6}: no VPN, and yet");
        }
    }
    lab.lab.tunnel_up()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            soon(|| {
                let (_, path) = open(client, server(number, v6))?;
                ensure!(path == Path::Vpn, "{who}, v6 {v6}: {path:?}");
                Ok(())
            })?;
        }
    }
    let contacts = lab.contacts();
    assert!(
        contacts.iter().all(|one| one.path() == Path::Vpn),
        "a leak: {contacts:?}"
    );
    lab.stop()?;
    let dev = lab.lab.tunnel_interface();
    let filter = lab.in_box(&format!("cat /proc/sys/net/ipv4/conf/{dev}/rp_filter"))?;
    assert_eq!(filter.trim(), "1", "the strictness of the new interface");
    lab.done()
}
