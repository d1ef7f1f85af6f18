//! What keys do to what is shown.

use super::{to, usage};
use crate::{
    inspect::Path,
    top::{
        input::{Action, Mode},
        state::{Sort, State, Wish},
    },
};

fn two() -> State {
    let mut state = State::default();
    state.sample(usage(0, Vec::new()));
    let some = vec![
        to(Some("a.example"), "192.0.2.1", Path::Vpn, 2_000, 0),
        to(None, "192.0.2.2", Path::Direct, 1_000, 0),
    ];
    state.sample(usage(1, some));
    state
}

#[test]
fn the_chosen_row_stays_chosen_wherever_it_moves() {
    let mut state = two();
    assert_eq!(
        state.apply(Action::Explain),
        Some(Wish::Explain("a.example".to_owned()))
    );
    state.apply(Action::Close);
    state.apply(Action::Down(usize::MAX));
    assert_eq!(
        state.apply(Action::Explain),
        Some(Wish::Explain("192.0.2.2".to_owned()))
    );
    state.apply(Action::Reverse);
    let rows = state.rows();
    assert_eq!(state.selected(&rows), Some(0));
    state.filter = "a.example".to_owned();
    let rows = state.rows();
    assert_eq!(state.selected(&rows), Some(0));
    state.filter = "nothing".to_owned();
    assert_eq!(state.selected(&[]), None);
    assert_eq!(state.apply(Action::Explain), None);
}

#[test]
fn the_columns_go_round() {
    let mut state = two();
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(state.sort);
        state.apply(Action::Sort);
    }
    assert_eq!(
        seen,
        [Sort::Rate, Sort::Bytes, Sort::Name, Sort::Path, Sort::Who]
    );
    assert_eq!(state.sort, Sort::Rate);
    state.apply(Action::SortBack);
    assert_eq!(state.sort, Sort::Who);
}

#[test]
fn a_filter_is_typed_and_cleared() {
    let mut state = two();
    state.apply(Action::Filter);
    for letter in "axx".chars() {
        state.apply(Action::Type(letter));
    }
    state.apply(Action::Erase);
    state.apply(Action::Erase);
    state.apply(Action::Close);
    assert_eq!((state.filter.as_str(), state.mode), ("a", Mode::Table));
    state.apply(Action::Filter);
    state.apply(Action::Clear);
    assert_eq!((state.filter.as_str(), state.mode), ("", Mode::Table));
}

#[test]
fn an_explanation_that_nobody_waits_for_is_not_shown() {
    let mut state = two();
    state.explain(vec!["asking".to_owned()]);
    state.explained(vec!["one".to_owned(), "two".to_owned()]);
    state.apply(Action::Down(9));
    assert_eq!((state.explanation.len(), state.scrolled), (2, 1));
    state.apply(Action::Close);
    state.explained(vec!["late".to_owned()]);
    assert_eq!(state.mode, Mode::Table);
}
