//! What host and guest tell each other: a plan, which is a file, and events, which are lines among what the tests print.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What marks an event among the lines that a guest prints.
const PREFIX: &str = "@steer ";

/// What a guest is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One after the other.
    pub groups: Vec<Group>,
    /// How the guest is to go wrong.
    pub fault: Option<Breakage>,
}

/// Tests that are run together, by one program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its column in the table.
    pub name: String,
    /// What runs it.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it is run.
    pub directory: PathBuf,
    /// After how many seconds it is killed.
    pub limit: u64,
    /// Whether only the oldest and the newest kernel run it.
    #[serde(skip)]
    pub ends_only: bool,
}

/// Ways for a guest to go wrong on purpose, which try this harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Breakage {
    /// The kernel panics while the first group runs.
    Panic,
    /// Nothing more comes from the guest while the first group runs.
    Hang,
    /// The guest boots and then prints nothing at all.
    Silent,
}

/// What a guest tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It has booted.
    Up {
        /// `uname -r`.
        release: String,
    },
    /// A group begins; what follows is its output.
    Begin {
        /// The group.
        group: String,
    },
    /// It is alive.
    Beat {
        /// The latest line, or the part of one that has come.
        doing: String,
    },
    /// The group that began has ended.
    End {
        /// How long it took.
        seconds: f64,
        /// How its program ended.
        ending: Ending,
    },
    /// Every group has been run.
    Done,
}

/// How a group's program ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// With status 0.
    Well,
    /// With another status, or not started at all: a sentence.
    Badly(String),
    /// It was killed at its time limit.
    Overdue {
        /// What it was doing.
        doing: String,
    },
}

impl Plan {
    /// What a kernel between the oldest and the newest runs of it.
    pub fn without_ends_only(&self) -> Self {
        let groups = self.groups.iter().filter(|group| !group.ends_only);
        Self {
            groups: groups.cloned().collect(),
            fault: self.fault,
        }
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// When the file cannot be read or is none.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("the plan {} cannot be read", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no plan", file.display()))
    }

    /// Writes it, for a guest to read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("the plan {} cannot be written", file.display()))
    }
}

impl Event {
    /// The event that `line` is, if it is one.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix(PREFIX)?).ok()
    }

    /// Prints it as a line.
    pub fn print(&self) {
        if let Ok(text) = serde_json::to_string(self) {
            let mut out = io::stdout().lock();
            // The host hears that nothing more comes.
            let _ = writeln!(out, "{PREFIX}{text}").and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_printed_and_other_lines_are_none() {
        let event = Event::End {
            seconds: 1.5,
            ending: Ending::Overdue {
                doing: "test slow ...".to_owned(),
            },
        };
        let line = format!("{PREFIX}{}", serde_json::to_string(&event).unwrap());
        assert_eq!(Event::read(&line), Some(event));
        assert_eq!(Event::read("test rules::longest ... ok"), None);
        assert_eq!(Event::read("@steer {\"event\":\"be"), None);
    }
}
