//! How long one thing takes, again and again.

use std::{
    fmt,
    time::{Duration, Instant},
};

#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Does it once more.
    pub fn of<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = act();
        self.0.push(start.elapsed());
        done
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn median(&self) -> Duration {
        self.at(50)
    }

    /// What `part` of a hundred did not exceed.
    fn at(&self, part: usize) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        let at = (times.len() * part / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} times, in {:.1?} (median), {:.1?} (99 of 100), {:.1?} (slowest)",
            self.count(),
            self.median(),
            self.at(99),
            self.at(100),
        )
    }
}
