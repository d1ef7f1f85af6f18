//! What is asked behind the question mark of a path.

use serde::{Deserialize, Serialize};

/// What paths are asked that take no question.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Nothing {}

/// What `/v1/explain` is asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// A name or an address, with a port or without.
    pub to: String,
    /// `container NAME` or `process PID`.
    pub from: Option<String>,
}

/// What `/v1/rules/test` is asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// A name or an address.
    pub about: String,
}

/// What `/v1/events` is asked.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// How many of those that were before come first.
    #[serde(default)]
    pub before: usize,
    /// Whether those that come follow, for as long as the client stays.
    #[serde(default)]
    pub follow: bool,
    /// Which kinds of lines, with commas between; all where it is left out.
    pub kinds: Option<String>,
}

impl Events {
    /// The kinds, each by itself; none for all.
    pub fn kinds(&self) -> Vec<String> {
        let kinds = self.kinds.iter().flat_map(|kinds| kinds.split(','));
        kinds.map(str::to_owned).collect()
    }
}
