//! Errors as sentences.

use std::{error::Error, fmt::Write as _};

/// An error and its causes in one line, each cause once.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text
}
