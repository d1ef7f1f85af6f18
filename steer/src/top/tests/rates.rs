//! Two samples are a rate.

use std::net::Ipv4Addr;

use super::{by, count, to, usage};
use crate::{
    inspect::Path,
    top::{
        input::Action,
        state::{Rate, Row, Sort, State},
    },
};

const HUB: &str = "registry-1.docker.io";

fn labels(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.label.as_str()).collect()
}

#[test]
fn what_was_before_is_no_rate() {
    let mut state = State::default();
    state.sample(usage(
        0,
        vec![to(Some(HUB), "192.0.2.1", Path::Vpn, 9_000, 9_000)],
    ));
    assert_eq!(state.by_vpn.rate, Rate::default());
    assert_eq!(state.by_vpn.total, count(9_000, 9_000));
    assert_eq!(state.rows(), []);
    state.sample(usage(
        2,
        vec![to(Some(HUB), "192.0.2.1", Path::Vpn, 13_000, 10_000)],
    ));
    let rate = Rate {
        down: 2_000,
        up: 500,
    };
    assert_eq!(state.by_vpn.rate, rate);
    assert_eq!(state.by_vpn.history, [rate]);
    let rows = state.rows();
    assert_eq!((rows[0].rate, rows[0].count), (rate, count(4_000, 1_000)));
    // Nothing more came, and the address was forgotten for others.
    state.sample(usage(3, Vec::new()));
    let rows = state.rows();
    assert_eq!(
        (rows[0].rate, rows[0].count),
        (Rate::default(), count(4_000, 1_000))
    );
    // It came again, and is counted from nothing.
    state.sample(usage(
        4,
        vec![to(Some(HUB), "192.0.2.1", Path::Vpn, 700, 100)],
    ));
    assert_eq!(state.rows()[0].count, count(4_700, 1_100));
}

#[test]
fn addresses_of_a_name_are_a_row_and_those_of_others_are_not() {
    let mut state = State::default();
    state.sample(usage(0, Vec::new()));
    let mut contested = to(Some(HUB), "192.0.2.2", Path::Vpn, 1_000, 0);
    contested.contested = true;
    state.sample(usage(
        1,
        vec![
            to(Some(HUB), "192.0.2.1", Path::Vpn, 1_000, 0),
            contested,
            to(Some(HUB), "192.0.2.1", Path::Direct, 500, 0),
            by(
                "web",
                "172.17.0.2",
                to(Some(HUB), "192.0.2.1", Path::Vpn, 300, 0),
            ),
            to(None, "198.51.100.7", Path::Direct, 100, 0),
        ],
    ));
    let rows = state.rows();
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.label.as_str(),
                row.path,
                row.who.as_str(),
                row.rate.down,
            )
        })
        .collect();
    let expected = [
        (HUB, Path::Vpn, "processes", 2_000),
        (HUB, Path::Direct, "processes", 500),
        (HUB, Path::Vpn, "web", 300),
        ("198.51.100.7", Path::Direct, "processes", 100),
    ];
    assert_eq!(told, expected);
    let contested: Vec<_> = rows.iter().map(|row| row.contested).collect();
    assert_eq!(contested, [true, false, false, false]);
}

#[test]
fn rows_are_sorted_and_filtered() {
    let mut state = State::default();
    state.sample(usage(0, Vec::new()));
    let some = |a, b, c| {
        vec![
            to(Some("b.example"), "192.0.2.1", Path::Direct, a, 0),
            by(
                "Web",
                "172.17.0.2",
                to(Some("a.example"), "192.0.2.2", Path::Vpn, b, 0),
            ),
            to(Some("c.example"), "192.0.2.3", Path::Vpn, c, 0),
        ]
    };
    state.sample(usage(1, some(5_000, 1_000, 2_000)));
    state.sample(usage(2, some(5_100, 1_300, 2_200)));
    for (sort, expected) in [
        (Sort::Rate, ["a.example", "c.example", "b.example"]),
        (Sort::Bytes, ["b.example", "c.example", "a.example"]),
        (Sort::Name, ["a.example", "b.example", "c.example"]),
        (Sort::Path, ["a.example", "c.example", "b.example"]),
        (Sort::Who, ["a.example", "b.example", "c.example"]),
    ] {
        state.sort = sort;
        assert_eq!(labels(&state.rows()), expected, "{sort:?}");
        state.apply(Action::Reverse);
        let mut rows = state.rows();
        rows.reverse();
        assert_eq!(labels(&rows), expected, "{sort:?} reversed");
        state.apply(Action::Reverse);
    }
    for (filter, expected) in [
        ("C.EX", vec!["c.example"]),
        ("web", vec!["a.example"]),
        ("docker0", vec!["a.example"]),
        ("direct", vec!["b.example"]),
        ("nobody", vec![]),
    ] {
        state.filter = filter.to_owned();
        assert_eq!(labels(&state.rows()), expected, "{filter}");
    }
}

#[test]
fn of_too_many_those_with_the_least_are_forgotten() {
    let mut state = State::default();
    state.sample(usage(0, Vec::new()));
    let many = |first: u32, bytes: u64| {
        let addresses = (first..first + 20_000).map(|it| Ipv4Addr::from_bits(it << 8).to_string());
        let uses = addresses.map(|it| to(None, &it, Path::Direct, bytes, 0));
        uses.collect::<Vec<_>>()
    };
    state.sample(usage(1, many(1, 1_000)));
    state.sample(usage(2, many(50_000, 2_000)));
    let rows = state.rows();
    assert_eq!(rows.len(), 20_000);
    assert!(rows.iter().all(|row| row.count.bytes_in == 2_000));
}

#[test]
fn held_it_stays_as_it_is_and_goes_on_with_what_went_meanwhile() {
    let mut state = State::default();
    let at = |seconds, down| usage(seconds, vec![to(None, "192.0.2.1", Path::Direct, down, 0)]);
    state.sample(at(0, 0));
    state.sample(at(1, 1_000));
    state.apply(Action::Pause);
    state.sample(at(2, 9_000));
    assert_eq!(state.direct.rate.down, 1_000);
    state.apply(Action::Pause);
    state.sample(at(5, 9_000));
    assert_eq!(state.direct.rate.down, 2_000);
}

#[test]
fn without_an_answer_nothing_moves_and_it_says_why() {
    let mut state = State::default();
    state.sample(usage(0, Vec::new()));
    state.sample(usage(
        1,
        vec![to(None, "192.0.2.1", Path::Direct, 1_000, 0)],
    ));
    state.failed("gone".to_owned());
    assert_eq!(state.direct.rate, Rate::default());
    assert_eq!(state.trouble.as_deref(), Some("gone"));
    state.sample(usage(2, Vec::new()));
    assert_eq!(state.trouble, None);
}
