//! What each phase of a run came to, and the summary at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{cross::NotHere, step, system::NoRoot, tally::Tally};

/// The phases so far.
#[derive(Default)]
pub struct Report {
    phases: Vec<Phase>,
}

struct Phase {
    name: &'static str,
    took: Duration,
    tally: Option<Tally>,
    fault: Option<Fault>,
}

struct Fault {
    /// What the summary calls it.
    word: &'static str,
    /// Whether the run fails by it.
    fails: bool,
    reason: String,
}

impl Report {
    /// Runs a phase and returns what it made, or `None` when it failed.
    pub fn phase<T>(&mut self, name: &'static str, body: impl FnOnce() -> Result<T>) -> Option<T> {
        let mut value = None;
        self.record(name, |_| {
            value = Some(body()?);
            Ok(())
        });
        value
    }

    /// Runs a phase that counts tests.
    pub fn tests(&mut self, name: &'static str, body: impl FnOnce(&mut Tally) -> Result<()>) {
        self.record(name, |tally| body(tally.insert(Tally::default())));
    }

    /// Notes a fault that belongs to no phase.
    pub fn fail(&mut self, name: &'static str, reason: String) {
        self.phases.push(Phase {
            name,
            took: Duration::ZERO,
            tally: None,
            fault: Some(Fault {
                word: "FAILED",
                fails: true,
                reason,
            }),
        });
    }

    /// The tests of all phases.
    pub fn tally(&self) -> Tally {
        self.phases.iter().filter_map(|phase| phase.tally).sum()
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When a phase failed or could not run.
    pub fn finish(self, took: Duration) -> Result<()> {
        println!("\n== summary");
        for phase in &self.phases {
            let word = phase.fault.as_ref().map_or("ok", |fault| fault.word);
            let counts = phase.tally.map(|tally| tally.to_string());
            let reason = phase
                .fault
                .as_ref()
                .and_then(|fault| fault.reason.lines().next());
            let detail: Vec<_> = counts.as_deref().into_iter().chain(reason).collect();
            println!(
                "{:<26} {word:<8} {:>12}  {}",
                phase.name,
                step::seconds(phase.took),
                detail.join("; ")
            );
        }
        let faulty: Vec<_> = self
            .phases
            .iter()
            .filter(|phase| phase.fault.as_ref().is_some_and(|fault| fault.fails))
            .map(|phase| phase.name)
            .collect();
        let result = if faulty.is_empty() { "ok" } else { "FAILED" };
        println!(
            "test result: {result}. {} in {}",
            self.tally(),
            step::seconds(took)
        );
        if !faulty.is_empty() {
            bail!("not well: {}", faulty.join(", "));
        }
        Ok(())
    }

    fn record(&mut self, name: &'static str, body: impl FnOnce(&mut Option<Tally>) -> Result<()>) {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let mut tally = None;
        let fault = body(&mut tally).err().map(|error| {
            let (word, fails) = if error.is::<NotHere>() {
                ("LEFT OUT", false)
            } else if error.is::<NoRoot>() {
                ("NOT RUN", true)
            } else {
                ("FAILED", true)
            };
            let label = if fails { "error" } else { "left out" };
            eprintln!("{label}: {error:#}");
            Fault {
                word,
                fails,
                reason: format!("{error:#}"),
            }
        });
        self.phases.push(Phase {
            name,
            took: started.elapsed(),
            tally,
            fault,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_here_fails_no_run() {
        let mut report = Report::default();
        let left_out: Option<()> = report.phase("elsewhere", || Err(NotHere("no".into()).into()));
        assert_eq!(left_out, None);
        assert!(report.finish(Duration::ZERO).is_ok());
    }

    #[test]
    fn a_failed_phase_fails_the_run_and_its_tests_still_count() {
        let mut report = Report::default();
        report.tests("bad", |tally| {
            tally.read("test result: FAILED. 3 passed; 1 failed; 0 ignored");
            bail!("ended with 101")
        });
        assert_eq!(report.phase("good", || Ok(7)), Some(7));
        assert_eq!(report.tally().total(), 4);
        let error = report.finish(Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("bad") && !error.contains("good"), "{error}");
    }
}
