//! Other rules while steer runs: read apart, put in force at once, or nothing at all.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use steer_tests::{
    fixture::{Fixture, Shared, exchange, lookup, open, resolve, server},
    lab::{Client, HostSnapshot, Steer, plan::Path},
    pace::{asked, patience, times},
};

const BYTES: usize = 30_000;

/// The fixture's configuration with other rules for the VPN.
fn with_rules(lab: &Shared, vpn: &[String]) -> String {
    let vpn: String = vpn.iter().map(|name| format!("\"{name}\", ")).collect();
    let config = lab.config();
    let (before, rest) = config.split_once("vpn = [\"").unwrap_or_default();
    let (_, after) = rest.split_once(']').unwrap_or_default();
    format!("{before}vpn = [{vpn}]{after}")
}

/// The fixture's configuration with a list besides.
fn with_list(lab: &Shared, list: &std::path::Path) -> String {
    let lists = format!("[rules]\nlists = [{{ path = \"{}\" }}]\n", list.display());
    lab.config().replace("[rules]\n", &lists)
}

/// Waits until steer has said that it took over other rules, the `count`th time.
fn taken_over(steer: &Steer, count: usize) -> Result<()> {
    said_times(steer, "reloaded ", count)
}

fn said_times(steer: &Steer, what: &str, count: usize) -> Result<()> {
    for _ in 0..200 {
        let said = steer.output();
        if said.lines().filter(|line| line.contains(what)).count() >= count {
            return Ok(());
        }
        thread::sleep(patience(Duration::from_millis(50)));
    }
    let said = steer.output();
    ensure!(
        false,
        "steer has not said \"{what}\" {count} times:\n{said}"
    );
    Ok(())
}

/// Which path a connection is on, by the tunnel's count.
fn is_on(lab: &Fixture, client: &mut Client, connection: usize) -> Result<Path> {
    let through = lab.through_tunnel(|| exchange(client, connection, BYTES))?;
    Ok(if through > 2 * BYTES as u64 {
        Path::Vpn
    } else {
        Path::Direct
    })
}

#[test]
fn a_changed_file_is_taken_over_without_a_signal() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let steer = lab.steer()?;
    let more = with_rules(
        &lab,
        &[".fresh.example", ".plain.example"].map(str::to_owned),
    );
    let file = steer.config()?;
    for (count, by_rename) in [(1, false), (2, true)] {
        let number = lab.numbers(1)?;
        // As the first change left it, there is nothing to add.
        let config = if by_rename {
            lab.config()
        } else {
            more.clone()
        };
        if by_rename {
            let new = file.with_extension("new");
            fs::write(&new, &config)?;
            fs::rename(&new, file)?;
        } else {
            fs::write(file, &config)?;
        }
        taken_over(&steer, count)?;
        let right = if by_rename { Path::Direct } else { Path::Vpn };
        for (who, client) in &mut lab.clients()? {
            resolve(client, lookup(number, "plain", false))?;
            let (_, path) = open(client, server(number, false))?;
            assert_eq!(
                path,
                right,
                "{who}, by rename: {by_rename}: {}",
                steer.output()
            );
        }
        lab.steers()?;
    }
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

#[test]
fn a_list_that_changes_is_taken_over_and_one_that_goes_changes_nothing() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("blocked.txt");
    fs::write(&list, "a.plain.example\n")?;
    let steer = lab.lab.steer(&with_list(&lab, &list), &[])?;
    let number = lab.numbers(1)?;
    let all_take = |right| -> Result<()> {
        for (who, client) in &mut lab.clients()? {
            resolve(client, lookup(number, "plain", false))?;
            let (_, path) = open(client, server(number, false))?;
            assert_eq!(path, right, "{who}: {}", steer.output());
        }
        Ok(())
    };
    all_take(Path::Direct)?;
    fs::write(
        &list,
        "a.plain.example\nb.plain.example\nplain.example\nnot a name\n",
    )?;
    taken_over(&steer, 1)?;
    steer.wait_said("passed over: ")?;
    all_take(Path::Vpn)?;
    fs::remove_file(&list)?;
    said_times(&steer, "not reloaded, the rules stay as they were: ", 1)?;
    all_take(Path::Vpn)?;
    steer.terminate()?;
    lab.done()
}

#[test]
fn a_bad_file_changes_nothing_and_is_told() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let mut steer = lab.steer()?;
    let file = steer.config()?.to_owned();
    let bad = [".fresh.example", "two words.example"].map(str::to_owned);
    fs::write(&file, with_rules(&lab, &bad))?;
    said_times(&steer, "not reloaded, the rules stay as they were: ", 1)?;
    let said = steer.output();
    let place = format!("{}:9", file.display());
    assert!(
        said.contains(&place) && said.contains("two words"),
        "{said}"
    );
    lab.steers()?;
    fs::remove_file(&file)?;
    said_times(&steer, "not reloaded, the rules stay as they were: ", 2)?;
    lab.steers()?;
    fs::write(&file, lab.config())?;
    taken_over(&steer, 1)?;
    lab.steers()?;
    steer.still_runs()?;
    steer.terminate()?;
    lab.done()
}

#[test]
fn what_was_learned_is_decided_anew_and_flows_keep_their_path() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let steer = lab.steer()?;
    let file = steer.config()?;
    let (number, direct) = (lab.numbers(1)?, lab.numbers(1)?);
    let mut clients = lab.clients()?;
    let mut early = Vec::new();
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            resolve(client, lookup(number, "fresh", v6))?;
            let (connection, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            early.push(connection);
            resolve(client, lookup(direct, "layers.fresh", v6))?;
            let (_, path) = open(client, server(direct, v6))?;
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}: by a rule");
        }
    }
    // The first by no rule any more, the second by one for the VPN.
    let other = with_rules(&lab, &[".other.example".to_owned()])
        .replace("\"*.layers.fresh.example\", ", "");
    let other = other.replace("\".other.example\"", "\"*.layers.fresh.example\"");
    fs::write(file, other)?;
    steer.hang_up()?;
    taken_over(&steer, 1)?;
    for (early, (who, client)) in early.chunks(2).zip(&mut clients) {
        for (&early, v6) in early.iter().zip([false, true]) {
            for (number, right) in [(number, Path::Direct), (direct, Path::Vpn)] {
                let (_, path) = open(client, server(number, v6))?;
                assert_eq!(path, right, "{who}, v6 {v6}: {}", steer.output());
            }
            assert_eq!(is_on(&lab, client, early)?, Path::Vpn, "{who}, v6 {v6}");
        }
    }
    let said = steer.terminate()?;
    assert!(said.contains("2 decided anew and 2 let go"), "{said}");
    lab.done()
}

/// Has a client look up names and connect to them until it is told to stop; counts the rounds.
fn go_on(
    client: &mut Client,
    numbers: (u16, u16),
    stop: &AtomicBool,
    rounds: &AtomicUsize,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        for v6 in [false, true] {
            for (number, zone, right) in [
                (numbers.0, "fresh", Path::Vpn),
                (numbers.1, "plain", Path::Direct),
            ] {
                resolve(client, lookup(number, zone, v6))?;
                let (connection, path) = open(client, server(number, v6))?;
                let round = rounds.load(Ordering::Relaxed);
                ensure!(path == right, "{zone}, v6 {v6}, round {round}: {path:?}");
                exchange(client, connection, 100)?;
            }
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[test]
fn under_traffic_no_flow_takes_a_wrong_path() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("list.txt");
    fs::write(&list, "n0.list.example\n")?;
    let steer = lab.lab.steer(&with_list(&lab, &list), &[])?;
    let count = asked("STEER_TEST_NAMES", 20_000)?;
    let more: String = (0..count).map(|n| format!("n{n}.list.example\n")).collect();
    let less = "n0.list.example\n";
    let mut clients = lab.clients()?;
    let numbers = [
        (lab.numbers(1)?, lab.numbers(1)?),
        (lab.numbers(1)?, lab.numbers(1)?),
    ];
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let reloads = usize::from(times(20));
    thread::scope(|scope| {
        let busy: Vec<_> = clients
            .iter_mut()
            .zip(numbers)
            .map(|((_, client), numbers)| {
                let (stop, rounds) = (&stop, &rounds);
                scope.spawn(move || go_on(client, numbers, stop, rounds))
            })
            .collect();
        let reloaded = (1..=reloads).try_for_each(|count| {
            fs::write(&list, if count % 2 == 0 { less } else { &more })?;
            steer.hang_up()?;
            taken_over(&steer, count)
        });
        stop.store(true, Ordering::Relaxed);
        for busy in busy {
            busy.join().expect("a client's thread")?;
        }
        reloaded
    })?;
    let said = steer.output();
    let told = said.lines().filter(|line| line.starts_with("reloaded "));
    told.clone().for_each(|line| println!("{line}"));
    // A file half written would have another number.
    let counts: BTreeSet<_> = told.map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(counts.len(), 2, "{said}");
    let rounds = rounds.into_inner();
    assert!(rounds >= reloads, "{rounds} rounds in {reloads} reloads");
    let wrong: Vec<_> = lab
        .contacts()
        .into_iter()
        .filter(|contact| {
            let listed = numbers.iter().any(|(listed, _)| {
                [false, true]
                    .map(|v6| server(*listed, v6))
                    .contains(&contact.server)
            });
            contact.path() != if listed { Path::Vpn } else { Path::Direct }
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    steer.terminate()?;
    lab.done()
}

#[test]
fn the_next_run_after_a_kill_goes_on_by_the_rules_taken_over() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let steer = lab.steer()?;
    let number = lab.numbers(1)?;
    let other = with_rules(&lab, &[".plain.example".to_owned()]);
    fs::write(steer.config()?, &other)?;
    steer.hang_up()?;
    taken_over(&steer, 1)?;
    for (who, client) in &mut lab.clients()? {
        resolve(client, lookup(number, "plain", false))?;
        let (_, path) = open(client, server(number, false))?;
        assert_eq!(path, Path::Vpn, "{who}");
    }
    steer.kill()?;
    let pins = lab.lab.steer_bpffs();
    let pins = pins.to_str().context("the lab's folder is not UTF-8")?;
    let rules = lab.in_box(&format!("bpftool map dump pinned {pins}/RULES"))?;
    // Those for the VPN, and the two of every configuration here for the direct path.
    assert_eq!(rules.matches("\"key\"").count(), 3, "{rules}");
    assert!(rules.contains("\"below\""), "{rules}");
    let steer = lab.lab.steer(&other, &[])?;
    let said = steer.output();
    assert!(said.contains("adopted what a killed run left: "), "{said}");
    for (who, client) in &mut lab.clients()? {
        let (_, path) = open(client, server(number, false))?;
        assert_eq!(path, Path::Vpn, "{who}: {said}");
    }
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
