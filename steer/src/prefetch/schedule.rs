//! When each name is asked for: before its answer expires, and less and less often while there is none.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// An answer is asked for again no later than this, so that a change of `/etc/hosts`, which knows no TTL, is seen too.
pub(super) const LONGEST: u32 = 3600;
/// And no sooner than this: the kernel keeps an address that long at least.
const SHORTEST: u32 = 60;
/// From the first failure to the next attempt; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// No longer than this.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// What came of asking for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Addresses, to be kept for so many seconds.
    Answer(u32),
    /// That there are none, which seldom changes.
    Nothing,
    /// Nothing was learned.
    Failure,
}

/// Names, each with the time when it is due, or on its way.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeSet<(Instant, String)>,
    names: HashMap<String, State>,
}

#[derive(Debug, Default)]
struct State {
    /// None while it is on its way.
    due: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
}

impl Schedule {
    /// Asks for these names and no others; those that are new are due at `now`.
    pub fn set(&mut self, names: impl IntoIterator<Item = String>, now: Instant) {
        let mut old = std::mem::take(&mut self.names);
        self.due.clear();
        for name in names {
            let state = old.remove(&name).unwrap_or(State {
                due: Some(now),
                failures: 0,
            });
            if let Some(due) = state.due {
                self.due.insert((due, name.clone()));
            }
            self.names.insert(name, state);
        }
    }

    /// Takes a name that is due.
    pub fn take(&mut self, now: Instant) -> Option<String> {
        if self.next()? > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        if let Some(state) = self.names.get_mut(&name) {
            state.due = None;
        }
        Some(name)
    }

    /// When the next name is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Puts a taken name back. Says whether it is still wanted.
    pub fn put_back(&mut self, name: &str, outcome: Outcome, now: Instant) -> bool {
        let Some(state) = self.names.get_mut(name) else {
            return false;
        };
        state.failures = match outcome {
            Outcome::Answer(_) => 0,
            Outcome::Nothing => u32::MAX,
            Outcome::Failure => state.failures.saturating_add(1),
        };
        let wait = match outcome {
            Outcome::Answer(ttl) => refresh(ttl, random()),
            Outcome::Nothing | Outcome::Failure => retry(state.failures, random()),
        };
        let due = now + wait;
        state.due = Some(due);
        self.due.insert((due, name.to_owned()));
        true
    }

    /// Has the names without an answer asked for at once: the resolver is another.
    pub fn hurry(&mut self, now: Instant) {
        for (name, state) in &mut self.names {
            if state.failures > 0
                && let Some(due) = &mut state.due
            {
                self.due.remove(&(*due, name.clone()));
                *due = now;
                self.due.insert((now, name.clone()));
            }
        }
    }
}

/// From an answer to the next question: 80 to 100 % of its life, so that names asked for together do not stay together.
fn refresh(ttl: u32, random: u64) -> Duration {
    let life = Duration::from_secs(ttl.clamp(SHORTEST, LONGEST).into());
    part(life, 80, 100, random)
}

/// From a failure to the next attempt: 75 to 100 % of a time that doubles.
fn retry(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let wait = FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY);
    part(wait, 75, 100, random)
}

fn part(whole: Duration, from: u32, to: u32, random: u64) -> Duration {
    let span = u64::from(to - from) * 1000;
    let thousandths = from * 1000 + u32::try_from(random % span).unwrap_or_default();
    whole * thousandths / 100_000
}

/// Any number: the keys of a `RandomState` differ each time.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_asked_for_again_before_it_expires_within_bounds() {
        for random in [0, 1, 19_999, 20_000, u64::MAX] {
            for (ttl, life) in [(0, 60), (60, 60), (300, 300), (86_400, 3600)] {
                let wait = refresh(ttl, random);
                assert!(wait >= after(life) * 4 / 5 && wait < after(life), "{ttl}");
            }
        }
    }

    #[test]
    fn attempts_become_rarer_up_to_a_bound() {
        for random in [0, 24_999, u64::MAX] {
            for (failures, longest) in [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (u32::MAX, 300)]
            {
                let wait = retry(failures, random);
                assert!(wait >= after(longest) * 3 / 4 && wait <= after(longest));
            }
        }
    }

    #[test]
    fn each_name_is_on_its_way_once() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.set(names(&["a", "b"]), now);
        assert_eq!(schedule.take(now).as_deref(), Some("a"));
        assert_eq!(schedule.take(now).as_deref(), Some("b"));
        assert_eq!(schedule.take(now), None);
        assert_eq!(schedule.next(), None);
        assert!(schedule.put_back("a", Outcome::Answer(100), now));
        assert_eq!(schedule.take(now + after(79)), None);
        assert_eq!(schedule.take(now + after(100)).as_deref(), Some("a"));
    }

    #[test]
    fn other_names_leave_the_times_of_those_that_stay() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.set(names(&["gone", "stays", "taken"]), now);
        while schedule.take(now).is_some() {}
        assert!(schedule.put_back("gone", Outcome::Failure, now));
        assert!(schedule.put_back("stays", Outcome::Answer(60), now));
        schedule.set(names(&["new", "stays", "taken"]), now);
        assert_eq!(schedule.take(now).as_deref(), Some("new"));
        assert_eq!(schedule.take(now), None);
        assert!(!schedule.put_back("gone", Outcome::Answer(60), now));
        assert_eq!(schedule.take(now + after(60)).as_deref(), Some("stays"));
        assert!(schedule.put_back("taken", Outcome::Answer(60), now));
    }

    #[test]
    fn another_resolver_is_asked_at_once_for_what_failed() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.set(names(&["bad", "good"]), now);
        while schedule.take(now).is_some() {}
        schedule.put_back("bad", Outcome::Nothing, now);
        schedule.put_back("good", Outcome::Answer(60), now);
        schedule.hurry(now);
        assert_eq!(schedule.take(now).as_deref(), Some("bad"));
        assert_eq!(schedule.take(now), None);
    }
}
