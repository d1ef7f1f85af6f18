//! Names and answers of every shape: aliases, many addresses, mixed case, rules within rules.

use anyhow::{Result, bail};
use steer_tests::{
    client::{Ask, Lookup, Told},
    fixture::{HUGE, MANY, PORT, Shared, fresh, lookup, number, open, resolve},
    lab::{Question, plan::Path},
};

fn named(name: &str, v6: bool) -> Lookup {
    Lookup {
        name: name.to_owned(),
        ..lookup(0, "fresh", v6)
    }
}

/// The address that the name server gives for a name, by the number in it.
fn address(name: &str, v6: bool) -> std::net::IpAddr {
    let name = name.to_owned();
    fresh(number(&Question { name, v6 }), v6)
}

#[test]
fn the_name_asked_decides_whatever_the_answer_looks_like() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        let first = lab.numbers(3)?;
        for (name, v6) in [
            (format!("n{first}.alias.fresh.example"), false),
            (format!("N{}.FreSh.eXample", first + 1), true),
            (format!("n{}.a.b.c.d.e.f.g.fresh.example", first + 2), false),
        ] {
            let address = address(&name, v6);
            assert_eq!(
                resolve(client, named(&name, v6))?,
                [address],
                "{who}: {name}"
            );
            let (_, path) = open(client, (address, PORT).into())?;
            assert_eq!(path, Path::Vpn, "{who}: {name}");
        }
    }
    lab.done()
}

#[test]
fn every_address_of_a_large_answer_is_learned() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        let name = format!("many{}.fresh.example", lab.numbers(MANY)?);
        let Told::Reached(reached) = client.ask(&Ask::Reach {
            lookups: vec![named(&name, false)],
            port: PORT,
        })?
        else {
            bail!("{who} was told something else")
        };
        assert_eq!(reached.len(), usize::from(MANY), "{who}");
        for (address, seen) in reached {
            let path = seen.map(|seen| Path::of(seen.ip()));
            assert_eq!(path, Ok(Path::Vpn), "{who} to {address}");
        }
    }
    lab.done()
}

/// A process has its answer when the kernel has put the fragments together; on a bridge they pass one by one.
#[test]
fn an_answer_in_fragments_is_learned_for_a_process_and_held_back_from_a_guest() -> Result<()> {
    let mut lab = Shared::steered()?;
    let [(_, process), (_, guest)] = &mut lab.clients()?;
    let first = lab.numbers(HUGE)?;
    let name = format!("huge{first}.fresh.example");
    let addresses = resolve(process, named(&name, false))?;
    assert_eq!(addresses.len(), usize::from(HUGE));
    for address in [addresses[0], addresses[usize::from(HUGE) - 1]] {
        let (_, path) = open(process, (address, PORT).into())?;
        assert_eq!(path, Path::Vpn, "{address}");
    }
    let before = lab.counter("dns_held_back")?;
    let name = format!("huge{}.fresh.example", lab.numbers(HUGE)?);
    assert!(resolve(guest, named(&name, false)).is_err());
    assert_eq!(lab.counter("dns_held_back")?, before + 1);
    let by_tcp = Lookup {
        tcp: true,
        ..named(&name, false)
    };
    let addresses = resolve(guest, by_tcp)?;
    assert_eq!(addresses.len(), usize::from(HUGE));
    lab.done()
}

#[test]
fn a_rule_for_an_alias_decides_where_none_speaks_of_the_name() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let name = format!("n{}.alias.plain.example", lab.numbers(1)?);
            let address = address(&name, v6);
            assert_eq!(resolve(client, named(&name, v6))?, [address], "{who}");
            let (_, path) = open(client, (address, PORT).into())?;
            assert_eq!(path, Path::Vpn, "{who}: {name}");
        }
    }
    lab.done()
}

#[test]
fn the_most_specific_rule_wins() -> Result<()> {
    let lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        for (name, right) in [
            ("n1.fresh.example", Path::Vpn),
            ("exact7.fresh.example", Path::Direct),
            ("n8.layers.fresh.example", Path::Direct),
            ("n9.layers.fresh.example", Path::Vpn),
            ("n10.example", Path::Direct),
            ("n11.notfresh.example", Path::Direct),
        ] {
            let address = address(name, false);
            assert_eq!(
                resolve(client, named(name, false))?,
                [address],
                "{who}: {name}"
            );
            let (_, path) = open(client, (address, PORT).into())?;
            assert_eq!(path, right, "{who}: {name}");
        }
    }
    lab.done()
}
