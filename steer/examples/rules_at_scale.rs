//! What 10, 100,000 and 1,000,000 rules cost: time to load them, memory of the daemon and of the kernel.
//!
//! ```text
//! cargo run --release -p steer --example rules_at_scale
//! ```
//!
//! Needs what `steer run` needs: root and an object of `cargo xtask build-ebpf`. Nothing is attached.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use steer::config::{ConfigFile, Overrides, Settings};
use steer::datapath::{Datapath, Room};
use steer::progress::Unseen;
use steer::rules::Keyed;
use steer_common::suffix::Key;

fn main() -> Result<()> {
    if let Some(count) = std::env::args().nth(1) {
        return measure(count.parse().context("the number of rules")?);
    }
    println!(
        "{:>9}  {:>8}  {:>8}  {:>8}  {:>8}  {:>11}  {:>11}  {:>8}",
        "rules", "read", "hash", "insert", "in all", "daemon", "kernel", "a lookup"
    );
    for count in [10, 100_000, 1_000_000] {
        // In a process of its own, so that no memory of one size is taken over by the next.
        let ended = Command::new(std::env::current_exe()?)
            .arg(count.to_string())
            .status()?;
        anyhow::ensure!(ended.success(), "{count} rules: {ended}");
    }
    Ok(())
}

fn measure(count: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("list.txt");
    fs::write(&list, names(count))?;
    let flags = Overrides {
        no_presets: true,
        vpn_lists: vec![list],
        ..Overrides::default()
    };
    let mut datapath = Datapath::load(
        None,
        Room {
            rules: count,
            nets: 0,
            ..Room::default()
        },
    )?;

    let before = resident()?;
    let begun = Instant::now();
    let file = ConfigFile::parse(Path::new("steer.toml"), "")?;
    let settings = Settings::resolve(file, flags)?;
    let read = begun.elapsed();
    let keyed = Keyed::new(&settings.rules, &Key([1, 2]))?;
    let hashed = begun.elapsed();
    let after = resident()?;
    datapath.set_rules(keyed.entries(), &Unseen)?;
    let inserted = begun.elapsed();
    anyhow::ensure!(
        settings.rules.len() == count,
        "{} rules",
        settings.rules.len()
    );

    let begun = Instant::now();
    const LOOKUPS: u32 = 100_000;
    for number in 0..LOOKUPS {
        let name = format!("www.{}", name(number as usize % count));
        anyhow::ensure!(
            settings.rules.decide(&name).is_some(),
            "{name} is not found"
        );
    }
    let lookup = begun.elapsed() / LOOKUPS;

    println!(
        "{count:>9}  {:>8}  {:>8}  {:>8}  {:>8}  {:>7.1} MiB  {:>7.1} MiB  {:>5} ns",
        milliseconds(read),
        milliseconds(hashed - read),
        milliseconds(inserted - hashed),
        milliseconds(inserted),
        mebibytes(after.saturating_sub(before)),
        mebibytes(memory_of_rules(count)?),
        lookup.as_nanos()
    );
    Ok(())
}

/// So many names, in no order.
fn names(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = writeln!(text, "{}", name(number));
    }
    text
}

fn name(number: usize) -> String {
    // An odd factor permutes the numbers of 32 bits.
    let mixed = (number as u32).wrapping_mul(0x9e37_79b1);
    format!("host-{mixed:08x}.zone{}.example", number % 977)
}

/// Octets of this process in memory.
fn resident() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: usize = number(line.context("/proc/self/status has no VmRSS")?)?;
    Ok(kibibytes << 10)
}

/// Octets that the kernel says the map of the rules takes.
fn memory_of_rules(room: usize) -> Result<usize> {
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let told = fs::read_to_string(entry?.path()).unwrap_or_default();
        let value = |key| told.lines().find_map(|line| line.strip_prefix(key));
        let is_rules = value("key_size:").map(number::<usize>).transpose()? == Some(8)
            && value("value_size:").map(number::<usize>).transpose()? == Some(8)
            && value("max_entries:").map(number::<usize>).transpose()? == Some(room);
        if is_rules {
            return number(value("memlock:").context("the map has no memlock")?);
        }
    }
    anyhow::bail!("no map of the rules is open")
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(text: &str) -> Result<T> {
    let digits = text.trim().trim_end_matches("kB").trim_end();
    digits
        .parse()
        .with_context(|| format!("{text} is no number"))
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn mebibytes(octets: usize) -> f64 {
    octets as f64 / f64::from(1 << 20)
}
