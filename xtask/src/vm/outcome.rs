//! What came of a kernel's tests: read from its guest's lines as they come, and written as JSON.
//!
//! The JSON of a run is an object: `seconds`, `acceleration` (`"kvm"` or `"emulation"`), `passed` (whether all is well), and
//! `kernels`, a list of [`Outcome`]s. Times are in seconds, names as in the table; what is not known is left out or null.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::protocol::{Ending, Event};
use crate::tally::Tally;

/// What marks a fact among the lines that tests print.
const FACT: &str = "fact: ";

/// What came of one kernel.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Its version, such as `6.1.192`.
    pub kernel: String,
    /// Its `uname -r`.
    pub release: String,
    /// From the start of its guest to the end.
    pub seconds: f64,
    /// How long its guest took to boot; null if it did not.
    pub boot: Option<f64>,
    /// The groups that began, in order.
    pub groups: Vec<GroupOutcome>,
    /// What the tests found out about this kernel.
    pub facts: Facts,
    /// What went wrong with the guest itself.
    pub fault: Option<Fault>,
}

/// What came of one group of tests.
#[derive(Debug, Default, Serialize)]
pub struct GroupOutcome {
    /// Its name.
    pub name: String,
    /// How long it took; null if it did not end.
    pub seconds: Option<f64>,
    /// How many tests went how.
    #[serde(flatten)]
    pub tally: Tally,
    /// The tests that failed.
    pub failures: Vec<Failure>,
    /// Why the group as a whole failed, where its tests do not tell: a sentence without its full stop.
    pub fault: Option<String>,
}

/// A test that failed.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Its name.
    pub test: String,
    /// What it printed.
    pub output: Vec<String>,
}

/// What went wrong with a guest.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// A sentence without its full stop.
    pub what: String,
    /// The last lines of its console.
    pub console: Vec<String>,
}

/// What the tests found out about a kernel, by lines that begin with `fact: `.
#[derive(Debug, Default, Serialize)]
pub struct Facts {
    /// `fact: attach tcx`: by what programs are attached to bridges, tcx or clsact.
    pub attach: Option<String>,
    /// `fact: pinned links yes`: whether links outlive the process by pins; `cgroups only` where those to bridges are none.
    pub pinned_links: Option<String>,
    /// `fact: verified bridge_ingress 59123`: how many instructions the verifier went through; null where the kernel does not tell.
    pub verified: BTreeMap<String, Option<u64>>,
    /// `fact: left out TEST: WHY`: tests that this kernel cannot run.
    pub left_out: Vec<String>,
    /// `fact: said note     clsact …`: what `steer run` printed at its start.
    pub said: Vec<String>,
}

impl Outcome {
    /// Whether everything is well.
    pub fn passed(&self) -> bool {
        self.fault.is_none() && self.groups.iter().all(GroupOutcome::passed)
    }

    /// Counts groups as failed that ran no test, as all of them do where nothing was chosen.
    pub fn distrust_silence(&mut self) {
        for group in &mut self.groups {
            if group.passed() && group.tally.total() == 0 {
                group.fault = Some("it ran no test".to_owned());
            }
        }
    }

    /// The tests of all groups.
    pub fn tally(&self) -> Tally {
        self.groups.iter().map(|group| group.tally).sum()
    }
}

impl GroupOutcome {
    /// Whether all its tests passed, and it ended well.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
            && self.fault.is_none()
            && self.seconds.is_some()
            && self.tally.failed() == 0
    }
}

impl Facts {
    fn read(&mut self, fact: &str) {
        let Some((what, value)) = fact.split_once(' ') else {
            return;
        };
        match what {
            "attach" => self.attach = Some(value.to_owned()),
            "pinned" => {
                self.pinned_links = Some(value.strip_prefix("links ").unwrap_or(value).to_owned());
            }
            "verified" => {
                if let Some((program, count)) = value.split_once(' ') {
                    self.verified
                        .insert(program.to_owned(), count.trim().parse().ok());
                }
            }
            "left" => self
                .left_out
                .push(value.strip_prefix("out ").unwrap_or(value).to_owned()),
            "said" => self.said.push(value.to_owned()),
            _ => {}
        }
    }
}

/// Reads a guest's lines.
pub struct Reader {
    started: Instant,
    outcome: Outcome,
    section: Option<(String, Vec<String>)>,
}

impl Reader {
    /// Begins with a guest that is being started.
    pub fn new(kernel: &str, release: &str) -> Self {
        Self {
            started: Instant::now(),
            outcome: Outcome {
                kernel: kernel.to_owned(),
                release: release.to_owned(),
                ..Outcome::default()
            },
            section: None,
        }
    }

    /// Takes in an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Up { .. } => self.outcome.boot = Some(self.started.elapsed().as_secs_f64()),
            Event::Begin { group } => self.outcome.groups.push(GroupOutcome {
                name: group.clone(),
                ..GroupOutcome::default()
            }),
            Event::End { seconds, ending } => self.end(*seconds, ending),
            Event::Beat { .. } | Event::Done => {}
        }
    }

    fn end(&mut self, seconds: f64, ending: &Ending) {
        self.close_section();
        let Some(group) = self.outcome.groups.last_mut() else {
            return;
        };
        group.seconds = Some(seconds);
        group.fault = match ending {
            Ending::Badly(_) if !group.failures.is_empty() => None,
            Ending::Badly(how) => Some(format!("its program {how}")),
            Ending::Overdue { doing } => Some(format!(
                "it was not through after {seconds:.0} s, and was killed at: {doing}"
            )),
            Ending::Well => None,
        };
    }

    /// Takes in a line that a test program printed.
    pub fn line(&mut self, line: &str) {
        if let Some(fact) = line.trim_start().strip_prefix(FACT) {
            self.outcome.facts.read(fact);
        }
        let Some(group) = self.outcome.groups.last_mut() else {
            return;
        };
        group.tally.read(line);

        let heading = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = heading {
            self.close_section();
            self.section = Some((test.to_owned(), Vec::new()));
        } else if matches!(line, "failures:" | "successes:") || line.starts_with("test result: ") {
            self.close_section();
        } else if let Some((_, output)) = &mut self.section {
            output.push(line.to_owned());
        } else if let Some(test) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            group.failures.push(Failure {
                test: test.to_owned(),
                output: Vec::new(),
            });
        }
    }

    /// What has come of it, with what went wrong with the guest itself.
    pub fn finish(mut self, fault: Option<Fault>) -> Outcome {
        self.close_section();
        self.outcome.seconds = self.started.elapsed().as_secs_f64();
        self.outcome.fault = fault;
        self.outcome
    }

    /// How long the guest has been running.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The group that came last.
    pub fn group(&self) -> Option<&GroupOutcome> {
        self.outcome.groups.last()
    }

    /// Gives the section that was being read to its test, if that failed.
    fn close_section(&mut self) {
        let Some((test, mut output)) = self.section.take() else {
            return;
        };
        while output.last().is_some_and(|line| line.trim().is_empty()) {
            output.pop();
        }
        let failures = self
            .outcome
            .groups
            .last_mut()
            .map(|group| &mut group.failures);
        if let Some(failure) = failures
            .into_iter()
            .flatten()
            .find(|failure| failure.test == test)
        {
            failure.output = output;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 3 tests
test figures ... ok
test flows::a ... FAILED
test flows::b ... ok

successes:

---- figures stdout ----
program  59123 instructions verified
fact: verified bridge_ingress 59123
fact: verified connect4 unknown
fact: attach clsact
fact: pinned links yes


successes:
    figures
    flows::b

failures:

---- flows::a stdout ----

thread 'flows::a' panicked at steer/tests/datapath/flows.rs:20:5:
assertion `left == right` failed
  left: -1
 right: 2


failures:
    flows::a

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.01s
";

    fn begun(group: &str) -> Event {
        Event::Begin {
            group: group.to_owned(),
        }
    }

    fn ended(ending: Ending) -> Event {
        Event::End {
            seconds: 9.5,
            ending,
        }
    }

    #[test]
    fn a_groups_failures_are_read_with_their_output() {
        let mut reader = Reader::new("6.1.192", "6.1.0-56-cloud-amd64");
        reader.event(&Event::Up {
            release: "6.1.0-56-cloud-amd64".to_owned(),
        });
        reader.event(&begun("programs"));
        OUTPUT.lines().for_each(|line| reader.line(line));
        reader.event(&ended(Ending::Badly(
            "ended with exit status: 101".to_owned(),
        )));
        let outcome = reader.finish(None);

        assert!(!outcome.passed() && outcome.fault.is_none());
        let [group] = outcome.groups.as_slice() else {
            panic!("{outcome:?}")
        };
        assert_eq!((group.tally.passed(), group.tally.failed()), (2, 1));
        assert_eq!(group.fault, None);
        let [failure] = group.failures.as_slice() else {
            panic!("{group:?}")
        };
        assert_eq!(failure.test, "flows::a");
        assert_eq!(failure.output.len(), 5, "{:?}", failure.output);
        assert_eq!(failure.output[4], " right: 2");
    }

    #[test]
    fn facts_are_read_wherever_they_are_printed() {
        let mut reader = Reader::new("5.10.262", "5.10.0");
        reader.event(&begun("programs"));
        OUTPUT.lines().for_each(|line| reader.line(line));
        reader.line("fact: said note     clsact instead of tcx: kernel 5.10 has no tcx");
        reader.line("fact: left out flows::c: no such map");
        let facts = reader.finish(None).facts;
        assert_eq!(facts.left_out, ["flows::c: no such map"]);
        assert_eq!(facts.attach.as_deref(), Some("clsact"));
        assert_eq!(facts.pinned_links.as_deref(), Some("yes"));
        assert_eq!(facts.verified["bridge_ingress"], Some(59123));
        assert_eq!(facts.verified["connect4"], None);
        assert_eq!(
            facts.said,
            ["note     clsact instead of tcx: kernel 5.10 has no tcx"]
        );
    }

    #[test]
    fn a_group_that_does_not_end_is_no_success() {
        let mut reader = Reader::new("5.10.262", "5.10.0");
        reader.event(&begun("routing"));
        reader.line("test steering::a ... ok");
        assert!(!reader.finish(None).passed());
    }

    #[test]
    fn a_program_that_fails_without_a_failed_test_fails_its_group() {
        for ending in [
            Ending::Badly("ended with signal: 11 (SIGSEGV)".to_owned()),
            Ending::Overdue {
                doing: "test slow ...".to_owned(),
            },
        ] {
            let mut reader = Reader::new("5.10.262", "5.10.0");
            reader.event(&begun("routing"));
            reader.event(&ended(ending));
            let outcome = reader.finish(None);
            assert!(!outcome.passed());
            let fault = outcome.groups[0].fault.as_deref().unwrap();
            assert!(
                fault.contains("SIGSEGV") || fault.contains("test slow"),
                "{fault}"
            );
        }
    }

    #[test]
    fn json_tells_the_counts_of_each_group() {
        let mut reader = Reader::new("6.1.192", "6.1.0");
        reader.event(&begun("programs"));
        OUTPUT.lines().for_each(|line| reader.line(line));
        let json = serde_json::to_value(reader.finish(None)).unwrap();
        assert_eq!(json["groups"][0]["passed"], 2);
        assert_eq!(json["groups"][0]["failures"][0]["test"], "flows::a");
        assert_eq!(json["facts"]["verified"]["bridge_ingress"], 59123);
        assert!(json["boot"].is_null());
    }
}
