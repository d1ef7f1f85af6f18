//! What keys mean.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Rows that a page has.
const PAGE: usize = 10;

/// What is in front, which keys are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The table.
    #[default]
    Table,
    /// The filter is typed.
    Filter,
    /// An explanation.
    Explain,
    /// What the keys mean.
    Help,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To end.
    Quit,
    /// The next column to sort by.
    Sort,
    /// The one before.
    SortBack,
    /// The other way round.
    Reverse,
    /// To type a filter.
    Filter,
    /// A letter of it.
    Type(char),
    /// Its last letter goes.
    Erase,
    /// All of it goes.
    Clear,
    /// Why the selected goes where it goes.
    Explain,
    /// To stay as it is, or to go on.
    Pause,
    /// What the keys mean.
    Help,
    /// Back to the table.
    Close,
    /// So many rows or lines further.
    Down(usize),
    /// And back.
    Up(usize),
}

/// The keys and what they mean, for those who ask.
pub const KEYS: [(&str, &str); 12] = [
    ("q, Esc, Ctrl-C", "quit; Esc first closes what is open"),
    ("s, Left, Right", "sort by the next column"),
    ("r", "the other way round"),
    ("/", "only rows with a text; Enter keeps, Esc clears it"),
    ("Up, Down, k, j", "choose a row"),
    ("PgUp, PgDn, Home, End", "further"),
    ("Enter, e", "why the chosen one takes its path"),
    ("p, Space", "hold the picture; again goes on"),
    ("?, h", "these keys"),
    ("", ""),
    (
        "! before a name",
        "names of both paths have one of its addresses",
    ),
    ("BYTES", "both ways, since this began to watch"),
];

/// What a key asks for in a mode.
pub fn action(mode: Mode, key: &KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
        return Some(Action::Quit);
    }
    if let Some(moved) = moved(key.code) {
        return (mode != Mode::Help).then_some(moved);
    }
    match mode {
        Mode::Filter => typed(key.code).filter(|_| !control),
        Mode::Table => pressed(key.code),
        Mode::Explain | Mode::Help => match key.code {
            KeyCode::Char('j') => Some(Action::Down(1)),
            KeyCode::Char('k') => Some(Action::Up(1)),
            KeyCode::Char('q') => Some(Action::Quit),
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('e' | '?' | 'h') => Some(Action::Close),
            _ => None,
        },
    }
}

fn moved(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Down => Some(Action::Down(1)),
        KeyCode::Up => Some(Action::Up(1)),
        KeyCode::PageDown => Some(Action::Down(PAGE)),
        KeyCode::PageUp => Some(Action::Up(PAGE)),
        KeyCode::End => Some(Action::Down(usize::MAX)),
        KeyCode::Home => Some(Action::Up(usize::MAX)),
        _ => None,
    }
}

fn typed(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char(letter) => Some(Action::Type(letter)),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter => Some(Action::Close),
        KeyCode::Esc => Some(Action::Clear),
        _ => None,
    }
}

fn pressed(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('s') | KeyCode::Right => Some(Action::Sort),
        KeyCode::Left => Some(Action::SortBack),
        KeyCode::Char('r') => Some(Action::Reverse),
        KeyCode::Char('/') => Some(Action::Filter),
        KeyCode::Char('e') | KeyCode::Enter => Some(Action::Explain),
        KeyCode::Char('p' | ' ') => Some(Action::Pause),
        KeyCode::Char('?' | 'h') => Some(Action::Help),
        KeyCode::Char('j') => Some(Action::Down(1)),
        KeyCode::Char('k') => Some(Action::Up(1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(mode: Mode, code: KeyCode) -> Option<Action> {
        action(mode, &KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn letters_are_commands_or_a_filter() {
        let q = KeyCode::Char('q');
        assert_eq!(pressed(Mode::Table, q), Some(Action::Quit));
        assert_eq!(pressed(Mode::Filter, q), Some(Action::Type('q')));
        assert_eq!(pressed(Mode::Explain, q), Some(Action::Quit));
    }

    #[test]
    fn escape_closes_what_is_open_before_it_ends() {
        for (mode, wanted) in [
            (Mode::Table, Action::Quit),
            (Mode::Filter, Action::Clear),
            (Mode::Explain, Action::Close),
            (Mode::Help, Action::Close),
        ] {
            assert_eq!(pressed(mode, KeyCode::Esc), Some(wanted));
        }
    }

    #[test]
    fn control_c_ends_whatever_is_open() {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in [Mode::Table, Mode::Filter, Mode::Explain, Mode::Help] {
            assert_eq!(action(mode, &key), Some(Action::Quit));
        }
    }
}
