//! Every test that docs/conformance.md names is there, and where its column says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const COLUMNS: [&[&str]; 3] = [
    &[
        "properties",
        "steer-common",
        "steer/src",
        "steer/tests/cli.rs",
        "steer/tests/hello",
    ],
    &["steer/tests"],
    &["tests/tests"],
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a folder, as their paths from the root, that are sources.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).expect("a folder of sources") {
        let name = folder.join(entry.expect("it can be read").file_name());
        if root().join(&name).is_dir() {
            sources(&name, found);
        } else if name.extension().is_some_and(|extension| extension == "rs") {
            found.push(name);
        }
    }
}

/// The tests of a source: functions with an attribute `test` or `…::test` right above them.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let mut names = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let name = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ");
        let Some((name, _)) = name.and_then(|rest| rest.split_once('(')) else {
            continue;
        };
        let above = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#["));
        if above.into_iter().any(|line| line.contains("test]")) {
            names.push(name);
        }
    }
    names.into_iter()
}

#[test]
fn every_test_of_the_table_is_there() {
    let mut files = Vec::new();
    for folder in ["properties", "steer", "steer-common", "tests"] {
        sources(Path::new(folder), &mut files);
    }
    let mut places = BTreeMap::<String, Vec<PathBuf>>::new();
    for file in &files {
        let text = fs::read_to_string(root().join(file)).expect("a source is text");
        for test in tests(&text) {
            places
                .entry(test.to_owned())
                .or_default()
                .push(file.clone());
        }
    }
    let table = fs::read_to_string(root().join("docs/conformance.md")).expect("the table");
    let mut faults = Vec::new();
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"));
    for row in rows.filter(|row| !row.starts_with("| what |")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 1 + COLUMNS.len(), "{row}");
        let mut proven = false;
        for (cell, folders) in cells[1..].iter().zip(COLUMNS) {
            for name in cell.split('`').skip(1).step_by(2) {
                proven = true;
                let there = places.get(name).into_iter().flatten();
                let mut fits = there.filter(|place| folders.iter().any(|f| place.starts_with(f)));
                if fits.next().is_none() {
                    faults.push(format!("{name} is not in {}", folders.join(" or ")));
                }
            }
        }
        if !proven {
            faults.push(format!("no test is named:{}", cells[0]));
        }
    }
    assert!(
        faults.is_empty(),
        "docs/conformance.md:\n{}",
        faults.join("\n")
    );
}
