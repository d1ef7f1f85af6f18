//! Names resolved before their use: who connects by an answer from before steer began takes the right path at once.

use std::{fs, slice};

use anyhow::Result;
use steer_tests::{
    fixture::{Shared, open, server},
    lab::{Resolver, plan::Path},
};

/// Has the box's `/etc/resolv.conf` name another server.
fn ask_at(lab: &Shared, nameserver: &str) -> Result<()> {
    let file = lab.lab.dir().join("resolv.conf");
    Ok(fs::write(file, format!("nameserver {nameserver}\n"))?)
}

/// A configuration with these names for the VPN, resolved before their use or not.
fn config(lab: &Shared, names: &[String], resolve: bool) -> String {
    let names = names.iter().map(|name| format!("\"{name}\", "));
    lab.config()
        .replace("vpn = [", &format!("vpn = [{}", names.collect::<String>()))
        .replace("resolve = false", &format!("resolve = {resolve}"))
}

/// Has clients connect to the addresses with `number`, without any question for a name.
fn all_take(lab: &Shared, number: u16, right: Path) -> Result<()> {
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, right, "{who}, v6 {v6}, number {number}");
        }
    }
    Ok(())
}

fn was_asked(lab: &Shared, name: &str) -> bool {
    let asked = lab.resolver.asked();
    asked.iter().any(|(_, question)| question.name == name)
}

#[test]
fn who_asks_nobody_takes_the_vpn_to_the_names_of_the_rules() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let first = lab.numbers(4)?;
    ask_at(&lab, &Resolver::V4.ip().to_string())?;
    let names = [
        format!("n{first}.exact.example"),
        format!("n{}.alias.fresh.example", first + 1),
        format!("none{first}.exact.example"),
    ];
    let steer = lab.lab.steer(&config(&lab, &names, true), &[])?;
    // The rules of every test here have two more.
    steer.wait_said("resolved 5 names before their use: 8 addresses (1 failed: none")?;
    for number in [first, first + 1] {
        all_take(&lab, number, Path::Vpn)?;
    }
    for number in [first + 2, first + 3] {
        all_take(&lab, number, Path::Direct)?;
    }
    let said = steer.terminate()?;
    assert!(said.contains(": it has no address)"), "{said}");
    lab.done()
}

#[test]
fn nobody_is_asked_where_that_is_turned_off() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let number = lab.numbers(1)?;
    ask_at(&lab, &Resolver::V4.ip().to_string())?;
    let name = format!("n{number}.exact.example");
    let steer = lab
        .lab
        .steer(&config(&lab, slice::from_ref(&name), false), &[])?;
    all_take(&lab, number, Path::Direct)?;
    assert!(!was_asked(&lab, &name));
    steer.terminate()?;
    lab.done()
}

#[test]
fn another_resolver_is_asked_without_a_restart() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let number = lab.numbers(1)?;
    ask_at(&lab, "127.0.0.1")?;
    let name = format!("n{number}.exact.example");
    let steer = lab
        .lab
        .steer(&config(&lab, slice::from_ref(&name), true), &[])?;
    steer.wait_said("resolved 3 names before their use: 0 addresses (3 failed: ")?;
    assert!(!was_asked(&lab, &name));
    ask_at(&lab, &Resolver::V6.ip().to_string())?;
    steer.wait_said(&format!("learned  {name} "))?;
    all_take(&lab, number, Path::Vpn)?;
    steer.terminate()?;
    lab.done()
}
