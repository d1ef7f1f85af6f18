//! No race between learning and the first connection: a client connects the moment that it has
//! the answer, to an address that nobody asked for before.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
};

use anyhow::{Result, bail};
use steer_tests::{
    client::{Ask, Lookup, Told},
    fixture::{PORT, Shared, fresh, lookup},
    lab::{Client, Contact, plan::Path},
    pace::times,
};

#[test]
fn two_thousand_fresh_names_take_the_vpn_from_the_first_packet() -> Result<()> {
    let mut lab = Shared::steered()?;
    let count = times(2000);
    // Each client has addresses of its own: none was learned for the other.
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let first = lab.numbers(count)?;
            let numbers = first..first + count;
            let lookups = numbers.clone().map(|number| lookup(number, "fresh", v6));
            let before = lab.contacts().len();
            let reached = reach(who, client, lookups.collect())?;
            let failed: Vec<_> = reached.iter().filter(|(_, seen)| seen.is_err()).collect();
            assert!(
                failed.is_empty(),
                "{who}, v6 {v6}: these failed: {failed:?}"
            );

            let contacts = lab.contacts().split_off(before);
            all_by_vpn(who, &contacts);
            let servers: Vec<_> = contacts.iter().map(|one| one.server.ip()).collect();
            let wanted: Vec<_> = numbers.map(|number| fresh(number, v6)).collect();
            assert_eq!(
                servers, wanted,
                "{who}, v6 {v6}: the servers that were reached"
            );
        }
    }
    lab.done()
}

#[test]
fn names_without_a_rule_go_direct() -> Result<()> {
    let mut lab = Shared::steered()?;
    let count = times(100);
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let first = lab.numbers(count)?;
            let lookups = (first..first + count).map(|number| lookup(number, "plain", v6));
            let through = lab.through_tunnel(|| {
                for (address, seen) in reach(who, client, lookups.collect())? {
                    let path = seen.map(|seen| Path::of(seen.ip()));
                    assert_eq!(path, Ok(Path::Direct), "{who} to {address}");
                }
                Ok(())
            })?;
            assert!(
                through < 1000,
                "{who}, v6 {v6}: {through} bytes took the tunnel"
            );
        }
    }
    lab.done()
}

#[test]
fn many_clients_at_once() -> Result<()> {
    const CLIENTS: u16 = 8;
    let each = times(250);
    let mut lab = Shared::steered()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS / 2 {
        clients.extend(lab.clients()?);
    }
    let starts = (0..CLIENTS).map(|_| lab.numbers(each));
    let starts = starts.collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for ((who, client), first) in clients.iter_mut().zip(starts) {
            scope.spawn(move || {
                let numbers = first..first + each;
                let lookups = numbers.map(|number| lookup(number, "fresh", number % 2 == 0));
                reach(who, client, lookups.collect())
            });
        }
    });
    let contacts = lab.contacts();
    let wanted = usize::from(CLIENTS * each);
    assert_eq!(contacts.len(), wanted, "connections that arrived");
    all_by_vpn("eight clients", &contacts);
    lab.done()
}

#[test]
fn behind_a_masquerade_that_changes_every_port() -> Result<()> {
    let mut lab = Shared::steered()?;
    let masquerade = "table inet shuffle {
        chain post {
            type nat hook postrouting priority srcnat - 1
            oifname eth0 udp dport 53 masquerade random
        }
    }";
    lab.in_box(&format!("nft '{masquerade}'"))?;
    let count = times(100);
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let first = lab.numbers(count)?;
            let lookups = (first..first + count).map(|number| lookup(number, "fresh", v6));
            for (address, seen) in reach(who, client, lookups.collect())? {
                let path = seen.map(|seen| Path::of(seen.ip()));
                assert_eq!(path, Ok(Path::Vpn), "{who} to {address}");
            }
        }
    }
    lab.in_box("nft delete table inet shuffle")?;
    lab.done()
}

fn all_by_vpn(who: &str, contacts: &[Contact]) {
    let mut wrong = contacts.to_vec();
    wrong.retain(|one| one.path() != Path::Vpn);
    let (wrong_ones, all) = (wrong.len(), contacts.len());
    assert!(
        wrong.is_empty(),
        "{who}: {wrong_ones} of {all} took the wrong path: {wrong:?}"
    );
}

/// Has a client resolve each name and connect at once; what each connection came to, in their order.
fn reach(
    who: &str,
    client: &mut Client,
    lookups: Vec<Lookup>,
) -> Result<Vec<(IpAddr, Result<SocketAddr, String>)>> {
    let Told::Reached(reached) = client.ask(&Ask::Reach {
        lookups,
        port: PORT,
    })?
    else {
        bail!("{who} was told something else")
    };
    Ok(reached)
}
