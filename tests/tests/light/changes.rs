//! What changes while steer runs: the VPN comes back as a new interface; somebody takes away what steer made.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use steer_tests::{
    fixture::{ATTACHMENTS, BRIDGE, Shared, lookup, open, resolve, server},
    lab::{HostSnapshot, plan::Path},
    pace::{choice, patience},
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

/// How many of the lines that steer has said so far have `text` in them.
fn times(lab: &Shared, text: &str) -> Result<usize> {
    let said = lab.said()?;
    Ok(said.lines().filter(|line| line.contains(text)).count())
}

/// Waits until there are more than `count`.
fn once_more(lab: &Shared, text: &str, count: usize) -> Result<()> {
    let start = Instant::now();
    while times(lab, text)? <= count {
        ensure!(
            start.elapsed() < patience(Duration::from_secs(5)),
            "steer does not say \"{text}\" once more: {}",
            lab.said()?
        );
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
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

#[test]
fn what_somebody_else_takes_away_is_put_back_and_told() -> Result<()> {
    let mut lab = Shared::steered()?;
    let mut clients = lab.clients()?;
    let before = HostSnapshot::take(&lab.lab)?;
    for (line, told) in [
        (
            "ip rule del pref 7355",
            "restored ip rule add priority 7355",
        ),
        (
            "ip -6 rule del pref 7355",
            "restored ip -6 rule add priority 7355",
        ),
        (
            "ip rule del pref 7360",
            "restored ip rule add priority 7360",
        ),
        ("ip route flush table 7350", "restored ip route add"),
        ("ip -6 route flush table 7350", "restored ip -6 route add"),
        // The lab's own table is to stay.
        (
            "theirs=$(nft list table inet guest-br-guest); nft flush ruleset; echo \"$theirs\" | nft -f -",
            "restored nft",
        ),
        ("nft delete table inet steer", "restored nft"),
    ] {
        let count = times(&lab, told)?;
        lab.in_box(line)?;
        once_more(&lab, told, count).with_context(|| format!("after \"{line}\""))?;
        assert_eq!(
            before.diff(&HostSnapshot::take(&lab.lab)?),
            "",
            "after {line}"
        );
        for (who, client) in &mut clients {
            let number = lab.numbers(1)?;
            resolve(client, lookup(number, "fresh", false))?;
            let (_, path) = open(client, server(number, false))?;
            assert_eq!(path, Path::Vpn, "{who}, after {line}");
        }
    }
    lab.done()
}

#[test]
fn programs_that_somebody_takes_from_a_bridge_are_put_back_and_told() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let pin = format!("{}/links/bridge-", lab.lab.steer_bpffs().display());
    for attachment in choice(&ATTACHMENTS, &["auto"]) {
        let steer = lab.steer_attached(&lab.config(), attachment)?;
        let by_links = lab.in_box(&format!("ls {pin}*")).is_ok();
        let lines: &[String] = &if by_links {
            // Nobody tells of it, so another change has steer look. One at a time, for it may look in between.
            let detach = |program| {
                format!(
                    "bpftool link detach pinned {pin}*-{program}; ip link set lo mtu 65535; ip link set lo mtu 65536"
                )
            };
            ["bridge_ingress", "bridge_egress"].map(detach).to_vec()
        } else {
            vec![
                format!("tc filter del dev {BRIDGE} ingress pref 7350"),
                format!("tc qdisc del dev {BRIDGE} clsact"),
            ]
        };
        for (count, line) in lines.iter().enumerate() {
            lab.in_box(line)?;
            let told = format!("restored the programs on {BRIDGE}");
            soon(|| {
                let said = steer.output();
                ensure!(
                    said.matches(&told).count() > count,
                    "{attachment}, {line}: {said}"
                );
                Ok(())
            })?;
            lab.steers().with_context(|| line.clone())?;
        }
        steer.terminate()?;
        assert_eq!(
            before.diff(&HostSnapshot::take(&lab.lab)?),
            "",
            "{attachment}"
        );
    }
    lab.done()
}

#[test]
fn a_cgroup_that_is_made_anew_is_steered_again() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let cgroup = lab.lab.box_cgroup("steered")?;
    let config = lab.config();
    lab.start_with(&config)?;
    let told = |what| format!("cgroup   {} {what}", cgroup.display());
    let (gone, attached) = (told("gone"), told("attached"));
    for round in 0..3 {
        let [(_, client), _] = lab.clients()?;
        drop(client);
        soon(|| Ok(fs::remove_dir(&cgroup)?))?;
        once_more(&lab, &gone, round)?;
        fs::create_dir(&cgroup)?;
        let made = Instant::now();
        once_more(&lab, &attached, round)?;
        println!("attached after {} ms", made.elapsed().as_millis());
        let [(_, mut client), _] = lab.clients()?;
        let number = lab.numbers(1)?;
        resolve(&mut client, lookup(number, "fresh", false))?;
        let (_, path) = open(&mut client, server(number, false))?;
        assert_eq!(path, Path::Vpn);
    }
    lab.stop()?;
    lab.done()
}
