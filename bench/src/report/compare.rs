//! What is different from an older report.

use std::fmt::Write as _;

use super::{
    model::{Better, Record, Report},
    statistics::{Summary, digits},
};

/// What became of one thing.
#[derive(Clone, Debug, PartialEq)]
struct Change<'a> {
    record: &'a Record,
    before: Summary,
    now: Summary,
}

impl Change<'_> {
    /// How often the old value goes into the new one.
    fn ratio(&self) -> f64 {
        self.now.median / self.before.median
    }

    /// What to make of it: better or worse only where the ranges have nothing in common.
    fn verdict(&self) -> &'static str {
        if !self.is_beyond() {
            return "within the range";
        }
        let more = self.now.median > self.before.median;
        if more == (self.record.better == Better::Higher) {
            "better"
        } else {
            "WORSE"
        }
    }

    /// Whether the ranges have nothing in common.
    fn is_beyond(&self) -> bool {
        !assumed(self.now).overlaps(&assumed(self.before))
    }

    /// How far it is from what it was, either way.
    fn distance(&self) -> f64 {
        self.ratio().ln().abs()
    }
}

/// Writes it as Markdown: what changed beyond its range first and the furthest of those at the top, then how much was as before.
pub fn render(old: &Report, new: &Report) -> String {
    let mut text = format!(
        "# What changed since {}\n\nMedians of {} and {} rounds. A difference counts where the ranges have no value in common; that of a single round is taken for a quarter either way.\n",
        old.date, old.rounds, new.rounds
    );
    if old.quick || new.quick {
        text.push_str("\nA quick run's figures say little.\n");
    }
    if old.machine != new.machine {
        text.push_str("\nThe machines or what they were doing differ:\n\n");
        for ((name, before), (_, now)) in old.machine.facts().iter().zip(new.machine.facts()) {
            if *before != now {
                let _ = writeln!(text, "- {name}: {before} → {now}");
            }
        }
    }
    let changes = changes(&old.records, &new.records);
    let (mut beyond, within): (Vec<_>, Vec<_>) =
        changes.iter().partition(|change| change.is_beyond());
    beyond.sort_by(|a, b| b.distance().total_cmp(&a.distance()));
    if !beyond.is_empty() {
        text.push_str("\n| | | before | now | | |\n| --- | --- | ---: | ---: | ---: | --- |\n");
    }
    for change in &beyond {
        let _ = writeln!(
            text,
            "| {}: {} | {} | {} | {} {} | ×{:.2} | {} |",
            change.record.group,
            name(change.record),
            change.record.contender.as_deref().unwrap_or_default(),
            range(&change.before),
            range(&change.now),
            change.record.unit,
            change.ratio(),
            change.verdict()
        );
    }
    let _ = writeln!(
        text,
        "\n{} of {} within their ranges.",
        within.len(),
        changes.len()
    );
    let missing = |of: &[Record], among: &[Record]| -> usize {
        let known = |record: &&Record| !among.iter().any(|other| other.same_thing(record));
        of.iter().filter(known).count()
    };
    let _ = writeln!(
        text,
        "{} measured only before, {} only now.",
        missing(&old.records, &new.records),
        missing(&new.records, &old.records)
    );
    text
}

fn changes<'a>(old: &[Record], new: &'a [Record]) -> Vec<Change<'a>> {
    let change = |record: &'a Record| {
        let before = old.iter().find(|other| other.same_thing(record))?;
        Some(Change {
            record,
            before: Summary::of(before)?,
            now: Summary::of(record)?,
        })
    };
    new.iter().filter_map(change).collect()
}

/// A range; of one round, which has none, a quarter either way.
fn assumed(of: Summary) -> Summary {
    if of.min < of.max {
        return of;
    }
    Summary {
        min: of.min * 0.75,
        max: of.max * 1.25,
        ..of
    }
}

fn name(record: &Record) -> String {
    match record.size {
        Some(size) => format!("{} at {}", record.title, steer_tests::lab::grouped(size)),
        None => record.title.clone(),
    }
}

fn range(summary: &Summary) -> String {
    let median = digits(summary.median);
    if summary.min < summary.max {
        let (min, max) = (digits(summary.min), digits(summary.max));
        format!("{median} ({min}–{max})")
    } else {
        median
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::machine::Machine;

    fn record(what: &str, better: Better, samples: &[f64]) -> Record {
        Record {
            group: "bulk".to_owned(),
            what: what.to_owned(),
            title: what.to_owned(),
            unit: "x".to_owned(),
            better,
            contender: Some("steer".to_owned()),
            size: None,
            samples: samples.to_vec(),
        }
    }

    fn report(records: Vec<Record>) -> Report {
        Report {
            date: "then".to_owned(),
            quick: false,
            rounds: 2,
            machine: Machine::default(),
            versions: [].into(),
            notes: Vec::new(),
            records,
        }
    }

    #[test]
    fn only_what_leaves_its_range_has_changed() {
        let old = report(vec![
            record("speed", Better::Higher, &[10.0, 12.0]),
            record("delay", Better::Lower, &[10.0, 12.0]),
            record("noise", Better::Lower, &[10.0, 12.0]),
            record("gone", Better::Lower, &[1.0]),
            record("once", Better::Lower, &[1.0]),
        ]);
        let new = report(vec![
            record("speed", Better::Higher, &[20.0, 24.0]),
            record("delay", Better::Lower, &[40.0, 48.0]),
            record("noise", Better::Lower, &[11.0, 30.0]),
            record("once", Better::Lower, &[1.2]),
        ]);
        let text = render(&old, &new);
        let lines: Vec<_> = text.lines().filter(|line| line.contains("bulk")).collect();
        assert_eq!(
            lines,
            [
                "| bulk: delay | steer | 11.0 (10.0–12.0) | 44.0 (40.0–48.0) x | ×4.00 | WORSE |",
                "| bulk: speed | steer | 11.0 (10.0–12.0) | 22.0 (20.0–24.0) x | ×2.00 | better |",
            ]
        );
        assert!(text.contains("2 of 4 within their ranges."), "{text}");
        assert!(
            text.contains("1 measured only before, 0 only now."),
            "{text}"
        );
    }
}
