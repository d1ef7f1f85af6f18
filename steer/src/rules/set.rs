//! Rules without contradictions, and what they say.

use super::build::{BuildError, Builder};
use super::table::{NameTable, Slot};
use super::text::TextSet;
use super::{Domain, Net, Pattern, Rule, Scope, Subject, TextPattern, Verdict};
use crate::origin::Origin;
use crate::route::VpnId;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use steer_common::types::{self, RuleEntry};

/// What a rule set says about a name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The path chosen.
    pub verdict: Verdict,
    /// The VPN, if the rule says which.
    pub vpn: Option<VpnId>,
    /// The rule's place.
    pub origin: Origin,
    /// What the rule is about.
    pub by: By<'a>,
}

/// What a rule that holds is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// A domain: the name itself or one that it is below.
    Domain(&'a str),
    /// The range that an address is in.
    Net(Net),
    /// What was found in a name.
    Text(&'a TextPattern),
}

/// Rules without contradictions, ready to be looked up: a million names take some 60 octets each.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    names: NameTable,
    sources: Vec<Given>,
    nets: BTreeMap<Net, Held>,
    /// Those before win over those after.
    texts: Vec<(TextPattern, Held)>,
    found: TextSet,
}

/// A verdict that holds, and which rule gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Counted from 1; 0 where there are no lines.
    pub(super) line: u32,
    pub(super) source: u16,
    pub(super) verdict: Verdict,
    /// How narrowly the rule was written: of two at one name, the narrower is the more specific.
    pub(super) scope: Scope,
}

/// A source, and the VPN of its rules: more than one where its rules have several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) source: Source,
    pub(super) vpn: Option<VpnId>,
}

/// An [`Origin`] without its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Added,
    Flag(&'static str),
    File(Arc<Path>),
    List(Arc<str>),
    Preset(&'static str),
    Default,
}

impl RuleSet {
    /// Brings rules from all sources together, as [`Builder`] does.
    ///
    /// # Errors
    /// As for [`Builder::build`].
    pub fn compile(rules: impl IntoIterator<Item = Rule>) -> Result<Self, BuildError> {
        let mut builder = Builder::default();
        for rule in rules {
            builder.add(rule)?;
        }
        builder.build()
    }

    pub(super) fn new(
        names: NameTable,
        sources: Vec<Given>,
        nets: BTreeMap<Net, Held>,
        texts: Vec<(TextPattern, Held)>,
        found: TextSet,
    ) -> Self {
        Self {
            names,
            sources,
            nets,
            texts,
            found,
        }
    }

    /// The verdict on a name, which may be in any case and end with a dot; none where no rule speaks of it. Keywords and
    /// regular expressions are asked where no domain's rule speaks.
    ///
    /// Of domains, this is what the kernel must say too.
    pub fn decide(&self, name: &str) -> Option<Judgement<'_>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.decide_by_domain(&name).or_else(|| {
            let (text, held) = &self.texts[self.found.first(&name)?];
            Some(self.judgement(*held, By::Text(text)))
        })
    }

    fn decide_by_domain(&self, name: &str) -> Option<Judgement<'_>> {
        if let Some((domain, slot)) = self.names.slot(name)
            && let Some(held) = slot.exact
        {
            return Some(self.judgement(held, By::Domain(domain)));
        }
        let mut rest = name;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some((domain, slot)) = self.names.slot(suffix)
                && let Some(held) = slot.below
            {
                return Some(self.judgement(held, By::Domain(domain)));
            }
            rest = suffix;
        }
        None
    }

    /// The verdict on an address, by the range with the longest prefix that it is in; none where it is in none.
    pub fn decide_address(&self, address: IpAddr) -> Option<Judgement<'_>> {
        let address = address.to_canonical();
        (0..=128).rev().find_map(|prefix| {
            let net = Net::around(address, prefix)?;
            let held = self.nets.get(&net)?;
            Some(self.judgement(*held, By::Net(net)))
        })
    }

    /// The domains with their verdicts as the kernel's map has them, in the order in which they came.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, RuleEntry)> {
        self.names
            .iter()
            .map(|(name, slot)| (name, self.kernel(slot)))
    }

    /// The verdicts at a place in the order of [`Self::entries`].
    pub(super) fn entry(&self, place: usize) -> Option<RuleEntry> {
        self.names.get(place).map(|(_, slot)| self.kernel(slot))
    }

    /// The domain at a place in the order of [`Self::entries`].
    pub fn domain(&self, place: usize) -> Option<&str> {
        self.names.get(place).map(|(name, _)| name)
    }

    /// The ranges of addresses with their verdicts.
    pub fn nets(&self) -> impl ExactSizeIterator<Item = (Net, Judgement<'_>)> {
        self.nets
            .iter()
            .map(|(net, held)| (*net, self.judgement(*held, By::Net(*net))))
    }

    /// The keywords and regular expressions with their verdicts; those before win over those after.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = (&TextPattern, Judgement<'_>)> {
        self.texts
            .iter()
            .map(|(text, held)| (text, self.judgement(*held, By::Text(text))))
    }

    /// Whether there are keywords or regular expressions, which only user space can judge.
    pub fn has_patterns(&self) -> bool {
        !self.texts.is_empty()
    }

    /// Whether names are blocked.
    pub fn blocks_names(&self) -> bool {
        let blocks = |held: &Held| held.verdict == Verdict::Block;
        let mut slots = self.names.iter().map(|(_, slot)| slot);
        slots.any(|slot| slot.exact.iter().chain(&slot.below).any(blocks))
            || self.texts.iter().any(|(_, held)| blocks(held))
    }

    /// What holds of domains, as patterns: those of all verdicts that a user would write to get this rule set, in the order
    /// in which their domains came.
    pub fn patterns(&self) -> impl Iterator<Item = (Pattern, Judgement<'_>)> {
        self.patterns_of(|_| true)
    }

    /// What holds of what the user or a preset wrote, rather than a list, which may have a million of them; in the alphabet's
    /// order.
    pub fn own(&self) -> Vec<(Subject, Judgement<'_>)> {
        let own = |held: Held| !matches!(self.source(held), Source::List(_));
        let by_list = |judgement: &Judgement<'_>| matches!(judgement.origin, Origin::List { .. });
        let names = self
            .patterns_of(own)
            .map(|(pattern, judgement)| (Subject::Names(pattern), judgement));
        let nets = self
            .nets()
            .map(|(net, judgement)| (Subject::Addresses(net), judgement));
        let texts = self
            .texts()
            .map(|(text, judgement)| (Subject::Text(text.clone()), judgement));
        let others = nets.chain(texts).filter(|(_, by)| !by_list(by));
        let mut own: Vec<_> = names.chain(others).collect();
        own.sort_by(|(a, _), (b, _)| a.cmp(b));
        own
    }

    /// What holds at a domain itself, as patterns.
    pub fn at(&self, domain: &str) -> impl Iterator<Item = (Pattern, Judgement<'_>)> {
        let found = self.names.slot(domain).into_iter();
        found.flat_map(|(name, slot)| self.patterns_at(name, slot, |_| true))
    }

    fn patterns_of(
        &self,
        meant: impl Fn(Held) -> bool + Copy,
    ) -> impl Iterator<Item = (Pattern, Judgement<'_>)> {
        let names = self.names.iter();
        names.flat_map(move |(name, slot)| self.patterns_at(name, slot, meant))
    }

    fn patterns_at<'a, F: Fn(Held) -> bool>(
        &'a self,
        name: &'a str,
        slot: &Slot,
        meant: F,
    ) -> impl Iterator<Item = (Pattern, Judgement<'a>)> + use<'a, F> {
        let pattern = |scope, held: Held| {
            let domain = Domain::normal(name);
            let judgement = self.judgement(held, By::Domain(name));
            (Pattern { domain, scope }, judgement)
        };
        let [first, second] = match (
            slot.exact.filter(|&held| meant(held)),
            slot.below.filter(|&held| meant(held)),
        ) {
            (Some(exact), Some(below)) if exact == below => {
                [Some(pattern(Scope::Both, exact)), None]
            }
            (exact, below) => [
                exact.map(|held| pattern(Scope::Exact, held)),
                below.map(|held| pattern(Scope::Below, held)),
            ],
        };
        first.into_iter().chain(second)
    }

    /// The names that a rule sends through the VPN as such, not only those below them, save those of lists, in the
    /// alphabet's order.
    pub fn chosen_for_vpn(&self) -> impl Iterator<Item = &str> {
        let chosen = self.names.iter().filter_map(|(name, slot)| {
            let exact = slot.exact.filter(|held| held.verdict == Verdict::Vpn)?;
            match self.source(exact) {
                Source::List(_) => None,
                Source::Added
                | Source::Flag(_)
                | Source::File(_)
                | Source::Preset(_)
                | Source::Default => Some(name),
            }
        });
        let mut chosen: Vec<_> = chosen.collect();
        chosen.sort_unstable();
        chosen.into_iter()
    }

    /// How many domains carry a verdict: the number of entries that the kernel's map needs.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// How many rules there are: domains, ranges of addresses, keywords and regular expressions.
    pub fn count(&self) -> usize {
        self.len() + self.nets.len() + self.texts.len()
    }

    /// Whether nothing is decided at all.
    pub fn is_empty(&self) -> bool {
        self.names.len() == 0 && self.nets.is_empty() && self.texts.is_empty()
    }

    fn judgement<'a>(&self, held: Held, by: By<'a>) -> Judgement<'a> {
        Judgement {
            verdict: held.verdict,
            vpn: self.given(held).vpn,
            origin: self.source(held).at(held.line),
            by,
        }
    }

    fn source(&self, held: Held) -> &Source {
        &self.given(held).source
    }

    fn given(&self, held: Held) -> &Given {
        &self.sources[usize::from(held.source)]
    }

    fn kernel(&self, slot: &Slot) -> RuleEntry {
        let verdict = |held: Option<Held>| {
            let verdict = held.map(|held| held.verdict.kernel(self.given(held).vpn));
            verdict.unwrap_or_default()
        };
        RuleEntry {
            exact: verdict(slot.exact),
            below: verdict(slot.below),
        }
    }
}

impl Judgement<'_> {
    /// The path, as the maps have it.
    pub fn kernel(&self) -> types::Verdict {
        self.verdict.kernel(self.vpn)
    }
}

impl PartialEq for RuleSet {
    /// The same rules, from the same places and in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.patterns().eq(other.patterns())
            && self.nets().eq(other.nets())
            && self.texts().eq(other.texts())
    }
}

impl Eq for RuleSet {}

impl Source {
    /// The source of an origin, and its line.
    pub(super) fn of(origin: Origin) -> (Self, u32) {
        let number = |line: usize| u32::try_from(line).unwrap_or(0);
        match origin {
            Origin::Added => (Self::Added, 0),
            Origin::Flag(flag) => (Self::Flag(flag), 0),
            Origin::File { path, line } => (Self::File(path), number(line)),
            Origin::List { name, line } => (Self::List(name), number(line)),
            Origin::Preset { name, line } => (Self::Preset(name), number(line)),
            Origin::Default => (Self::Default, 0),
        }
    }

    /// The origin of what stands on a line of it.
    pub(super) fn at(&self, line: u32) -> Origin {
        let line = line as usize;
        match self {
            Self::Added => Origin::Added,
            Self::Flag(flag) => Origin::Flag(flag),
            Self::File(path) => Origin::File {
                path: path.clone(),
                line,
            },
            Self::List(name) => Origin::List {
                name: name.clone(),
                line,
            },
            Self::Preset(name) => Origin::Preset { name, line },
            Self::Default => Origin::Default,
        }
    }

    /// How much say it has against another about the same thing: more wins.
    pub(super) fn authority(&self) -> u8 {
        self.at(0).authority()
    }

    /// Whether the user wrote the rules there, who is to mend them where they contradict each other.
    pub(super) fn is_users_own(&self) -> bool {
        matches!(self, Self::Added | Self::Flag(_) | Self::File(_))
    }
}

#[cfg(test)]
mod tests;
