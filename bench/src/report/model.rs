//! What a run has measured, as it is kept in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// All that a run has measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// When it began, in UTC.
    pub date: String,
    /// Whether it was a quick run, whose figures say little.
    pub quick: bool,
    /// How often everything was measured.
    pub rounds: u32,
    /// Where.
    pub machine: Machine,
    /// Of what: programs by their names.
    pub versions: BTreeMap<String, String>,
    /// What a reader has to know of this run.
    pub notes: Vec<String>,
    /// The measurements.
    pub records: Vec<Record>,
}

/// One thing that was measured, of one contender or of none, at one size or at none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The group that measured it.
    pub group: String,
    /// Its name for programs, unique within the group but for contender and size.
    pub what: String,
    /// Its name for readers.
    pub title: String,
    /// What the samples count.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// Whose it is, where contenders are compared.
    pub contender: Option<String>,
    /// How large that was which grows, for a point of a curve.
    pub size: Option<u64>,
    /// One for each round.
    pub samples: Vec<f64>,
}

impl Record {
    /// Whether both are of the same thing, whatever was measured.
    pub fn same_thing(&self, other: &Self) -> bool {
        (&self.group, &self.what, &self.contender, self.size)
            == (&other.group, &other.what, &other.contender, other.size)
    }
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// A thing to measure.
#[derive(Clone, Debug)]
pub struct Measure {
    /// The group that measures it.
    pub group: &'static str,
    /// Its name for programs.
    pub what: String,
    /// Its name for readers.
    pub title: String,
    /// What a sample counts.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
}

/// Collects what is measured.
#[derive(Debug, Default)]
pub struct Recorder {
    /// So far.
    pub records: Vec<Record>,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// Programs and their versions.
    pub versions: BTreeMap<String, String>,
    /// Whether something could not be measured.
    pub failed: bool,
}

impl Recorder {
    /// Takes a sample of a contender's.
    pub fn of_contender(&mut self, measure: &Measure, contender: &str, sample: f64) {
        self.add(measure, Some(contender), None, sample);
    }

    /// Takes a sample: of a contender's, or at a size, which makes a point of a curve.
    pub fn add(
        &mut self,
        measure: &Measure,
        contender: Option<&str>,
        size: Option<u64>,
        sample: f64,
    ) {
        let record = Record {
            group: measure.group.to_owned(),
            what: measure.what.clone(),
            title: measure.title.clone(),
            unit: measure.unit.to_owned(),
            better: measure.better,
            contender: contender.map(str::to_owned),
            size,
            samples: vec![sample],
        };
        match self.records.iter_mut().find(|it| it.same_thing(&record)) {
            Some(known) => known.samples.push(sample),
            None => self.records.push(record),
        }
    }

    /// Says that something is missing, and why.
    pub fn fail(&mut self, error: &anyhow::Error) {
        let text = format!("FAILED, so something is missing here: {error:#}");
        eprintln!("{text}");
        self.note(text);
        self.failed = true;
    }

    /// Says something of this run, once.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_thing_come_together() {
        let measure = Measure {
            group: "bulk",
            what: "download".to_owned(),
            title: "download".to_owned(),
            unit: "Gbit/s",
            better: Better::Higher,
        };
        let mut recorder = Recorder::default();
        for round in 1..=3 {
            recorder.of_contender(&measure, "steer", f64::from(round));
            recorder.of_contender(&measure, "nothing", f64::from(round) * 2.0);
        }
        recorder.add(&measure, None, Some(10), 5.0);
        let samples: Vec<_> = recorder
            .records
            .iter()
            .map(|it| it.samples.clone())
            .collect();
        assert_eq!(
            samples,
            [vec![1.0, 2.0, 3.0], vec![2.0, 4.0, 6.0], vec![5.0]]
        );
    }

    #[test]
    fn a_record_comes_back_from_json() {
        let record = Record {
            group: "bulk".to_owned(),
            what: "download".to_owned(),
            title: "download".to_owned(),
            unit: "Gbit/s".to_owned(),
            better: Better::Lower,
            contender: Some("steer".to_owned()),
            size: Some(10),
            samples: vec![1.5],
        };
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains("\"lower\""), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
