//! Names resolved before their use, by steer itself: who connects by an answer that was cached before steer began takes
//! the right path at once.
//!
//! Only names that a rule sends through the VPN: for what goes direct, nothing needs to be known.

mod names;
mod schedule;
mod system;

use std::{fmt, net::IpAddr};

use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

pub use self::{
    names::{MOST, names},
    system::Failure,
};
use self::{
    schedule::{LONGEST, Outcome, Schedule},
    system::{Answer, System},
};

/// Questions on their way at once.
const AT_ONCE: usize = 16;

/// What became of asking for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name.
    pub name: String,
    /// Its addresses, each with its TTL in seconds.
    pub addresses: Vec<(IpAddr, u32)>,
    /// Why there are none, or none of one family.
    pub failure: Option<Failure>,
}

/// Asks for names, each again before its answer expires.
pub struct Prefetch {
    schedule: Schedule,
    system: System,
    flight: JoinSet<(String, Result<Answer, Failure>)>,
}

impl Prefetch {
    /// Asks for nothing yet.
    pub fn new() -> Self {
        Self {
            schedule: Schedule::default(),
            system: System::new(),
            flight: JoinSet::new(),
        }
    }

    /// Asks for these names from now on, and for no others.
    pub fn set(&mut self, names: impl IntoIterator<Item = String>) {
        self.schedule.set(names, Instant::now());
    }

    /// Looks whether the system's resolver is another by now; if so, has names that had no answer asked for again.
    pub fn look(&mut self) {
        if self.system.is_stale() {
            self.system = System::new();
            self.schedule.hurry(Instant::now());
        }
    }

    /// The next name that was asked for, for ever. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Resolved {
        loop {
            while self.flight.len() < AT_ONCE
                && let Some(name) = self.schedule.take(Instant::now())
            {
                if self.system.is_stale() {
                    self.system = System::new();
                }
                let answer = self.system.ask(&name);
                self.flight.spawn(async move { (name, answer.await) });
            }
            let due = self.schedule.next();
            let full = self.flight.len() == AT_ONCE;
            tokio::select! {
                Some(done) = self.flight.join_next() => {
                    if let Some(resolved) = self.take_in(done) {
                        return resolved;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !full => {}
                else => std::future::pending().await,
            }
        }
    }

    fn take_in(
        &mut self,
        done: Result<(String, Result<Answer, Failure>), JoinError>,
    ) -> Option<Resolved> {
        // Nothing cancels them, and a bug in one is no reason to end.
        let (name, answer) = done
            .inspect_err(|error| tracing::error!("a question for a name ended: {error}"))
            .ok()?;
        let outcome = match &answer {
            Ok(answer) if answer.lacks.is_none() => Outcome::Answer(answer.ttl),
            Err(Failure::Absent | Failure::Empty) => Outcome::Nothing,
            Ok(_) | Err(Failure::Failed(_)) => Outcome::Failure,
        };
        let wanted = self.schedule.put_back(&name, outcome, Instant::now());
        let (addresses, failure) = match answer {
            Ok(answer) => (answer.addresses, answer.lacks),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let addresses = addresses
            .into_iter()
            .map(|(address, ttl)| (address, ttl.min(LONGEST)))
            .collect();
        wanted.then_some(Resolved {
            name,
            addresses,
            failure,
        })
    }
}

impl Default for Prefetch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Prefetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetch")
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}
