//! Only the answer to a question that was asked teaches anything.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{Fixture, fresh, honest, lookup, number, open, resolve, server},
    lab::{Answer, Question, plan::Path},
};

/// Added to a number: the address that an answer with another id gives.
const OTHER_ID: u16 = 1000;
/// The address that an answer for another name gives.
const OTHER_NAME: u16 = 2000;
/// The address that a second answer gives, after the true one.
const SECOND: u16 = 3000;
/// The address that an answer gives to a question that nobody asked.
const UNASKED: u16 = 4000;

fn forged(question: &Question) -> Vec<Answer> {
    let to = |off| Answer::honest([fresh(number(question) + off, question.v6)]);
    let other_name = format!("other{}.fresh.example", number(question));
    vec![
        Answer {
            id_off: 1,
            ..to(OTHER_ID)
        },
        Answer {
            name: Some(other_name),
            ..to(OTHER_NAME)
        },
        honest(question),
        to(SECOND),
    ]
}

#[test]
fn forged_answers_teach_nothing() -> Result<()> {
    let fixture = Fixture::with_zone(forged)?;
    let steer = fixture.steer()?;
    for (turn, (who, client)) in (1u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            let number = 10 * turn;
            assert_eq!(
                resolve(client, lookup(number, "fresh", v6))?,
                [fresh(number, v6)]
            );

            let asked = fixture.resolver.asked();
            let (asker, question) = asked.last().context("the name server saw no question")?;
            let answer = Answer::honest([fresh(number + UNASKED, v6)]);
            let name = format!("n{}.fresh.example", number + UNASKED);
            let unasked = Question {
                name,
                ..question.clone()
            };
            fixture.resolver.send_unasked(*asker, &unasked, &answer)?;
            thread::sleep(Duration::from_millis(200));

            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(
                path,
                Path::Vpn,
                "{who}, v6 {v6}: the true answer taught nothing"
            );
            for (off, what) in [
                (OTHER_ID, "with another id"),
                (OTHER_NAME, "for another name"),
                (SECOND, "after the true one"),
                (UNASKED, "to no question"),
            ] {
                let (_, path) = open(client, server(number + off, v6))?;
                assert_eq!(
                    path,
                    Path::Direct,
                    "{who}, v6 {v6}: an answer {what} taught"
                );
            }
        }
    }
    // All of them passed the programs, or this would prove nothing.
    for (counter, least) in [
        ("dns_unasked", 12),
        ("dns_other_name", 4),
        ("dns_learned", 4),
    ] {
        let count = fixture.counter(counter)?;
        assert!(count >= least, "{counter} is {count}, not {least}");
    }
    steer.terminate().map(drop)
}

#[test]
fn another_process_cannot_teach() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    // Outside the steered cgroup and behind no steered bridge: its answers are its own affair.
    let mut bystander = fixture
        .lab
        .client_in(&fixture.lab.box_cgroup("bystander")?)?;
    resolve(&mut bystander, lookup(50, "fresh", false))?;
    assert_eq!(
        open(&mut bystander, server(50, false))?.1,
        Path::Direct,
        "the bystander"
    );
    for (who, client) in &mut fixture.clients()? {
        assert_eq!(open(client, server(50, false))?.1, Path::Direct, "{who}");
        assert_eq!(
            resolve(client, lookup(51, "fresh", false))?,
            [fresh(51, false)]
        );
        assert_eq!(open(client, server(51, false))?.1, Path::Vpn, "{who}");
    }
    assert_eq!(
        open(&mut bystander, server(51, false))?.1,
        Path::Direct,
        "the bystander, later"
    );
    steer.terminate().map(drop)
}
