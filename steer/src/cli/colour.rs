//! Colour for who reads on a terminal.

use anstream::{AutoStream, ColorChoice};
use std::io::stdout;

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Does not work.
    Bad,
    /// Could be better.
    Fair,
    /// Works.
    Good,
    /// Beside the matter.
    Faint,
    /// To be typed, or a headline.
    Strong,
}

/// Whether there is colour at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Palette(pub(super) bool);

impl Palette {
    /// Standard output's: none where it is no terminal, or the user says so (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        Self(AutoStream::choice(&stdout()) != ColorChoice::Never)
    }

    /// A text in a tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.0 || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Bad => "1;31",
            Tone::Fair => "33",
            Tone::Good => "32",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_a_text_stays_as_it_is() {
        assert_eq!(Palette(false).paint(Tone::Bad, "broken"), "broken");
        assert_eq!(
            Palette(true).paint(Tone::Bad, "broken"),
            "\x1b[1;31mbroken\x1b[0m"
        );
        // A test's standard output is none.
        assert_eq!(Palette(true).paint(Tone::Faint, ""), "");
    }
}
