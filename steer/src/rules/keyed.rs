//! A rule set under the hashes by which the kernel knows its rules.

use super::{By, RuleSet, TextPattern};
use std::collections::BTreeMap;
use steer_common::suffix::{Hasher, Key, hash_name};
use steer_common::types::RuleEntry;

/// The hashes of a rule set's rules, and the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// In the order of the hashes.
    entries: Vec<(u64, RuleEntry)>,
    /// Where in the set the domain of each entry is.
    places: Vec<u32>,
    /// Ranges of addresses, keywords and regular expressions, of which there are few.
    others: BTreeMap<u64, String>,
}

impl Keyed {
    /// Hashes all rules.
    ///
    /// # Errors
    /// Two have the same hash: try again with another key.
    pub fn new(rules: &RuleSet, key: &Key) -> Result<Self, HashCollision> {
        Self::by(rules, |by| hash(key, by))
    }

    pub(super) fn by(rules: &RuleSet, hash: impl Fn(By<'_>) -> u64) -> Result<Self, HashCollision> {
        let mut hashes: Vec<(u64, u32)> = rules
            .entries()
            .zip(0..)
            .map(|((name, _), place)| (hash(By::Domain(name)), place))
            .collect();
        hashes.sort_unstable();
        let domain = |place: u32| rules.domain(place as usize).unwrap_or_default().to_owned();
        if let Some([first, second]) = hashes.array_windows().find(|[a, b]| a.0 == b.0) {
            return Err(HashCollision {
                first: domain(first.1),
                second: domain(second.1),
            });
        }
        let entry = |&(hash, place): &(u64, u32)| Some((hash, rules.entry(place as usize)?));
        let mut keyed = Self {
            entries: hashes.iter().filter_map(entry).collect(),
            places: hashes.iter().map(|&(_, place)| place).collect(),
            others: BTreeMap::new(),
        };
        let nets = rules
            .nets()
            .map(|(net, judgement)| (judgement.by, net.to_string()));
        let texts = rules
            .texts()
            .map(|(text, judgement)| (judgement.by, text.to_string()));
        for (by, second) in nets.chain(texts) {
            let hash = hash(by);
            let first = match keyed.domain(rules, hash) {
                Some(name) => Some(name.to_owned()),
                None => keyed
                    .others
                    .insert(hash, second.clone())
                    // Two lists may have the same keyword.
                    .filter(|first| *first != second),
            };
            if let Some(first) = first {
                return Err(HashCollision { first, second });
            }
        }
        Ok(keyed)
    }

    /// The domains' verdicts as the kernel's map takes them, in the order of the hashes.
    pub fn entries(&self) -> &[(u64, RuleEntry)] {
        &self.entries
    }

    /// The rule of a hash, as a user would write it less its scope. `rules` are those that were hashed.
    pub fn rule<'a>(&'a self, rules: &'a RuleSet, hash: u64) -> Option<&'a str> {
        self.domain(rules, hash)
            .or_else(|| self.others.get(&hash).map(String::as_str))
    }

    /// The domain of a hash. `rules` are those that were hashed.
    pub fn domain<'a>(&self, rules: &'a RuleSet, hash: u64) -> Option<&'a str> {
        let index = self
            .entries
            .binary_search_by_key(&hash, |&(hash, _)| hash)
            .ok()?;
        rules.domain(*self.places.get(index)? as usize)
    }
}

/// The hash by which the kernel knows a rule.
pub fn hash(key: &Key, by: By<'_>) -> u64 {
    match by {
        By::Domain(name) => hash_name(key, name),
        By::Net(net) => hash_name(key, &net.to_string()),
        By::Text(text) => hash_text(key, text),
    }
}

/// Unlike a name's it tells capitals from small letters, which a regular expression does too (`\d` and `\D`).
fn hash_text(key: &Key, text: &TextPattern) -> u64 {
    let mut hasher = Hasher::new(key);
    for chunk in text.to_string().as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hasher.word(u64::from_le_bytes(word));
    }
    hasher.finish()
}

/// Two rules have the same hash under the key in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{first}\" and \"{second}\" have the same hash under this key; another key is needed")]
pub struct HashCollision {
    /// The rule that came first.
    pub first: String,
    /// The rule that met it.
    pub second: String,
}
