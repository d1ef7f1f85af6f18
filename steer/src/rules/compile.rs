//! Rules to the entries that the kernel looks up.

use super::{Domain, Pattern, Rule, Scope, Verdict};
use crate::origin::Origin;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use steer_common::suffix::{Key, hash_name};
use steer_common::types::{self, RuleEntry};

/// What a rule set says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The path chosen.
    pub verdict: Verdict,
    /// The rule's place.
    pub origin: Origin,
    /// How narrowly the rule was written: of two at one name, the narrower is the more specific.
    scope: Scope,
}

/// The verdicts anchored at one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// For the domain itself.
    pub exact: Option<Judgement>,
    /// For every name below it that no longer suffix decides.
    pub below: Option<Judgement>,
}

/// Rules without contradictions, ready to be looked up by suffix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    entries: BTreeMap<Domain, Entry>,
}

impl RuleSet {
    /// Brings rules from all sources together.
    ///
    /// Of two rules about the same names, the one from the source of more authority holds (flag, file, preset), then the one
    /// written more narrowly (`example.com` against `.example.com`). Where presets contradict each other, `direct` holds.
    ///
    /// # Errors
    /// The user contradicts themselves: the same names with both verdicts, in one file or on one command line.
    pub fn compile(rules: impl IntoIterator<Item = Rule>) -> Result<Self, Conflict> {
        let mut entries: BTreeMap<Domain, Entry> = BTreeMap::new();
        for rule in rules {
            let entry = entries.entry(rule.pattern.domain.clone()).or_default();
            let scope = rule.pattern.scope;
            if scope != Scope::Below {
                settle(&mut entry.exact, &rule)?;
            }
            if scope != Scope::Exact {
                settle(&mut entry.below, &rule)?;
            }
        }
        Ok(Self { entries })
    }

    /// The verdict on a name, which may be in any case and end with a dot; none where no rule speaks of it.
    ///
    /// This is what the kernel must say too.
    pub fn decide(&self, name: &str) -> Option<&Judgement> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Some(judgement) = self
            .entries
            .get(name.as_str())
            .and_then(|entry| entry.exact.as_ref())
        {
            return Some(judgement);
        }
        let mut rest = name.as_str();
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(judgement) = self
                .entries
                .get(suffix)
                .and_then(|entry| entry.below.as_ref())
            {
                return Some(judgement);
            }
            rest = suffix;
        }
        None
    }

    /// The domains with their verdicts, in the alphabet's order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// What holds, as patterns: those of both verdicts that a user would write to get this rule set, in the alphabet's order.
    pub fn patterns(&self) -> Vec<(Pattern, &Judgement)> {
        let mut patterns = Vec::new();
        for (domain, entry) in &self.entries {
            let mut add = |scope, judgement| {
                patterns.push((
                    Pattern {
                        domain: domain.clone(),
                        scope,
                    },
                    judgement,
                ))
            };
            match (&entry.exact, &entry.below) {
                (Some(exact), Some(below))
                    if exact.verdict == below.verdict && exact.origin == below.origin =>
                {
                    add(Scope::Both, exact);
                }
                (exact, below) => {
                    exact
                        .iter()
                        .for_each(|judgement| add(Scope::Exact, judgement));
                    below
                        .iter()
                        .for_each(|judgement| add(Scope::Below, judgement));
                }
            }
        }
        patterns
    }

    /// How many domains carry a verdict: the number of entries that the kernel's map needs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is decided at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries as the kernel's map has them, under the hash of their names.
    ///
    /// # Errors
    /// Two names have the same hash: try again with another key.
    pub fn keyed(&self, key: &Key) -> Result<Vec<Keyed<'_>>, HashCollision> {
        self.keyed_by(|name| hash_name(key, name))
    }

    fn keyed_by(&self, hash: impl Fn(&str) -> u64) -> Result<Vec<Keyed<'_>>, HashCollision> {
        let mut names: HashMap<u64, &str> = HashMap::with_capacity(self.len());
        self.entries()
            .map(|(name, entry)| {
                let hash = hash(name);
                match names.insert(hash, name) {
                    None => Ok(Keyed { hash, name, entry }),
                    Some(other) => Err(HashCollision {
                        first: other.to_owned(),
                        second: name.to_owned(),
                    }),
                }
            })
            .collect()
    }
}

/// An entry under the hash of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed<'a> {
    /// The key of the kernel's map.
    pub hash: u64,
    /// The domain, which the kernel does not keep.
    pub name: &'a str,
    /// The verdicts there.
    pub entry: &'a Entry,
}

impl Entry {
    /// The verdicts as the kernel's map has them.
    pub fn kernel(&self) -> RuleEntry {
        let verdict = |judgement: &Option<Judgement>| match judgement
            .as_ref()
            .map(|judgement| judgement.verdict)
        {
            None => types::Verdict::NONE,
            Some(Verdict::Direct) => types::Verdict::DIRECT,
            Some(Verdict::Vpn) => types::Verdict::VPN,
        };
        RuleEntry {
            exact: verdict(&self.exact),
            below: verdict(&self.below),
        }
    }
}

/// The user gave both verdicts to the same names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{origin}: \"{pattern}\" is to go {verdict} here and {other_verdict} at {other}; keep one of the two"
)]
pub struct Conflict {
    pattern: String,
    verdict: Verdict,
    origin: Origin,
    other_verdict: Verdict,
    other: Origin,
}

/// Two names have the same hash under the key in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{first}\" and \"{second}\" have the same hash under this key; another key is needed")]
pub struct HashCollision {
    /// The name that came first.
    pub first: String,
    /// The name that met it.
    pub second: String,
}

/// Puts a rule into a slot, or leaves what holds it.
fn settle(slot: &mut Option<Judgement>, rule: &Rule) -> Result<(), Conflict> {
    let newcomer = Judgement {
        verdict: rule.verdict,
        origin: rule.origin.clone(),
        scope: rule.pattern.scope,
    };
    let Some(holder) = slot else {
        *slot = Some(newcomer);
        return Ok(());
    };
    let weight =
        |judgement: &Judgement| (judgement.origin.authority(), judgement.scope != Scope::Both);
    match weight(&newcomer).cmp(&weight(holder)) {
        Ordering::Greater => *slot = Some(newcomer),
        Ordering::Less => {}
        Ordering::Equal if newcomer.verdict == holder.verdict => {}
        Ordering::Equal if matches!(newcomer.origin, Origin::Preset { .. } | Origin::Default) => {
            if newcomer.verdict == Verdict::Direct {
                *slot = Some(newcomer);
            }
        }
        Ordering::Equal => {
            return Err(Conflict {
                pattern: rule.pattern.to_string(),
                verdict: rule.verdict,
                origin: rule.origin.clone(),
                other_verdict: holder.verdict,
                other: holder.origin.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
