//! A report as Markdown: a table for each group.

use std::fmt::Write as _;

use super::{
    model::{Better, Record, Report},
    plot::Picture,
    statistics::{Summary, digits},
};

/// Whom the others are compared to.
pub const LIMIT: &str = "nothing";

/// Writes it, with the pictures below the tables of their groups.
pub fn render(report: &Report, pictures: &[Picture]) -> String {
    let mut text = String::from("# What steer costs\n\n");
    let kind = if report.quick {
        "A quick run: that everything runs, never how fast it is. "
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "{kind}{}; {} round{}. Medians, in brackets the lowest and the highest of the rounds; × is the ratio to nothing at all.",
        report.date,
        report.rounds,
        if report.rounds == 1 { "" } else { "s" },
    );
    text.push_str("\n| machine | |\n| --- | --- |\n");
    let versions = report.versions.iter();
    let versions = versions.map(|(name, version)| (name.as_str(), version.clone()));
    for (name, value) in report.machine.facts().into_iter().chain(versions) {
        let _ = writeln!(text, "| {name} | {} |", escaped(&value));
    }
    if !report.notes.is_empty() {
        text.push('\n');
        for note in &report.notes {
            let _ = writeln!(text, "- {}", note.replace('\n', " "));
        }
    }
    for group in distinct(&report.records, |record| &record.group) {
        let of_group = report.records.iter().filter(|it| it.group == group);
        let records: Vec<_> = of_group.collect();
        let _ = writeln!(text, "\n## {group}\n");
        let (curves, table): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| record.size.is_some());
        if !table.is_empty() {
            text.push_str(&comparison(&table));
        }
        if !curves.is_empty() {
            text.push_str(&by_size(&curves));
        }
        for Picture { file, .. } in pictures.iter().filter(|it| it.group == group) {
            let _ = writeln!(text, "\n![{group}]({file})");
        }
    }
    text
}

/// The values that `of` gives, each once, in their first order.
pub fn distinct<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    of: impl Fn(&'a Record) -> &'a str,
) -> Vec<&'a str> {
    let mut values = Vec::new();
    for record in records {
        let value = of(record);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// A line for each measurement, a column for each contender.
fn comparison(records: &[&Record]) -> String {
    let contender = |record: &&Record| record.contender.clone().unwrap_or_default();
    let mut contenders: Vec<String> = Vec::new();
    for record in records {
        let name = contender(record);
        if !contenders.contains(&name) {
            contenders.push(name);
        }
    }
    contenders.sort_by_key(|name| (name != LIMIT, name != "steer"));
    let heads: Vec<_> = contenders
        .iter()
        .map(|name| if name.is_empty() { "value" } else { name })
        .collect();
    let mut text = format!(
        "| | unit | {} |\n| --- | --- |{}\n",
        heads.join(" | "),
        " ---: |".repeat(heads.len())
    );
    let find = |what: &str, name: &String| {
        let of_both = |it: &&&Record| it.what == what && contender(it) == *name;
        records.iter().find(of_both).and_then(|it| Summary::of(it))
    };
    for what in distinct(records.iter().copied(), |record| &record.what) {
        let Some(one) = records.iter().find(|it| it.what == what) else {
            continue;
        };
        let limit = find(what, &LIMIT.to_owned());
        let _ = write!(
            text,
            "| {} | {}{} |",
            escaped(&one.title),
            escaped(&one.unit),
            arrow(one.better)
        );
        for name in &contenders {
            let cell = find(what, name).map_or("n/a".to_owned(), |summary| {
                let reference = limit.filter(|_| name != LIMIT);
                with_ratio(&summary, reference.as_ref())
            });
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

/// A line for each size, a column for each curve.
fn by_size(records: &[&Record]) -> String {
    let name = |record: &Record| match &record.contender {
        Some(contender) => format!("{}, {contender}", record.title),
        None => record.title.clone(),
    };
    let mut sizes: Vec<_> = records.iter().filter_map(|it| it.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut curves: Vec<(String, &Record)> = Vec::new();
    for record in records {
        if !curves.iter().any(|(known, _)| *known == name(record)) {
            curves.push((name(record), record));
        }
    }
    let mut text = "| size |".to_owned();
    for (name, one) in &curves {
        let (name, unit) = (escaped(name), escaped(&one.unit));
        let _ = write!(text, " {name} ({unit}{}) |", arrow(one.better));
    }
    let _ = writeln!(text, "\n| ---: |{}", " ---: |".repeat(curves.len()));
    for size in sizes {
        let _ = write!(text, "| {} |", steer_tests::lab::grouped(size));
        for (curve, _) in &curves {
            let of_both = |it: &&&Record| it.size == Some(size) && name(it) == *curve;
            let found = records.iter().find(of_both).and_then(|it| Summary::of(it));
            let cell = found.map_or("n/a".to_owned(), |it| with_ratio(&it, None));
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => " ↑",
        Better::Lower => " ↓",
    }
}

fn with_ratio(summary: &Summary, limit: Option<&Summary>) -> String {
    let mut cell = digits(summary.median);
    if summary.min < summary.max {
        let _ = write!(cell, " ({}–{})", digits(summary.min), digits(summary.max));
    }
    if let Some(limit) = limit.filter(|it| it.median > 0.0) {
        let _ = write!(cell, " ×{:.2}", summary.median / limit.median);
    }
    cell
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::machine::Machine;

    fn record(what: &str, contender: Option<&str>, size: Option<u64>, samples: &[f64]) -> Record {
        Record {
            group: "bulk".to_owned(),
            what: what.to_owned(),
            title: format!("the {what}"),
            unit: "Gbit/s".to_owned(),
            better: Better::Higher,
            contender: contender.map(str::to_owned),
            size,
            samples: samples.to_vec(),
        }
    }

    fn rendered(records: Vec<Record>) -> String {
        let picture = Picture {
            group: "bulk".to_owned(),
            file: "bulk.svg".to_owned(),
            svg: String::new(),
        };
        let report = Report {
            date: "today".to_owned(),
            quick: false,
            rounds: 3,
            machine: Machine::default(),
            versions: [("squid".to_owned(), "5.7".to_owned())].into(),
            notes: vec!["a note".to_owned()],
            records,
        };
        render(&report, &[picture])
    }

    #[test]
    fn contenders_stand_beside_each_other() {
        let text = rendered(vec![
            record("download", Some("steer"), None, &[9.0, 8.0, 10.0]),
            record("download", Some("nothing"), None, &[10.0]),
            record("upload", Some("nothing"), None, &[5.0]),
        ]);
        for line in [
            "| squid | 5.7 |",
            "- a note",
            "## bulk",
            "| | unit | nothing | steer |",
            "| the download | Gbit/s ↑ | 10.0 | 9.00 (8.00–10.0) ×0.90 |",
            "| the upload | Gbit/s ↑ | 5.00 | n/a |",
            "![bulk](bulk.svg)",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_curve_has_a_line_for_each_size() {
        let text = rendered(vec![
            record("a", None, Some(1000), &[2.0]),
            record("a", None, Some(10), &[1.0]),
            record("b", None, Some(10), &[3.0]),
        ]);
        for line in [
            "| size | the a (Gbit/s ↑) | the b (Gbit/s ↑) |",
            "| 10 | 1.00 | 3.00 |",
            "| 1,000 | 2.00 | n/a |",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
