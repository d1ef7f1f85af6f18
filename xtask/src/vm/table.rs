//! What came of all kernels, for people: a table of groups, one of programs, then each failure with what it printed.

use std::{collections::BTreeSet, fmt::Write as _};

use steer_tests::lab::grouped;

use super::outcome::{GroupOutcome, Outcome};

/// What is not known, or was not chosen.
const NOTHING: &str = "-";

/// The tables; `groups` are the names of all that were to run.
pub fn render(outcomes: &[Outcome], groups: &[String]) -> String {
    let mut head = vec!["kernel".to_owned()];
    head.extend(groups.iter().cloned());
    head.extend(["boot", "in all", "attach", "links pinned"].map(str::to_owned));
    let rows = outcomes.iter().map(|outcome| {
        let mut row = vec![outcome.kernel.clone()];
        row.extend(groups.iter().map(|name| {
            let found = outcome.groups.iter().find(|group| group.name == *name);
            found.map_or_else(|| "not run".to_owned(), cell)
        }));
        let or_nothing = |fact: &Option<String>| fact.clone().unwrap_or_else(|| NOTHING.to_owned());
        row.push(outcome.boot.map_or_else(|| "FAILED".to_owned(), clock));
        row.push(clock(outcome.seconds));
        row.push(or_nothing(&outcome.facts.attach));
        row.push(or_nothing(&outcome.facts.pinned_links));
        row
    });
    let mut text = align(&std::iter::once(head).chain(rows).collect::<Vec<_>>());

    let programs: BTreeSet<_> = outcomes
        .iter()
        .flat_map(|outcome| outcome.facts.verified.keys())
        .collect();
    if !programs.is_empty() {
        text.push('\n');
        text += &instructions(outcomes, &programs);
    }
    text += &notes(outcomes);
    text
}

/// A line for each program: how many instructions the verifier went through.
fn instructions(outcomes: &[Outcome], programs: &BTreeSet<&String>) -> String {
    let mut head = vec!["instructions verified".to_owned()];
    head.extend(outcomes.iter().map(|outcome| outcome.kernel.clone()));
    let rows = programs.iter().map(|program| {
        let mut row = vec![(*program).clone()];
        row.extend(
            outcomes
                .iter()
                .map(|outcome| match outcome.facts.verified.get(*program) {
                    Some(Some(count)) => grouped(*count),
                    Some(None) => "unknown".to_owned(),
                    None => NOTHING.to_owned(),
                }),
        );
        row
    });
    align(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// What a kernel's lack brings about, by steer's own words at its start and by the tests that are left out.
fn notes(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let facts = &outcome.facts;
        let said = facts.said.iter();
        let notes = said
            .filter_map(|line| line.strip_prefix("note "))
            .map(str::trim);
        let notes = notes.map(|note| format!("steer: {note}"));
        let left_out = facts
            .left_out
            .iter()
            .map(|it| format!("test left out: {it}"));
        let lines: Vec<_> = notes.chain(left_out).collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{}", outcome.kernel);
            quote(&mut text, &lines);
        }
    }
    text
}

/// Every failure: kernel, group, tests, and what they printed or the console's last lines. Empty when there is none.
pub fn failures(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let kernel = &outcome.kernel;
        for group in outcome.groups.iter().filter(|group| !group.passed()) {
            group_failures(&mut text, kernel, group);
        }
        if let Some(fault) = &outcome.fault {
            let during = outcome
                .groups
                .last()
                .filter(|group| group.seconds.is_none())
                .map_or(String::new(), |group| format!(", during {}", group.name));
            let _ = writeln!(text, "\n{kernel}{during}: {}", fault.what);
            if !fault.console.is_empty() {
                text += "  the last lines of its console:\n";
            }
            quote(&mut text, &fault.console);
        }
    }
    text
}

fn group_failures(text: &mut String, kernel: &str, group: &GroupOutcome) {
    let name = &group.name;
    if let Some(fault) = &group.fault {
        let _ = writeln!(text, "\n{kernel}, {name}: {fault}");
    }
    for failure in &group.failures {
        let _ = writeln!(text, "\n{kernel}, {name}: {} failed", failure.test);
        quote(text, &failure.output);
    }
}

/// The lines, or of more than can be read at a glance, as a verifier has to say, the first and the last.
fn quote(text: &mut String, lines: &[String]) {
    const FIRST: usize = 8;
    const LAST: usize = 32;
    let left_out = lines.len().saturating_sub(FIRST + LAST);
    let (first, rest) = lines.split_at(FIRST.min(lines.len()));
    for line in first {
        let _ = writeln!(text, "    {line}");
    }
    if left_out > 0 {
        let _ = writeln!(text, "    … {left_out} lines left out …");
    }
    for line in &rest[left_out..] {
        let _ = writeln!(text, "    {line}");
    }
}

fn cell(group: &GroupOutcome) -> String {
    let Some(seconds) = group.seconds else {
        return "cut short".to_owned();
    };
    let tally = group.tally;
    if group.passed() && tally.total() == 0 {
        return NOTHING.to_owned();
    }
    let verdict = if group.passed() {
        format!("{} ok", tally.passed())
    } else if tally.failed() > 0 {
        format!("{} of {} FAILED", tally.failed(), tally.total())
    } else {
        "FAILED".to_owned()
    };
    format!("{verdict} {}", clock(seconds))
}

/// Columns as wide as their widest cell.
fn align(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        let line = cells.collect::<Vec<_>>().join("  ");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Minutes and seconds.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    format!("{}:{:02}", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_quoted_by_its_ends() {
        let quoted = |count: usize| {
            let mut text = String::new();
            let lines: Vec<_> = (0..count).map(|line| format!("<{line}>")).collect();
            quote(&mut text, &lines);
            text
        };
        assert_eq!(quoted(3), "    <0>\n    <1>\n    <2>\n");
        assert_eq!(quoted(40).lines().count(), 40);
        let long = quoted(1000);
        assert!(
            long.contains("<7>\n    … 960 lines left out …\n    <968>"),
            "{long}"
        );
        assert!(long.ends_with("<999>\n"));
    }
    use crate::{
        tally::Tally,
        vm::outcome::{Facts, Failure, Fault},
    };

    fn group(name: &str, closing: &str, failed: &[&str]) -> GroupOutcome {
        let mut tally = Tally::default();
        tally.read(&format!("test result: {closing}"));
        let failure = |test: &&str| Failure {
            test: (*test).to_owned(),
            output: vec!["left: 1".to_owned()],
        };
        GroupOutcome {
            name: name.to_owned(),
            seconds: Some(72.0),
            tally,
            failures: failed.iter().map(failure).collect(),
            fault: None,
        }
    }

    fn outcomes() -> Vec<Outcome> {
        let verified = [("bridge_ingress".to_owned(), Some(59_123))].into();
        vec![
            Outcome {
                kernel: "5.10.262".to_owned(),
                seconds: 130.0,
                boot: Some(20.0),
                groups: vec![
                    group(
                        "programs",
                        "FAILED. 21 passed; 1 failed; 0 ignored",
                        &["flows::a"],
                    ),
                    GroupOutcome {
                        name: "routing".to_owned(),
                        ..GroupOutcome::default()
                    },
                ],
                fault: Some(Fault {
                    what: "the kernel panicked: sysrq".to_owned(),
                    console: vec!["Call Trace:".to_owned()],
                }),
                ..Outcome::default()
            },
            Outcome {
                kernel: "6.12.117".to_owned(),
                seconds: 61.0,
                boot: Some(18.4),
                groups: vec![
                    group("programs", "ok. 22 passed; 0 failed; 0 ignored", &[]),
                    group("routing", "ok. 9 passed; 0 failed; 0 ignored", &[]),
                ],
                facts: Facts {
                    attach: Some("tcx".to_owned()),
                    pinned_links: Some("yes".to_owned()),
                    verified,
                    left_out: vec!["flows::c: no such map".to_owned()],
                    said: ["note     clsact instead of tcx", "ready    after 9 ms"]
                        .map(str::to_owned)
                        .into(),
                },
                ..Outcome::default()
            },
        ]
    }

    #[test]
    fn each_kernel_has_a_line_and_each_program() {
        let groups = ["programs", "routing", "start"].map(str::to_owned);
        let expected = "\
kernel    programs             routing    start    boot  in all  attach  links pinned
5.10.262  1 of 22 FAILED 1:12  cut short  not run  0:20  2:10    -       -
6.12.117  22 ok 1:12           9 ok 1:12  not run  0:18  1:01    tcx     yes

instructions verified  5.10.262  6.12.117
bridge_ingress         -         59,123

6.12.117
    steer: clsact instead of tcx
    test left out: flows::c: no such map
";
        assert_eq!(render(&outcomes(), &groups), expected);
    }

    #[test]
    fn failures_name_kernel_group_and_test_and_quote_what_was_printed() {
        let expected = "
5.10.262, programs: flows::a failed
    left: 1

5.10.262, during routing: the kernel panicked: sysrq
  the last lines of its console:
    Call Trace:
";
        assert_eq!(failures(&outcomes()), expected);
        assert_eq!(failures(&outcomes()[1..]), "");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [7, 999, 1_000, 59_123, 1_000_000].map(grouped),
            ["7", "999", "1,000", "59,123", "1,000,000"]
        );
    }
}
