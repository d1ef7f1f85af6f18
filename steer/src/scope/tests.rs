use super::*;
use crate::config::{ConfigFile, Overrides, Settings};
use crate::host::inventory::Endpoint;
use proptest::prelude::*;
use std::collections::HashMap;
use std::path::Path;

/// Each is its selector, as the file has it; by a line of its own, from 2 on.
fn scopes(selectors: &[&str]) -> Vec<Scope> {
    with_forwards(selectors, &[])
}

/// The same, of which the first forwards ports.
fn with_forwards(selectors: &[&str], forwards: &[&str]) -> Vec<Scope> {
    let mut text = "\n".to_owned();
    for (place, selector) in selectors.iter().enumerate() {
        let (key, value) = selector.split_once(' ').unwrap();
        let forwards = if place == 0 { forwards } else { &[] };
        text +=
            &format!("scope.{place}.{key} = \"{value}\"; scope.{place}.forward = {forwards:?}\n");
    }
    let lines = text.lines().skip(1).map(|line| {
        let keys = line
            .split("; ")
            .map(|key| key.splitn(3, '.').nth(2).unwrap());
        let keys: Vec<_> = keys.collect();
        format!("{{ dns = \"1.1.1.1\", {} }},\n", keys.join(", "))
    });
    let text = format!("scope = [\n{}]\n", lines.collect::<String>());
    let file = ConfigFile::parse(Path::new("steer.toml"), &text).unwrap();
    Settings::resolve(file, Overrides::default())
        .unwrap()
        .scopes
}
