//! The configuration file.

use std::path::Path;

use steer::config::{ConfigError, ConfigFile, Overrides, Settings};

use crate::domain::assert_is_a_sentence;

const PATH: &str = "steer.toml";

/// A text as a configuration file: what is accepted is TOML; what is refused, when it is read or when its values are
/// judged, is refused in one sentence with the file and a line that it has.
pub fn check(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let file = ConfigFile::parse(Path::new(PATH), text);
    let toml = text.parse::<toml::Table>();
    assert!(
        file.is_err() || toml.is_ok(),
        "accepted, and no TOML: {toml:?}"
    );
    let settings = file.and_then(|file| Settings::resolve(file, Overrides::default()));
    if let Err(error) = settings {
        check_error(text, &error);
    }
}

fn check_error(text: &str, error: &ConfigError) {
    let said = error.to_string();
    assert_is_a_sentence(&said);
    if let ConfigError::Invalid { .. } = error {
        let place = said
            .strip_prefix(PATH)
            .and_then(|rest| rest.strip_prefix(':'));
        let line = place.and_then(|rest| rest.split(':').next()?.trim().parse::<usize>().ok());
        let lines = text.split('\n').count();
        assert!(
            line.is_some_and(|line| (1..=lines).contains(&line)),
            "{said:?} of {lines} lines"
        );
    }
}
