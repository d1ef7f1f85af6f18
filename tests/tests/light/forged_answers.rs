//! Only the answer to a question that was asked teaches anything.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{Forged, Shared, fresh, lookup, open, resolve, server},
    lab::{Answer, Question, plan::Path},
    pace::patience,
};

#[test]
fn forged_answers_teach_nothing() -> Result<()> {
    let mut lab = Shared::steered()?;
    let counters = ["dns_unasked", "dns_other_name", "dns_learned"];
    let count = |lab: &Shared| -> Result<Vec<u64>> {
        counters.iter().map(|name| lab.counter(name)).collect()
    };
    let before = count(&lab)?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(5)?;
            let learned = resolve(client, lookup(number, "forged.fresh", v6))?;
            assert_eq!(learned, [fresh(number, v6)]);

            let asked = lab.resolver.asked();
            let (asker, question) = asked.last().context("the name server saw no question")?;
            let unasked = Forged::Unasked.number(number);
            let answer = Answer::honest([fresh(unasked, v6)]);
            let unasked = Question {
                name: format!("n{unasked}.fresh.example"),
                ..question.clone()
            };
            lab.resolver.send_unasked(*asker, &unasked, &answer)?;
            thread::sleep(patience(Duration::from_millis(100)));

            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}: the true answer");
            for what in Forged::ALL {
                let (_, path) = open(client, server(what.number(number), v6))?;
                assert_eq!(path, Path::Direct, "{who}, v6 {v6}: {what:?} taught");
            }
        }
    }
    // All of them passed the programs, or this would prove nothing.
    let after = count(&lab)?;
    for (turn, least) in [12, 4, 4].into_iter().enumerate() {
        let more = after[turn] - before[turn];
        let counter = counters[turn];
        assert!(more >= least, "{counter} rose by {more}, not {least}");
    }
    lab.done()
}

#[test]
fn another_process_cannot_teach() -> Result<()> {
    let mut lab = Shared::steered()?;
    let (theirs, ours) = (lab.numbers(1)?, lab.numbers(1)?);
    // Outside the steered cgroup and behind no steered bridge: its answers are its own affair.
    let mut bystander = lab.lab.client_in(&lab.lab.box_cgroup("bystander")?)?;
    resolve(&mut bystander, lookup(theirs, "fresh", false))?;
    let (_, path) = open(&mut bystander, server(theirs, false))?;
    assert_eq!(path, Path::Direct, "the bystander");
    for (who, client) in &mut lab.clients()? {
        let (_, path) = open(client, server(theirs, false))?;
        assert_eq!(path, Path::Direct, "{who}");
        let learned = resolve(client, lookup(ours, "fresh", false))?;
        assert_eq!(learned, [fresh(ours, false)]);
        let (_, path) = open(client, server(ours, false))?;
        assert_eq!(path, Path::Vpn, "{who}");
    }
    let (_, path) = open(&mut bystander, server(ours, false))?;
    assert_eq!(path, Path::Direct, "the bystander, later");
    lab.done()
}
