//! What goes through the VPN: names, addresses and words, presets, and their compilation to entries for the kernel.

mod build;
mod domain;
mod keyed;
pub mod list;
mod names;
mod net;
mod preset;
mod set;
mod table;
mod text;

pub use build::{BuildError, Builder, Conflict};
pub use domain::{Domain, Pattern, PatternError, Scope};
pub use keyed::{HashCollision, Keyed, hash as rule_hash};
pub use names::Names;
pub use net::{Net, NetError};
pub use preset::{Preset, UnknownPreset};
pub use set::{By, Judgement, RuleSet};
pub use text::{TextError, TextPattern};

use crate::origin::Origin;
use crate::route::VpnId;
use std::fmt;
use std::str::FromStr;
use steer_common::types;

/// The path that a rule chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Through the VPN.
    Vpn,
    /// The path that the host would take anyway.
    Direct,
    /// None at all.
    Block,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vpn => "vpn",
            Self::Direct => "direct",
            Self::Block => "block",
        })
    }
}

impl FromStr for Verdict {
    type Err = UnknownVerdict;

    fn from_str(text: &str) -> Result<Self, UnknownVerdict> {
        let found = Self::ALL.iter().find(|it| it.to_string() == text);
        found.copied().ok_or(UnknownVerdict)
    }
}

/// A word that is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is none of \"vpn\", \"direct\" and \"block\"")]
pub struct UnknownVerdict;

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vpn, Self::Direct, Self::Block];

    /// As the maps have it, for the VPN of a rule that says which.
    pub(crate) fn kernel(self, vpn: Option<VpnId>) -> types::Verdict {
        match (self, vpn) {
            (Self::Vpn, Some(vpn)) => types::Verdict::by(vpn.path()),
            (Self::Vpn, None) => types::Verdict::VPN,
            (Self::Direct, _) => types::Verdict::DIRECT,
            (Self::Block, _) => types::Verdict::BLOCK,
        }
    }
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A domain: looked up in the kernel, before the application sees the answer.
    Names(Pattern),
    /// Addresses, whatever their names: looked up in the kernel.
    Addresses(Net),
    /// Names in which a text is found, of those that no domain's rule speaks of: found in user space, a moment after the
    /// application has the answer.
    Text(TextPattern),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(pattern) => pattern.fmt(f),
            Self::Addresses(net) => net.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if TextPattern::is_meant(text) {
            Ok(Self::Text(text.parse()?))
        } else if Net::is_meant(text) {
            Ok(Self::Addresses(text.parse()?))
        } else {
            Ok(Self::Names(text.parse()?))
        }
    }
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It was meant to be a domain.
    #[error(transparent)]
    Names(#[from] PatternError),
    /// It was meant to be addresses.
    #[error(transparent)]
    Addresses(#[from] NetError),
    /// It was meant to be a keyword or a regular expression.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// What a rule is about, with the path that it chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The names or addresses meant.
    pub subject: Subject,
    /// Their path.
    pub verdict: Verdict,
    /// The VPN, if that is it; none: that of the scope, else the default one.
    pub vpn: Option<VpnId>,
    /// What gave the rule.
    pub origin: Origin,
}
