//! Rules that are no plain domain, and names that share an address.

use std::time::Instant;

use anyhow::Result;
use steer_tests::{
    client::Lookup,
    fixture::{Shared, fresh, lookup, open, resolve, server},
    lab::plan::{Path, Range},
    pace::patience,
};

/// Steers by rules of the test's own.
fn steered(lab: &mut Shared, vpn: &str, direct: &str) -> Result<()> {
    let config = lab.config();
    let (host, _) = config.split_once("[rules]").unwrap_or((&config, ""));
    let config = format!(
        "{host}[rules]\npresets = []\nvpn = [{vpn}]\ndirect = [{direct}]\n[dns]\nresolve = false\n"
    );
    lab.start_with(&config)
}

#[test]
fn an_address_of_names_of_both_paths_takes_the_vpn_and_is_told() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    steered(&mut lab, "\".fresh.example\"", "\".plain.example\"")?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            // The lab's names have the address of their number, whatever their zone.
            let number = lab.numbers(1)?;
            let context = format!("{who}, v6 {v6}");
            let contested = lab.counter("address_contested")?;
            resolve(client, lookup(number, "plain", v6))?;
            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Direct, "{context}");
            resolve(client, lookup(number, "fresh", v6))?;
            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{context}");
            assert_eq!(
                lab.counter("address_contested")?,
                contested + 1,
                "{context}"
            );
            lab.wait_said(&format!(
                "contested {}: it is n{number}.fresh.example's by rule fresh.example, and by rule plain.example",
                fresh(number, v6)
            ))?;
            resolve(client, lookup(number, "plain", v6))?;
            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{context}: asked for once more");
        }
    }
    lab.stop()?;
    lab.done()
}

#[test]
fn addresses_take_the_path_of_the_smallest_network_with_a_rule() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let own = lab.numbers(3)?;
    let [inside, exception, named] = [own, own + 1, own + 2];
    let each = |number: u16| [false, true].map(|v6| format!("\"{}\"", fresh(number, v6)));
    let direct = [each(exception), each(named)].concat().join(", ");
    let networks = [Range::Fresh.v4(), Range::Fresh.v6()].map(|net| format!("\"{net}\""));
    let vpn = format!("{}, \".fresh.example\"", networks.join(", "));
    steered(&mut lab, &vpn, &direct)?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            // Nobody asked for these.
            for (number, right) in [(inside, Path::Vpn), (exception, Path::Direct)] {
                let (_, path) = open(client, server(number, v6))?;
                assert_eq!(path, right, "{who}, v6 {v6}, number {number}");
            }
            // What a name teaches is below what a rule says of the address.
            resolve(client, lookup(named, "fresh", v6))?;
            let (_, path) = open(client, server(named, v6))?;
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}, by its name");
        }
    }
    lab.stop()?;
    lab.done()
}

#[test]
fn keywords_and_regular_expressions_teach_a_moment_after_the_answer() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    steered(
        &mut lab,
        "\"keyword:tracker\", '''regex:^n[0-9]+\\.fresh\\.'''",
        "\"keyword:tracker-of-ours\"",
    )?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let first = lab.numbers(3)?;
            for (number, label, right) in [
                (first, "fresh", Path::Vpn),
                (first + 1, "big-trackers.plain", Path::Vpn),
                (first + 2, "tracker-of-ours.plain", Path::Direct),
            ] {
                let asked = Lookup {
                    name: format!("n{number}.{label}.example"),
                    ..lookup(number, "plain", v6)
                };
                let context = format!("{who}, {}", asked.name);
                resolve(client, asked)?;
                let limit = patience(std::time::Duration::from_secs(2));
                let start = Instant::now();
                let mut path = open(client, server(number, v6))?.1;
                while path != right && start.elapsed() < limit {
                    path = open(client, server(number, v6))?.1;
                }
                assert_eq!(path, right, "{context}");
            }
        }
    }
    lab.stop()?;
    lab.done()
}
