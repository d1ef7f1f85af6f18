use super::*;
use crate::rules::{HashCollision, Keyed, Subject};
use proptest::prelude::*;
use std::collections::HashMap;
use steer_common::decide::Match;
use steer_common::dns::Message;
use steer_common::suffix::{Key, hash_name};
use steer_common::types;

const KEY: Key = Key([1, 2]);

fn rule(pattern: &str, verdict: Verdict, origin: Origin) -> Rule {
    Rule {
        subject: pattern.parse().unwrap(),
        verdict,
        vpn: None,
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
        rule("a.example", Verdict::Block, preset(3)),
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
    let keyed = Keyed::new(&rules, &KEY).unwrap();
    let hash = hash_name(&KEY, "a.example");
    let entry = RuleEntry {
        exact: types::Verdict::DIRECT,
        below: types::Verdict::VPN,
    };
    assert_eq!(keyed.entries(), [(hash, entry)]);
    assert_eq!(keyed.rule(&rules, hash), Some("a.example"));
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
    assert_eq!(Keyed::by(&rules, |_| 7), Err(collision));
}

#[test]
fn the_longest_prefix_wins() {
    let rules = set([
        rule("203.0.113.0/24", Verdict::Vpn, line(1)),
        rule("203.0.113.128/25", Verdict::Direct, line(2)),
        rule("203.0.113.200", Verdict::Vpn, line(3)),
        rule("2001:db8::/32", Verdict::Vpn, line(4)),
        rule("::/0", Verdict::Direct, line(5)),
    ]);
    for (address, line_and_verdict) in [
        ("203.0.113.1", Some((1, Verdict::Vpn))),
        ("203.0.113.129", Some((2, Verdict::Direct))),
        ("203.0.113.200", Some((3, Verdict::Vpn))),
        ("::ffff:203.0.113.200", Some((3, Verdict::Vpn))),
        ("203.0.114.1", None),
        ("2001:db8::1", Some((4, Verdict::Vpn))),
        ("2001:db9::1", Some((5, Verdict::Direct))),
    ] {
        let expected = line_and_verdict.map(|(number, verdict)| (line(number), verdict));
        let judged = rules
            .decide_address(address.parse().unwrap())
            .map(|judgement| (judgement.origin, judgement.verdict));
        assert_eq!(judged, expected, "{address}");
    }
}

#[test]
fn a_range_of_both_verdicts_is_a_contradiction_of_the_user_alone() {
    let contradiction = [
        rule("203.0.113.0/24", Verdict::Vpn, line(1)),
        rule("203.0.113.0/24", Verdict::Direct, line(2)),
    ];
    assert_eq!(
        RuleSet::compile(contradiction).unwrap_err().to_string(),
        "steer.toml:2: \"203.0.113.0/24\" is to go direct here and vpn at steer.toml:1; keep one of the two"
    );
    let rules = set([
        rule("203.0.113.0/24", Verdict::Direct, line(1)),
        rule("203.0.113.0/24", Verdict::Vpn, preset(2)),
    ]);
    let judgement = rules.decide_address("203.0.113.1".parse().unwrap());
    assert_eq!(judgement.unwrap().verdict, Verdict::Direct);
}

#[test]
fn texts_are_asked_where_no_domain_speaks() {
    let rules = set([
        rule("keyword:track", Verdict::Vpn, preset(1)),
        rule(r"regex:^track\d", Verdict::Direct, preset(2)),
        rule("keyword:9", Verdict::Vpn, line(3)),
        rule(".tracked.example", Verdict::Direct, preset(4)),
    ]);
    assert!(rules.has_patterns());
    for (name, expected) in [
        ("x.TRACK.example.", Some(Verdict::Vpn)),
        ("track1.example", Some(Verdict::Direct)),
        ("track19.example", Some(Verdict::Vpn)),
        ("track9.tracked.example", Some(Verdict::Direct)),
        ("other.example", None),
    ] {
        assert_eq!(verdict(&rules, name), expected, "{name}");
    }
}

/// What the kernel programs say of a question, by the code that they run.
fn kernel_verdict(rules: &RuleSet, name: &str) -> types::Verdict {
    let keyed = Keyed::new(rules, &KEY).unwrap();
    let map: HashMap<u64, RuleEntry> = keyed.entries().iter().copied().collect();
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
    message.hash_name(&KEY, |hash, whole| {
        if let Some(entry) = map.get(&hash) {
            found.suffix(hash, whole, entry);
        }
    });
    found.verdict
}

/// The rule that decides, found by trying them all.
fn by_hand(rules: &[Rule], name: &str) -> Option<Verdict> {
    let name = name.to_ascii_lowercase();
    let pattern = |rule: &&Rule| match &rule.subject {
        Subject::Names(pattern) => pattern.clone(),
        other => panic!("{other}"),
    };
    let matches = |rule: &&Rule| {
        let Pattern { domain, scope } = pattern(rule);
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
            pattern(rule).domain.as_str().len(),
            rule.origin.authority(),
            pattern(rule).scope != Scope::Both,
            [Verdict::Block, Verdict::Vpn, Verdict::Direct]
                .iter()
                .position(|it| *it == rule.verdict),
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
    let verdict = prop::sample::select(Verdict::ALL.to_vec());
    let origin = prop::sample::select(vec![Origin::Flag("--vpn-domain"), line(1), preset(1)]);
    (scope, any_name(), verdict, origin)
        .prop_map(|(scope, name, verdict, origin)| rule(&format!("{scope}{name}"), verdict, origin))
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
                Some(Verdict::Block) => types::Verdict::BLOCK,
            };
            prop_assert_eq!(kernel_verdict(&set, &name), expected, "{}", name);
        }
    }
}
