//! The screen at several sizes, letter by letter.

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    style::{Color, Modifier},
};

use super::{by, to, usage};
use crate::{
    inspect::{Path, usage::Use, vpns::VpnFact},
    top::{
        draw::{Look, draw},
        input::{Action, Mode},
        state::State,
    },
};

const COLOURED: Look = Look { coloured: true };
const PLAIN: Look = Look { coloured: false };

fn uses(second: u64) -> Vec<Use> {
    let sum = |each: u64| each * second * (second + 1) / 2;
    let name = |name| Some(name);
    let mut contested = to(
        name("cdn.example"),
        "203.0.113.9",
        Path::Vpn,
        sum(900),
        sum(90),
    );
    contested.contested = true;
    vec![
        to(
            name("registry-1.docker.io"),
            "192.0.2.10",
            Path::Vpn,
            sum(12_345),
            sum(999),
        ),
        to(
            name("production.cloudflare.docker.com"),
            "198.51.100.20",
            Path::Direct,
            sum(7_654_321),
            sum(87_654),
        ),
        by("web", "172.17.0.2", contested),
        by(
            "a-container-of-a-long-name-indeed",
            "172.17.0.3",
            to(
                None,
                "2001:db8:d1::10",
                Path::Direct,
                sum(5),
                sum(1_234_567),
            ),
        ),
    ]
}

fn state() -> State {
    let mut state = State::default();
    for second in 0..30 {
        state.sample(usage(second, uses(second)));
    }
    state
}

fn drawn(state: &State, (width, height): (u16, u16), look: Look) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, look)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[track_caller]
fn is_drawn(state: &State, size: (u16, u16), expected: &str) {
    let coloured = drawn(state, size, COLOURED);
    let actual = text(&coloured);
    assert_eq!(actual, expected, "{size:?} shows:\n{actual}");
    let plain = drawn(state, size, PLAIN);
    assert_eq!(text(&plain), expected, "colours tell nothing by themselves");
    let is_plain =
        |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(plain.content.iter().all(is_plain));
    assert!(!coloured.content.iter().all(is_plain));
}

#[test]
fn at_80_columns() {
    is_drawn(&state(), (80, 24), include_str!("80x24.txt"));
}

#[test]
fn at_160_columns() {
    is_drawn(&state(), (160, 50), include_str!("160x50.txt"));
}

#[test]
fn at_60_columns() {
    is_drawn(&state(), (60, 15), include_str!("60x15.txt"));
}

#[test]
fn while_nobody_answers_and_the_vpn_is_down() {
    let mut state = state();
    let mut down = usage(30, uses(30));
    down.vpns[0].up = false;
    state.sample(down);
    state.failed(
        "no steer runs here (/run/steer/control.sock does not answer); trying again".to_owned(),
    );
    state.apply(Action::Pause);
    state.mode = Mode::Filter;
    state.filter = "web".to_owned();
    is_drawn(&state, (80, 24), include_str!("80x24-trouble.txt"));
}

#[test]
fn several_vpns_are_told_apart() {
    let mut state = state();
    let mut several = usage(30, uses(30));
    several.vpns[0].name = "us".to_owned();
    several.vpns.push(VpnFact {
        name: "de".to_owned(),
        interface: None,
        up: false,
        ..several.vpns[0].clone()
    });
    for one in several.uses.iter_mut().filter(|it| it.path == Path::Vpn) {
        one.vpn = Some("us".to_owned());
    }
    state.sample(several);
    let shown = text(&drawn(&state, (80, 24), PLAIN));
    assert!(
        shown.starts_with("steer  us wg0 up  NO DE  runs for"),
        "{shown}"
    );
    assert!(state.rows().iter().any(|row| row.way() == "us"));
}

#[test]
fn an_explanation_is_in_front() {
    let mut state = state();
    let lines = [
        "cdn.example takes the VPN",
        "  because   its address 203.0.113.9 is one of cdn.example, which a rule sends through the VPN",
    ];
    state.explain(lines.map(str::to_owned).to_vec());
    is_drawn(&state, (80, 24), include_str!("80x24-why.txt"));
}

#[test]
fn the_keys_are_in_front() {
    let mut state = State::default();
    state.apply(Action::Help);
    let plain = drawn(&state, (80, 24), PLAIN);
    let actual = text(&plain);
    assert_eq!(actual, include_str!("80x24-keys.txt"), "shows:\n{actual}");
}

#[test]
fn no_size_is_too_small() {
    for width in [1, 2, 10, 40, 79, 80, 120, 300] {
        for height in [1, 2, 3, 5, 8, 19, 20] {
            let mut state = state();
            for mode in [Mode::Table, Mode::Filter, Mode::Explain, Mode::Help] {
                state.mode = mode;
                drawn(&state, (width, height), COLOURED);
            }
        }
    }
}

#[test]
fn the_chosen_row_is_marked_and_in_sight() {
    let mut state = state();
    state.apply(Action::Down(usize::MAX));
    let plain = drawn(&state, (60, 7), PLAIN);
    let chosen = text(&plain)
        .lines()
        .find(|line| line.starts_with('>'))
        .map(str::to_owned);
    assert!(chosen.is_some_and(|line| line.contains("cdn.example")));
    let is_reversed = |cell: &ratatui::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
    assert!(plain.content.iter().any(is_reversed));
}
