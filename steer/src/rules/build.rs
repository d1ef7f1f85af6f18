//! Rules from all sources become one set without contradictions.

use super::list::Parsed;
use super::set::{Given, Held, Source};
use super::table::NameTable;
use super::text::TextSet;
use super::{Net, Rule, RuleSet, Scope, Subject, TextPattern, Verdict};
use crate::origin::Origin;
use crate::route::VpnId;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Brings rules from all sources together.
///
/// Of two rules about the same names, the one from the source of more authority holds (flag, file, list or preset), then the
/// one written more narrowly (`example.com` against `.example.com`). Where lists and presets contradict each other, `direct`
/// holds, and `block` does not.
#[derive(Debug, Default)]
pub struct Builder {
    names: NameTable,
    sources: Vec<Given>,
    nets: BTreeMap<Net, Held>,
    texts: Vec<(TextPattern, Held)>,
}

impl Builder {
    /// Adds a rule.
    ///
    /// # Errors
    /// The user contradicts themselves: the same names with both verdicts, in one file or on one command line. Or there are
    /// too many.
    pub fn add(&mut self, rule: Rule) -> Result<(), BuildError> {
        let (source, line) = Source::of(rule.origin);
        let mut held = Held {
            source: self.source(source, rule.vpn)?,
            line,
            verdict: rule.verdict,
            scope: Scope::Exact,
        };
        match rule.subject {
            Subject::Names(pattern) => {
                held.scope = pattern.scope;
                self.name(pattern.domain.as_str(), held)?;
            }
            Subject::Addresses(net) => self.net(net, held)?,
            Subject::Text(text) => self.texts.push((text, held)),
        }
        Ok(())
    }

    /// Adds what a list says; `name` is for messages.
    ///
    /// # Errors
    /// There are too many.
    pub fn add_list(
        &mut self,
        name: &Arc<str>,
        verdict: Verdict,
        vpn: Option<VpnId>,
        parsed: Parsed,
    ) -> Result<(), BuildError> {
        let source = self.source(Source::List(name.clone()), vpn)?;
        let held = |line, verdict, scope| Held {
            line,
            source,
            verdict,
            scope,
        };
        self.names.reserve(parsed.names.len());
        for (name, scope, line) in parsed.names.iter() {
            self.name(name, held(line, verdict, scope))?;
        }
        for (name, scope, line) in parsed.exceptions.iter() {
            self.name(name, held(line, Verdict::Direct, scope))?;
        }
        for (net, line) in parsed.nets {
            self.net(net, held(line, verdict, Scope::Exact))?;
        }
        let texts = parsed.texts.into_iter();
        self.texts
            .extend(texts.map(|(text, line)| (text, held(line, verdict, Scope::Exact))));
        Ok(())
    }

    /// The rules as a whole.
    ///
    /// # Errors
    /// What is to be looked for in names is more than can be.
    pub fn build(self) -> Result<RuleSet, BuildError> {
        let Self {
            mut names,
            sources,
            nets,
            mut texts,
        } = self;
        names.shrink();
        // What is found first wins, so they stand in the order of their say.
        texts.sort_by_key(|(_, held)| {
            let authority = sources[usize::from(held.source)].source.authority();
            (Reverse(authority), Reverse(say(held.verdict)))
        });
        let mut known = HashSet::new();
        texts.retain(|(text, _)| known.insert(text.clone()));
        let found = TextSet::new(texts.iter().map(|(text, _)| text))?;
        Ok(RuleSet::new(names, sources, nets, texts, found))
    }

    fn name(&mut self, name: &str, held: Held) -> Result<(), BuildError> {
        let slot = self.names.slot_mut(name).ok_or(BuildError::TooManyNames)?;
        let shown = || format!("{}{name}", held.scope.prefix());
        if held.scope != Scope::Below {
            settle(&mut slot.exact, held, &self.sources, shown)?;
        }
        if held.scope != Scope::Exact {
            settle(&mut slot.below, held, &self.sources, shown)?;
        }
        Ok(())
    }

    fn net(&mut self, net: Net, held: Held) -> Result<(), BuildError> {
        let mut holder = self.nets.get(&net).copied();
        settle(&mut holder, held, &self.sources, || net.to_string())?;
        self.nets.extend(holder.map(|holder| (net, holder)));
        Ok(())
    }

    /// The number of a source, which is the last one's for all the rules of a list.
    fn source(&mut self, source: Source, vpn: Option<VpnId>) -> Result<u16, BuildError> {
        let given = Given { source, vpn };
        let known = self.sources.iter().rposition(|known| *known == given);
        let number = known.unwrap_or_else(|| {
            self.sources.push(given);
            self.sources.len() - 1
        });
        number.try_into().map_err(|_| BuildError::TooManySources)
    }
}

/// Why rules do not make a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The user contradicts themselves.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The names have more than 4 GiB.
    #[error(
        "the rules have more than 4 GiB of names, which is more than can be held; use fewer lists"
    )]
    TooManyNames,
    /// There are more files than can be told apart.
    #[error("the rules come from more than 65,536 files; bring some of them together")]
    TooManySources,
    /// Keywords and regular expressions take too much memory.
    #[error(
        "the {count} keywords and regular expressions take more than {limit} MiB when compiled; use fewer of them"
    )]
    TooMuchText {
        /// How many there are.
        count: usize,
        /// What they may take, in mebibytes.
        limit: usize,
    },
}

/// The user gave both verdicts to the same names, or two VPNs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{origin}: \"{subject}\" is to go {} here and {other_way} at {other}; keep one of the two",
    towards(*verdict)
)]
pub struct Conflict {
    subject: String,
    verdict: Verdict,
    origin: Origin,
    other_way: &'static str,
    other: Origin,
}

/// How much say a verdict has where lists and presets contradict each other: what must work does.
fn say(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Block => 0,
        Verdict::Vpn => 1,
        Verdict::Direct => 2,
    }
}

fn towards(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Vpn => "vpn",
        Verdict::Direct => "direct",
        Verdict::Block => "nowhere",
    }
}

/// Puts a rule into a slot, or leaves what holds it.
fn settle(
    slot: &mut Option<Held>,
    newcomer: Held,
    sources: &[Given],
    shown: impl Fn() -> String,
) -> Result<(), Conflict> {
    let Some(holder) = slot else {
        *slot = Some(newcomer);
        return Ok(());
    };
    let given = |held: &Held| &sources[usize::from(held.source)];
    let source = |held: &Held| &given(held).source;
    let path = |held: &Held| held.verdict.kernel(given(held).vpn);
    let weight = |held: &Held| (source(held).authority(), held.scope != Scope::Both);
    match weight(&newcomer).cmp(&weight(holder)) {
        Ordering::Greater => *slot = Some(newcomer),
        Ordering::Less => {}
        Ordering::Equal if path(&newcomer) == path(holder) => {}
        Ordering::Equal if !source(&newcomer).is_users_own() => {
            if say(newcomer.verdict) > say(holder.verdict) {
                *slot = Some(newcomer);
            }
        }
        Ordering::Equal => {
            return Err(Conflict {
                subject: shown(),
                verdict: newcomer.verdict,
                origin: source(&newcomer).at(newcomer.line),
                other_way: match holder.verdict {
                    same if same == newcomer.verdict => "by another VPN",
                    other => towards(other),
                },
                other: source(holder).at(holder.line),
            });
        }
    }
    Ok(())
}
