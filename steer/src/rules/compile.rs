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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use steer_common::decide::Match;
    use steer_common::dns::Message;

    const KEY: Key = Key([1, 2]);

    fn rule(pattern: &str, verdict: Verdict, origin: Origin) -> Rule {
        Rule {
            pattern: pattern.parse().unwrap(),
            verdict,
            origin,
        }
    }

    fn line(line: usize) -> Origin {
        Origin::File {
            path: Path::new("steer.toml").into(),
            line,
        }
    }

    fn preset(line: usize) -> Origin {
        Origin::Preset { name: "list", line }
    }

    fn set(rules: impl IntoIterator<Item = Rule>) -> RuleSet {
        RuleSet::compile(rules).unwrap()
    }

    fn verdict(rules: &RuleSet, name: &str) -> Option<Verdict> {
        rules.decide(name).map(|judgement| judgement.verdict)
    }

    #[test]
    fn each_scope_means_its_names() {
        let rules = set([
            rule("exact.example", Verdict::Vpn, line(1)),
            rule("*.below.example", Verdict::Vpn, line(2)),
            rule(".both.example", Verdict::Vpn, line(3)),
        ]);
        for name in [
            "exact.example",
            "a.below.example",
            "a.b.below.example",
            "both.example",
            "a.both.example",
            "BOTH.example.",
        ] {
            assert_eq!(verdict(&rules, name), Some(Verdict::Vpn), "{name}");
        }
        for name in [
            "a.exact.example",
            "below.example",
            "xboth.example",
            "example",
            "",
            ".",
        ] {
            assert_eq!(verdict(&rules, name), None, "{name}");
        }
    }

    #[test]
    fn the_most_specific_rule_wins() {
        let rules = set([
            rule(".example", Verdict::Vpn, line(1)),
            rule("*.a.example", Verdict::Direct, line(2)),
            rule("b.a.example", Verdict::Vpn, line(3)),
        ]);
        assert_eq!(verdict(&rules, "a.example"), Some(Verdict::Vpn));
        assert_eq!(verdict(&rules, "c.a.example"), Some(Verdict::Direct));
        assert_eq!(verdict(&rules, "b.a.example"), Some(Verdict::Vpn));
        assert_eq!(verdict(&rules, "x.b.a.example"), Some(Verdict::Direct));
    }

    #[test]
    fn of_two_rules_at_one_name_the_narrower_wins_in_any_order() {
        let rules = [
            rule(".a.example", Verdict::Vpn, line(1)),
            rule("a.example", Verdict::Direct, line(2)),
        ];
        for rules in [set(rules.clone()), set(rules.into_iter().rev())] {
            assert_eq!(verdict(&rules, "a.example"), Some(Verdict::Direct));
            assert_eq!(verdict(&rules, "b.a.example"), Some(Verdict::Vpn));
        }
    }

    #[test]
    fn the_user_wins_over_a_list_and_a_flag_over_the_file() {
        let rules = set([
            rule("a.example", Verdict::Vpn, preset(1)),
            rule(".a.example", Verdict::Direct, line(1)),
            rule("b.example", Verdict::Direct, line(2)),
            rule("b.example", Verdict::Vpn, Origin::Flag("--vpn-domain")),
        ]);
        assert_eq!(verdict(&rules, "a.example"), Some(Verdict::Direct));
        assert_eq!(rules.decide("a.example").unwrap().origin, line(1));
        assert_eq!(verdict(&rules, "b.example"), Some(Verdict::Vpn));
    }

    #[test]
    fn between_lists_direct_wins_in_any_order() {
        let rules = [
            rule("a.example", Verdict::Direct, preset(1)),
            rule("a.example", Verdict::Vpn, preset(2)),
        ];
        assert_eq!(
            verdict(&set(rules.clone()), "a.example"),
            Some(Verdict::Direct)
        );
        assert_eq!(
            verdict(&set(rules.into_iter().rev()), "a.example"),
            Some(Verdict::Direct)
        );
    }

    #[test]
    fn a_contradiction_names_both_lines() {
        let rules = [
            rule("*.a.example", Verdict::Vpn, line(4)),
            rule("*.A.example", Verdict::Direct, line(7)),
        ];
        assert_eq!(
            RuleSet::compile(rules).unwrap_err().to_string(),
            "steer.toml:7: \"*.a.example\" is to go direct here and vpn at steer.toml:4; keep one of the two"
        );
    }

    #[test]
    fn saying_it_twice_is_no_contradiction() {
        let rules = set([
            rule("a.example", Verdict::Vpn, line(1)),
            rule("a.example.", Verdict::Vpn, line(2)),
        ]);
        assert_eq!(rules.len(), 1);
        assert_eq!(rules.decide("a.example").unwrap().origin, line(1));
    }

    #[test]
    fn what_holds_reads_as_it_was_written() {
        let written = ["a.example", "*.b.example", ".c.example"];
        let rules = set(written
            .into_iter()
            .enumerate()
            .map(|(index, text)| rule(text, Verdict::Vpn, line(index))));
        let patterns: Vec<_> = rules
            .patterns()
            .into_iter()
            .map(|(pattern, _)| pattern.to_string())
            .collect();
        assert_eq!(patterns, written);
    }

    #[test]
    fn the_kernel_gets_both_verdicts_of_a_name() {
        let rules = set([
            rule("a.example", Verdict::Direct, line(1)),
            rule("*.a.example", Verdict::Vpn, line(2)),
        ]);
        let keyed = rules.keyed(&KEY).unwrap();
        let [Keyed { hash, name, entry }] = keyed[..] else {
            panic!("{keyed:?}")
        };
        assert_eq!((hash, name), (hash_name(&KEY, "a.example"), "a.example"));
        assert_eq!(
            entry.kernel(),
            RuleEntry {
                exact: types::Verdict::DIRECT,
                below: types::Verdict::VPN
            }
        );
    }

    #[test]
    fn a_collision_names_both_names() {
        let rules = set([
            rule("a.example", Verdict::Vpn, line(1)),
            rule("b.example", Verdict::Vpn, line(2)),
        ]);
        let collision = HashCollision {
            first: "a.example".to_owned(),
            second: "b.example".to_owned(),
        };
        assert_eq!(rules.keyed_by(|_| 7), Err(collision));
    }

    /// What the kernel programs say of a question, by the code that they run.
    fn kernel_verdict(rules: &RuleSet, name: &str) -> types::Verdict {
        let keyed = rules.keyed(&KEY).unwrap();
        let map: HashMap<u64, RuleEntry> = keyed
            .iter()
            .map(|keyed| (keyed.hash, keyed.entry.kernel()))
            .collect();
        let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.as_bytes());
        }
        question.extend([0, 0, 1, 0, 1]);
        let mut message = Message::new();
        message.buffer()[..question.len()].copy_from_slice(&question);
        message.filled(u32::try_from(question.len()).unwrap());
        message.read_question().unwrap();
        let mut found = Match::default();
        message.hash_question(&KEY, |hash, whole| {
            if let Some(entry) = map.get(&hash) {
                found.suffix(hash, whole, entry);
            }
        });
        found.verdict
    }

    /// The rule that decides, found by trying them all.
    fn by_hand(rules: &[Rule], name: &str) -> Option<Verdict> {
        let name = name.to_ascii_lowercase();
        let matches = |rule: &&Rule| {
            let Pattern { domain, scope } = &rule.pattern;
            let below = name
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.'));
            match scope {
                Scope::Exact => name == domain.as_str(),
                Scope::Below => below,
                Scope::Both => below || name == domain.as_str(),
            }
        };
        let weight = |rule: &&Rule| {
            (
                rule.pattern.domain.as_str().len(),
                rule.origin.authority(),
                rule.pattern.scope != Scope::Both,
                rule.verdict == Verdict::Direct,
            )
        };
        rules
            .iter()
            .filter(matches)
            .max_by_key(weight)
            .map(|rule| rule.verdict)
    }

    fn any_name() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "A"]), 1..5)
            .prop_map(|labels| labels.join("."))
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let scope = prop::sample::select(vec!["", ".", "*."]);
        let verdict = prop::sample::select(vec![Verdict::Vpn, Verdict::Direct]);
        let origin = prop::sample::select(vec![Origin::Flag("--vpn-domain"), line(1), preset(1)]);
        (scope, any_name(), verdict, origin).prop_map(|(scope, name, verdict, origin)| {
            rule(&format!("{scope}{name}"), verdict, origin)
        })
    }

    proptest! {
        #[test]
        fn host_kernel_and_common_sense_agree(
            rules in prop::collection::vec(any_rule(), 0..12),
            names in prop::collection::vec(any_name(), 1..12),
        ) {
            // Contradictions of the user's own are errors; everything else compiles.
            let Ok(set) = RuleSet::compile(rules.clone()) else { return Ok(()) };
            for name in names {
                let decided = verdict(&set, &name);
                prop_assert_eq!(decided, by_hand(&rules, &name), "{}", name);
                let expected = match decided {
                    None => types::Verdict::NONE,
                    Some(Verdict::Direct) => types::Verdict::DIRECT,
                    Some(Verdict::Vpn) => types::Verdict::VPN,
                };
                prop_assert_eq!(kernel_verdict(&set, &name), expected, "{}", name);
            }
        }
    }
}
