//! Which names go through the VPN: patterns, presets, and their compilation to entries for the kernel.

mod compile;
mod domain;
mod preset;

pub use compile::{Conflict, Entry, HashCollision, Judgement, Keyed, RuleSet};
pub use domain::{Domain, Pattern, PatternError, Scope};
pub use preset::{Preset, UnknownPreset};

use crate::origin::Origin;
use std::fmt;

/// The path that a rule chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Through the VPN.
    Vpn,
    /// The path that the host would take anyway.
    Direct,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vpn => "vpn",
            Self::Direct => "direct",
        })
    }
}

/// A pattern with the path of the names that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The names meant.
    pub pattern: Pattern,
    /// Their path.
    pub verdict: Verdict,
    /// What gave the rule.
    pub origin: Origin,
}
