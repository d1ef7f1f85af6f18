//! Which names are resolved before their use.

use crate::rules::RuleSet;

/// More names than this are not asked for.
pub const MOST: usize = 1000;

/// The names that rules of the user's or of presets send through the VPN as such, in the alphabet's order, and how many
/// there are beyond [`MOST`]. Names of lists are too many to ask for, and most of them nobody uses.
pub fn names(rules: &RuleSet) -> (Vec<String>, usize) {
    let mut exact = rules.chosen_for_vpn().map(str::to_owned);
    let names = exact.by_ref().take(MOST).collect();
    (names, exact.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        origin::Origin,
        rules::{Rule, Verdict},
    };

    fn rules<'a>(patterns: impl IntoIterator<Item = (&'a str, Verdict)>) -> RuleSet {
        let rules = patterns.into_iter().map(|(pattern, verdict)| Rule {
            subject: pattern.parse().expect("a pattern"),
            verdict,
            vpn: None,
            origin: Origin::Flag("--vpn-domain"),
        });
        RuleSet::compile(rules).expect("rules")
    }

    #[test]
    fn exact_names_for_the_vpn_are() {
        let rules = rules([
            ("exact.example", Verdict::Vpn),
            (".both.example", Verdict::Vpn),
            ("*.below.example", Verdict::Vpn),
            ("direct.example", Verdict::Direct),
        ]);
        let expected = ["both.example", "exact.example"].map(str::to_owned);
        assert_eq!(names(&rules), (expected.to_vec(), 0));
    }

    #[test]
    fn names_of_lists_are_not() {
        let rule = |subject: &str, origin| Rule {
            subject: subject.parse().expect("a pattern"),
            verdict: Verdict::Vpn,
            vpn: None,
            origin,
        };
        let list = Origin::List {
            name: "a list".into(),
            line: 1,
        };
        let preset = Origin::Preset {
            name: "a preset",
            line: 1,
        };
        let rules = [rule("listed.example", list), rule("chosen.example", preset)];
        let rules = RuleSet::compile(rules).expect("rules");
        assert_eq!(names(&rules), (vec!["chosen.example".to_owned()], 0));
    }

    #[test]
    fn too_many_are_counted() {
        let patterns: Vec<_> = (0..MOST + 3).map(|n| format!("n{n}.example")).collect();
        let rules = rules(patterns.iter().map(|name| (name.as_str(), Verdict::Vpn)));
        let (names, beyond) = names(&rules);
        assert_eq!((names.len(), beyond), (MOST, 3));
    }
}
