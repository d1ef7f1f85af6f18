//! Names and answers of every shape: aliases, many addresses, mixed case, rules within rules.

use anyhow::{Result, bail};
use steer_tests::{
    client::{Ask, Lookup, Told},
    fixture::{Fixture, PORT, fresh, honest, lookup, number, open, resolve, server},
    lab::{Answer, Question, plan::Path},
};

fn zone(question: &Question) -> Vec<Answer> {
    let name = question.name.to_ascii_lowercase();
    if name.starts_with("many") {
        // As many as an answer of 1,232 bytes has room for over IPv4.
        return vec![Answer::honest(
            (600..670).map(|number| fresh(number, question.v6)),
        )];
    }
    if name.ends_with(".alias.fresh.example") {
        let alias = Some("edge.cdn.example".to_owned());
        return vec![Answer {
            alias,
            ..honest(question)
        }];
    }
    vec![honest(question)]
}

fn named(name: &str, v6: bool) -> Lookup {
    Lookup {
        name: name.to_owned(),
        ..lookup(0, "fresh", v6)
    }
}

#[test]
fn the_name_asked_decides_whatever_the_answer_looks_like() -> Result<()> {
    let fixture = Fixture::with_zone(zone)?;
    let steer = fixture.steer()?;
    for (turn, (who, client)) in (0u16..).zip(&mut fixture.clients()?) {
        let at = |number: u16| number + 10 * turn;
        for (lookup, first) in [
            (
                named(&format!("n{}.alias.fresh.example", at(1)), false),
                fresh(at(1), false),
            ),
            (
                named(&format!("N{}.FreSh.eXample", at(2)), true),
                fresh(at(2), true),
            ),
            (
                named(&format!("n{}.a.b.c.d.e.f.g.fresh.example", at(3)), false),
                fresh(at(3), false),
            ),
        ] {
            let name = lookup.name.clone();
            assert_eq!(resolve(client, lookup)?, [first], "{who}: {name}");
            let (_, path) = open(client, (first, PORT).into())?;
            assert_eq!(path, Path::Vpn, "{who}: {name}");
        }
    }
    steer.terminate().map(drop)
}

#[test]
fn every_address_of_a_large_answer_is_learned() -> Result<()> {
    let fixture = Fixture::with_zone(zone)?;
    let steer = fixture.steer()?;
    for (who, client) in &mut fixture.clients()? {
        let Told::Reached(reached) = client.ask(&Ask::Reach {
            lookups: vec![named("many.fresh.example", false)],
            port: PORT,
        })?
        else {
            bail!("{who} was told something else")
        };
        assert_eq!(reached.len(), 70, "{who}");
        for (address, seen) in reached {
            assert_eq!(
                seen.map(|seen| Path::of(seen.ip())),
                Ok(Path::Vpn),
                "{who} to {address}"
            );
        }
    }
    steer.terminate().map(drop)
}

#[test]
fn the_most_specific_rule_wins() -> Result<()> {
    let fixture = Fixture::up()?;
    let config = fixture.config() + "direct = [\"*.layers.fresh.example\", \"n7.fresh.example\"]\n";
    let config = config.replace(
        "\".fresh.example\"",
        "\".fresh.example\", \"n9.layers.fresh.example\"",
    );
    let steer = fixture.lab.steer(&config, &[])?;
    for (who, client) in &mut fixture.clients()? {
        for (name, path) in [
            ("n1.fresh.example", Path::Vpn),
            ("n7.fresh.example", Path::Direct),
            ("n8.layers.fresh.example", Path::Direct),
            ("n9.layers.fresh.example", Path::Vpn),
            ("n10.example", Path::Direct),
            ("n11.notfresh.example", Path::Direct),
        ] {
            let question = Question {
                name: name.to_owned(),
                v6: false,
            };
            let address = resolve(client, named(name, false))?;
            assert_eq!(address, [fresh(number(&question), false)], "{who}: {name}");
            let (_, seen) = open(client, server(number(&question), false))?;
            assert_eq!(seen, path, "{who}: {name}");
        }
    }
    steer.terminate().map(drop)
}
