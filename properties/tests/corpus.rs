//! Every seed of the fuzz targets by the target's own property.

use std::{collections::BTreeSet, fs, path::PathBuf};

use steer_properties::TARGETS;

fn fuzz() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("it can be read").path());
    names
        .map(|path| {
            path.file_stem()
                .expect("it has a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

#[test]
fn every_property_has_a_fuzz_target_and_seeds() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("targets"), targets);
    assert_eq!(names("corpus"), targets);
}

#[test]
fn every_seed_has_its_property() {
    for (target, check) in TARGETS {
        let folder = fuzz().join("corpus").join(target);
        let mut seeds = 0;
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            // The name of the one that fails is the last line.
            println!("{}", path.display());
            check(&fs::read(&path).expect("it can be read"));
            seeds += 1;
        }
        assert!(seeds > 3, "{target} has {seeds} seeds");
    }
}
