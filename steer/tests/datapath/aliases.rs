//! Names that an answer leads to: CNAME chains, and HTTPS records with their hints.

use std::net::IpAddr;

use steer_common::{
    dns::ALIASES,
    stats::Outcome,
    types::{RuleEntry, Verdict},
};

use crate::{
    answers::resolve,
    kernel::Kernel,
    message::{Answer, answer},
};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

/// What the answer to a question teaches of [`V4`].
fn verdict(kernel: &mut Kernel, asked: &str, answers: &[Answer<'_>]) -> Verdict {
    resolve(kernel, asked, &answer(7, asked, answers));
    let verdict = kernel.verdict(V4);
    if verdict != Verdict::NONE {
        kernel.forgets(&V4.to_string());
    }
    verdict
}

#[test]
fn a_rule_matches_any_name_of_the_chain_the_question_first() {
    let mut kernel = Kernel::new();
    let only = |exact, below| RuleEntry { exact, below };
    kernel.rules(&[
        ("vpn.example", only(Verdict::VPN, Verdict::VPN)),
        ("direct.example", only(Verdict::DIRECT, Verdict::DIRECT)),
        ("below.example", only(Verdict::NONE, Verdict::VPN)),
    ]);
    let end = || Answer::Address(V4, 60);
    let alias = Answer::Alias;
    for (asked, answers, expected) in [
        ("a.test", vec![alias("cdn.test"), end()], Verdict::NONE),
        ("a.test", vec![alias("x.vpn.example"), end()], Verdict::VPN),
        (
            "a.test",
            vec![
                alias("b.test"),
                alias("c.test"),
                alias("vpn.example"),
                end(),
            ],
            Verdict::VPN,
        ),
        (
            "a.test",
            vec![alias("direct.example"), alias("vpn.example"), end()],
            Verdict::DIRECT,
        ),
        (
            "direct.example",
            vec![alias("vpn.example"), end()],
            Verdict::DIRECT,
        ),
        (
            "vpn.example",
            vec![alias("direct.example"), end()],
            Verdict::VPN,
        ),
        ("a.test", vec![alias("below.example"), end()], Verdict::NONE),
        (
            "a.test",
            vec![alias("x.below.example"), end()],
            Verdict::VPN,
        ),
        // Not in the order of the chain: a client may take it all the same.
        ("a.test", vec![end(), alias("vpn.example")], Verdict::VPN),
    ] {
        let chain: Vec<_> = answers
            .iter()
            .filter_map(|answer| match answer {
                Answer::Alias(name) => Some(*name),
                _ => None,
            })
            .collect();
        assert_eq!(
            verdict(&mut kernel, asked, &answers),
            expected,
            "{asked}: {chain:?}"
        );
    }
}

#[test]
fn the_name_told_is_the_one_asked_for() {
    let mut kernel = Kernel::new();
    kernel.blocks("vpn.example");
    verdict(
        &mut kernel,
        "asked.test",
        &[Answer::Alias("vpn.example"), Answer::Address(V4, 60)],
    );
    assert_eq!(kernel.learned_names(), ["asked.test"]);
}

#[test]
fn a_chain_is_followed_as_far_as_resolvers_do() {
    let mut kernel = Kernel::new();
    kernel.blocks("vpn.example");
    let names: Vec<_> = (1..ALIASES).map(|i| format!("n{i}.test")).collect();
    let mut answers: Vec<_> = names.iter().map(|name| Answer::Alias(name)).collect();
    answers.push(Answer::Alias("vpn.example"));
    answers.push(Answer::Address(V4, 60));
    assert_eq!(verdict(&mut kernel, "a.test", &answers), Verdict::VPN);
    answers.insert(0, Answer::Alias("one.too.many.test"));
    assert_eq!(verdict(&mut kernel, "a.test", &answers), Verdict::NONE);
}

#[test]
fn hints_of_https_records_are_learned() {
    let mut kernel = Kernel::new();
    kernel.blocks("vpn.example");
    let hints: Vec<IpAddr> = ["198.51.100.7", "198.51.100.8", "2001:db8::7", "2001:db8::8"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let answers = [
        Answer::Service(".", &hints),
        Answer::Address("198.51.100.9".parse().unwrap(), 60),
    ];
    let outcome = resolve(
        &mut kernel,
        "vpn.example",
        &answer(7, "vpn.example", &answers),
    );
    assert_eq!(outcome, Outcome::Learned);
    for hint in &hints {
        assert_eq!(kernel.verdict(*hint), Verdict::VPN, "{hint}");
    }
    assert_eq!(
        kernel.verdict("198.51.100.9".parse().unwrap()),
        Verdict::VPN,
        "the record behind the parameters"
    );
}

#[test]
fn the_target_of_an_https_record_is_a_name_of_the_chain() {
    let mut kernel = Kernel::new();
    kernel.blocks("vpn.example");
    let service = [Answer::Service("svc.vpn.example", &[V4])];
    assert_eq!(verdict(&mut kernel, "a.test", &service), Verdict::VPN);
    let other = [Answer::Service("svc.other.example", &[V4])];
    assert_eq!(verdict(&mut kernel, "a.test", &other), Verdict::NONE);
}

#[test]
fn an_address_of_both_verdicts_is_contested_and_takes_the_vpn() {
    let mut kernel = Kernel::new();
    kernel.rule("direct.example", Verdict::DIRECT);
    kernel.blocks("vpn.example");
    let answers = [Answer::Address(V4, 60)];
    for (name, outcomes) in [
        ("direct.example", vec![]),
        ("vpn.example", vec![Outcome::Contested]),
        ("a.direct.example", vec![]),
        ("a.vpn.example", vec![]),
    ] {
        let before = kernel.counted(Outcome::Contested);
        resolve(&mut kernel, name, &answer(7, name, &answers));
        let counted = kernel.counted(Outcome::Contested) - before;
        assert_eq!(counted, outcomes.len() as u64, "{name}");
    }
    assert_eq!(kernel.verdict(V4), Verdict::VPN);
    let mut names = kernel.names_of(V4);
    names.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        names,
        [
            ("a.direct.example".to_owned(), Verdict::DIRECT),
            ("a.vpn.example".to_owned(), Verdict::VPN),
            ("direct.example".to_owned(), Verdict::DIRECT),
            ("vpn.example".to_owned(), Verdict::VPN),
        ]
    );
}
