//! No race between learning and the first connection: a client connects the moment that it has
//! the answer, to an address that nobody asked for before.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
};

use anyhow::{Result, bail};
use steer_tests::{
    client::{Ask, Lookup, Told},
    fixture::{Fixture, PORT, fresh, lookup},
    lab::{Client, Ns, plan::Path},
};

const NAMES: u16 = 2000;

#[test]
fn two_thousand_fresh_names_take_the_vpn_from_the_first_packet() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    // Each client has addresses of its own: none was learned for the other.
    for (turn, (who, client)) in (0u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            let numbers = turn * NAMES..(turn + 1) * NAMES;
            let lookups: Vec<_> = numbers
                .clone()
                .map(|number| lookup(number, "fresh", v6))
                .collect();
            let before = fixture.servers.contacts().len();
            let reached = reach(who, client, lookups)?;
            let failed: Vec<_> = reached.iter().filter(|(_, seen)| seen.is_err()).collect();
            assert!(
                failed.is_empty(),
                "{who}, v6 {v6}: {} failed: {failed:?}",
                failed.len()
            );

            let contacts = fixture.servers.contacts().split_off(before);
            let wrong: Vec<_> = contacts
                .iter()
                .filter(|one| one.path() != Path::Vpn)
                .collect();
            assert!(
                wrong.is_empty(),
                "{who}, v6 {v6}: {} of {NAMES} took the wrong path: {wrong:?}",
                wrong.len()
            );
            let servers: Vec<_> = contacts.iter().map(|one| one.server.ip()).collect();
            let wanted: Vec<_> = numbers.map(|number| fresh(number, v6)).collect();
            assert_eq!(
                servers, wanted,
                "{who}, v6 {v6}: the servers that were reached"
            );
        }
    }
    steer.terminate().map(drop)
}

#[test]
fn names_without_a_rule_go_direct() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    for (who, client) in &mut fixture.clients()? {
        for v6 in [false, true] {
            let lookups: Vec<Lookup> = (3000..3100)
                .map(|number| lookup(number, "plain", v6))
                .collect();
            let through = fixture.through_tunnel(|| {
                let reached = reach(who, client, lookups)?;
                for (address, seen) in reached {
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
    steer.terminate().map(drop)
}

#[test]
fn many_clients_at_once() -> Result<()> {
    const CLIENTS: u16 = 8;
    const EACH: u16 = 250;
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS / 2 {
        clients.extend(fixture.clients()?);
    }
    thread::scope(|scope| {
        for (turn, (_, client)) in (0u16..).zip(&mut clients) {
            scope.spawn(move || {
                let numbers = turn * EACH..(turn + 1) * EACH;
                let lookups = numbers.map(|number| lookup(number, "fresh", number % 2 == 0));
                client.ask(&Ask::Reach {
                    lookups: lookups.collect(),
                    port: PORT,
                })
            });
        }
    });
    let contacts = fixture.servers.contacts();
    assert_eq!(
        contacts.len(),
        usize::from(CLIENTS * EACH),
        "connections that arrived"
    );
    let wrong: Vec<_> = contacts
        .iter()
        .filter(|one| one.path() != Path::Vpn)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} took the wrong path: {wrong:?}",
        wrong.len()
    );
    steer.terminate().map(drop)
}

#[test]
fn behind_a_masquerade_that_changes_every_port() -> Result<()> {
    let fixture = Fixture::up()?;
    let masquerade = "table inet shuffle {
        chain post {
            type nat hook postrouting priority srcnat - 1
            oifname eth0 udp dport 53 masquerade random
        }
    }";
    fixture.lab.run(Ns::Box, &["nft", masquerade])?.stdout()?;
    let steer = fixture.steer()?;
    for (turn, (who, client)) in (0u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            let numbers = turn * 100..(turn + 1) * 100;
            let lookups = numbers.map(|number| lookup(number, "fresh", v6)).collect();
            let reached = reach(who, client, lookups)?;
            for (address, seen) in reached {
                let path = seen.map(|seen| Path::of(seen.ip()));
                assert_eq!(path, Ok(Path::Vpn), "{who} to {address}");
            }
        }
    }
    steer.terminate().map(drop)
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
