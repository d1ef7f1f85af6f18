//! What was known before steer began: the names of the rules, resolved before their use.

use std::collections::{BTreeSet, HashMap};

use steer_common::{
    decide::Match,
    types::{Address, source},
};

use super::{Engine, Error, Ruling};
use crate::{
    datapath::Lesson,
    events::STEER,
    prefetch::{self, Failure, Prefetch, Resolved},
};

/// Names resolved before their use, and what has been told of them.
#[derive(Debug, Default)]
pub(super) struct Known {
    prefetch: Prefetch,
    names: BTreeSet<String>,
    round: Round,
    /// The last failure of each name, as it was told.
    failures: HashMap<String, Failure>,
}

/// The first answers to names that were not asked for before.
#[derive(Debug, Default)]
struct Round {
    awaited: BTreeSet<String>,
    asked: usize,
    addresses: usize,
    failed: Vec<(String, Failure)>,
}

impl Known {
    /// Asks for these names from now on, and for no others.
    fn set(&mut self, names: BTreeSet<String>) {
        let awaited: BTreeSet<_> = names
            .iter()
            .filter(|name| !self.names.contains(*name) || self.round.awaited.contains(*name))
            .cloned()
            .collect();
        self.round = Round {
            asked: awaited.len(),
            awaited,
            ..Round::default()
        };
        self.prefetch.set(names.iter().cloned());
        self.failures.retain(|name, _| names.contains(name));
        self.names = names;
    }

    /// The next name that was asked for.
    pub(super) async fn next(&mut self) -> Resolved {
        self.prefetch.next().await
    }

    /// Looks whether the system's resolver has changed.
    pub(super) fn look(&mut self) {
        self.prefetch.look();
    }
}

impl Engine {
    /// Has the names of the rules of now asked for, if that is wanted. Says what the user should know.
    pub(super) fn know(&mut self) -> Option<String> {
        let (names, beyond) = if self.settings.resolve {
            prefetch::names(self.rulebook.rules())
        } else {
            Default::default()
        };
        self.known.set(names.into_iter().collect());
        (beyond > 0).then(|| {
            format!(
                "{beyond} names are not resolved before their use: no more than {} are",
                prefetch::MOST
            )
        })
    }

    /// Takes in what became of a name, and tells it.
    pub(super) fn resolved(&mut self, resolved: &Resolved) -> Result<(), Error> {
        let taught = self.teach(resolved);
        let Resolved { name, failure, .. } = resolved;
        let known = &mut self.known;
        let is_news = known.failures.get(name) != failure.as_ref();
        match failure {
            Some(failure) => known.failures.insert(name.clone(), failure.clone()),
            None => known.failures.remove(name),
        };
        let round = &mut known.round;
        if !round.awaited.remove(name) {
            if is_news {
                self.report.unresolved(name, failure.as_ref());
            }
            return taught.map(drop);
        }
        if let Ok(count) = &taught {
            round.addresses += count;
        }
        if let Some(failure) = failure {
            round.failed.push((name.clone(), failure.clone()));
        }
        if round.awaited.is_empty() {
            self.report
                .resolved(round.asked, round.addresses, &round.failed);
        }
        taught.map(drop)
    }

    /// Grants the addresses of a name what an answer with them would. Says how many there are.
    fn teach(&mut self, resolved: &Resolved) -> Result<usize, Error> {
        let name = resolved.name.as_str();
        let Some(Ruling { verdict, rule }) = self.rulebook.decide(name) else {
            return Ok(0);
        };
        let matched = Match { verdict, rule };
        let mut count = 0;
        for &(ip, ttl) in &resolved.addresses {
            let learned = self.learn(&Lesson {
                name,
                matched,
                address: Address::from(ip),
                ttl,
                source: source::RESOLVED,
                origin: STEER,
            })?;
            count += usize::from(learned);
        }
        Ok(count)
    }
}
