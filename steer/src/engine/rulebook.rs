//! The rules under the key of this run, and back from a hash to the rule.

use std::{fs::File, io::Read as _, sync::Arc};

use steer_common::{
    decide::Match,
    suffix::Key,
    types::{Address, NetEntry, RuleEntry, V4_PREFIX, Verdict},
};

use super::Error;
use crate::{
    datapath::{Net, Room, Tables},
    rules::{Judgement, Keyed, RuleSet, Subject, rule_hash},
};

/// The rules as the kernel has them, and their names, which it has not.
#[derive(Debug)]
pub struct Rulebook {
    key: Key,
    rules: Arc<RuleSet>,
    keyed: Keyed,
}

/// What a rule says, as the maps have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The path.
    pub verdict: Verdict,
    /// The rule's hash.
    pub rule: u64,
}

impl From<Ruling> for Match {
    fn from(ruling: Ruling) -> Self {
        let Ruling { verdict, rule } = ruling;
        Self { verdict, rule }
    }
}

impl Rulebook {
    /// Hashes the rules under a key under which all differ: the one that what is in the tables was hashed by, or a random
    /// one.
    pub(crate) fn new(rules: Arc<RuleSet>, inherited: Option<Key>) -> Result<Self, Error> {
        // Two of a million names collide under one key in 37 million.
        const TRIES: u32 = 3;
        let mut inherited = inherited;
        let mut tries = 0;
        loop {
            let key = match inherited.take() {
                Some(key) => key,
                None => random_key().map_err(Error::Random)?,
            };
            match Keyed::new(&rules, &key) {
                Ok(keyed) => return Ok(Self { key, rules, keyed }),
                Err(_) if tries < TRIES => tries += 1,
                Err(collision) => return Err(Error::Collision(collision)),
            }
        }
    }

    /// The key.
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// The rules of domains as the kernel's map takes them, in the order of their hashes.
    pub(super) fn entries(&self) -> &[(u64, RuleEntry)] {
        self.keyed.entries()
    }

    /// The rules of addresses as the kernel's map takes them, whose longest prefix wins. A range of IPv6 that IPv4 in its
    /// mapped form falls into has one of no verdict within, for nobody who writes `::/0` means IPv4.
    pub fn nets(&self) -> Vec<Net> {
        let v4 = Net {
            address: Address::v4([0; 4]),
            prefix: V4_PREFIX,
            entry: NetEntry::default(),
        };
        let mut nets: Vec<_> = self
            .rules
            .nets()
            .map(|(net, judgement)| {
                let (address, prefix) = net.mapped();
                let Ruling { verdict, rule } = self.ruling(&judgement);
                Net {
                    address,
                    prefix,
                    entry: NetEntry {
                        rule,
                        verdict,
                        zero: 0,
                    },
                }
            })
            .collect();
        let has_v4 = nets
            .iter()
            .any(|net| (net.address, net.prefix) == (v4.address, v4.prefix));
        if !has_v4 && nets.iter().any(|net| is_around(net, &v4)) {
            nets.push(v4);
        }
        nets
    }

    /// Room for the rules, however many [`Self::nets`] adds.
    pub(super) fn room(rules: &RuleSet, tables: Tables) -> Room {
        Room {
            tables,
            rules: rules.len(),
            nets: rules.nets().len() + 1,
        }
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// What the rules say of a name, keywords and regular expressions too; none where none speaks of it.
    pub fn decide(&self, name: &str) -> Option<Ruling> {
        self.rules
            .decide(name)
            .map(|judgement| self.ruling(&judgement))
    }

    /// The domain, the range of addresses, the keyword or the regular expression of a rule by its hash.
    pub fn domain(&self, hash: u64) -> Option<&str> {
        self.keyed.rule(&self.rules, hash)
    }

    /// What is written of the rule with that hash, and where; several where a domain has one for itself and another for the
    /// names below it.
    pub fn rules_of(&self, hash: u64) -> Vec<(Subject, Judgement<'_>)> {
        if let Some(domain) = self.keyed.domain(&self.rules, hash) {
            let written = self.rules.at(domain);
            return written.map(|(it, by)| (Subject::Names(it), by)).collect();
        }
        let nets = self
            .rules
            .nets()
            .map(|(net, judgement)| (Subject::Addresses(net), judgement));
        let texts = self
            .rules
            .texts()
            .map(|(text, judgement)| (Subject::Text(text.clone()), judgement));
        nets.chain(texts)
            .filter(|(_, judgement)| rule_hash(&self.key, judgement.by) == hash)
            .collect()
    }

    fn ruling(&self, judgement: &Judgement<'_>) -> Ruling {
        Ruling {
            verdict: judgement.kernel(),
            rule: rule_hash(&self.key, judgement.by),
        }
    }
}

/// Whether a range has another within, and is wider.
fn is_around(wide: &Net, narrow: &Net) -> bool {
    let first = |net: &Net| u128::from_be_bytes(*net.address.octets());
    let kept = u128::MAX.checked_shl(128 - wide.prefix).unwrap_or(0);
    wide.prefix < narrow.prefix && first(narrow) & kept == first(wide)
}

fn random_key() -> std::io::Result<Key> {
    let mut octets = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    let number = u128::from_ne_bytes(octets);
    Ok(Key([number as u64, (number >> 64) as u64]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        origin::Origin,
        rules::{self, Rule},
    };

    fn book(rules: &[(&str, rules::Verdict)]) -> Rulebook {
        let rules = rules.iter().map(|&(text, verdict)| Rule {
            subject: text.parse().unwrap(),
            verdict,
            vpn: None,
            origin: Origin::Flag("--vpn-domain"),
        });
        Rulebook::new(Arc::new(RuleSet::compile(rules).unwrap()), None).unwrap()
    }

    #[test]
    fn every_rule_is_known_by_its_hash() {
        let rules = [
            "a.example",
            "203.0.113.0/24",
            "keyword:track",
            r"regex:^\d",
            r"regex:^\D",
        ];
        let book = book(&rules.map(|text| (text, rules::Verdict::Vpn)));
        let [net] = book.nets()[..] else { panic!() };
        assert_eq!(book.domain(net.entry.rule), Some("203.0.113.0/24"));
        for (name, rule) in [
            ("A.example.", "a.example"),
            ("track.example", "keyword:track"),
            ("1.example", r"regex:^\d"),
            ("x.example", r"regex:^\D"),
        ] {
            let ruling = book.decide(name).unwrap();
            assert_eq!(book.domain(ruling.rule), Some(rule));
            assert_eq!(ruling.verdict, Verdict::VPN);
        }
        assert_eq!(book.domain(1), None);
    }

    #[test]
    fn a_range_of_ipv6_leaves_ipv4_alone() {
        let vpn = rules::Verdict::Vpn;
        let shield = |net: &Net| net.entry.verdict == Verdict::NONE;
        assert!(book(&[("::/0", vpn)]).nets().iter().any(shield));
        assert!(!book(&[("2001:db8::/32", vpn)]).nets().iter().any(shield));
        assert!(
            !book(&[("::/0", vpn), ("0.0.0.0/0", vpn)])
                .nets()
                .iter()
                .any(shield)
        );
        let halved = book(&[("::/1", vpn), ("8000::/1", vpn)]).nets();
        assert_eq!(halved.iter().filter(|net| shield(net)).count(), 1);
    }
}
