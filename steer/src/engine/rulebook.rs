//! The rules under the key of this run, and back from a hash to the rule.

use std::{collections::HashMap, fs::File, io::Read as _};

use steer_common::{suffix::Key, types::RuleEntry};

use super::Error;
use crate::rules::RuleSet;

/// The rules as the kernel has them, and their names, which it has not.
#[derive(Debug)]
pub struct Rulebook {
    key: Key,
    entries: Vec<(u64, RuleEntry)>,
    names: HashMap<u64, String>,
}

impl Rulebook {
    /// Hashes the rules under a key under which all differ: the one that what is in the tables was hashed by, or a random
    /// one.
    pub(super) fn new(rules: &RuleSet, inherited: Option<Key>) -> Result<Self, Error> {
        // Two of a million names collide under one key in 37 million.
        const TRIES: u32 = 3;
        let mut inherited = inherited;
        let mut tries = 0;
        loop {
            let key = match inherited.take() {
                Some(key) => key,
                None => random_key().map_err(Error::Random)?,
            };
            match rules.keyed(&key) {
                Ok(keyed) => {
                    return Ok(Self {
                        key,
                        entries: keyed.iter().map(|k| (k.hash, k.entry.kernel())).collect(),
                        names: keyed.iter().map(|k| (k.hash, k.name.to_owned())).collect(),
                    });
                }
                Err(_) if tries < TRIES => tries += 1,
                Err(collision) => return Err(Error::Collision(collision)),
            }
        }
    }

    /// The key.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// The rules as the kernel's map takes them.
    pub(super) fn entries(&self) -> &[(u64, RuleEntry)] {
        &self.entries
    }

    /// The domain of a rule by its hash.
    pub fn domain(&self, hash: u64) -> Option<&str> {
        self.names.get(&hash).map(String::as_str)
    }
}

fn random_key() -> std::io::Result<Key> {
    let mut octets = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    let number = u128::from_ne_bytes(octets);
    Ok(Key([number as u64, (number >> 64) as u64]))
}
