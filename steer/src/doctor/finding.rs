//! What a check comes to.

use serde::Serialize;

use super::fix::Fix;

/// How it is with what was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Well,
    /// Could not be looked at.
    Unknown,
    /// Works, and could be better or surprise somebody.
    Advice,
    /// Does not work.
    Broken,
}

/// Something that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name for scripts, which stays.
    pub id: &'static str,
    /// What is looked at.
    pub title: &'static str,
    /// Whether `--fix` mends some of it.
    pub fixes: bool,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The check's name for scripts.
    pub id: &'static str,
    /// How it is.
    pub state: State,
    /// What was looked at.
    pub title: &'static str,
    /// What was found, or why it could not be looked at.
    pub found: String,
    /// Why that matters; empty where it does not.
    pub matters: String,
    /// The commands or lines to type, one a line.
    pub mend: Option<String>,
    /// What `--fix` does.
    pub fix: Option<Fix>,
}

impl Check {
    pub(super) const fn new(id: &'static str, title: &'static str) -> Self {
        Self {
            id,
            title,
            fixes: false,
        }
    }

    pub(super) const fn fixed(self) -> Self {
        Self {
            fixes: true,
            ..self
        }
    }

    pub(super) fn well(self, found: impl Into<String>) -> Finding {
        self.finding(State::Well, found.into(), String::new())
    }

    pub(super) fn unknown(self, why: impl Into<String>) -> Finding {
        self.finding(State::Unknown, why.into(), String::new())
    }

    pub(super) fn advice(self, found: impl Into<String>, matters: impl Into<String>) -> Finding {
        self.finding(State::Advice, found.into(), matters.into())
    }

    pub(super) fn broken(self, found: impl Into<String>, matters: impl Into<String>) -> Finding {
        self.finding(State::Broken, found.into(), matters.into())
    }

    fn finding(self, state: State, found: String, matters: String) -> Finding {
        Finding {
            id: self.id,
            state,
            title: self.title,
            found,
            matters,
            mend: None,
            fix: None,
        }
    }
}

impl Finding {
    /// What a check found of several things, as one: the worst of it, or all where that is well.
    pub(super) fn all(findings: impl IntoIterator<Item = Self>, check: Check) -> Self {
        let findings: Vec<_> = findings.into_iter().collect();
        let Some(worst) = findings.iter().map(|it| it.state).max() else {
            return check.well("nothing");
        };
        let of_worst = findings.into_iter().filter(|it| it.state == worst);
        let joined = |mut all: Self, it: Self| {
            all.found = format!("{}; {}", all.found, it.found);
            all.mend = match (all.mend, it.mend) {
                (Some(one), Some(other)) if one != other => Some(format!("{one}\n{other}")),
                (one, other) => one.or(other),
            };
            all
        };
        of_worst
            .reduce(joined)
            .unwrap_or_else(|| check.well("nothing"))
    }

    pub(super) fn mend(self, mend: impl Into<String>) -> Self {
        Self {
            mend: Some(mend.into()),
            ..self
        }
    }

    pub(super) fn fix(self, fix: Option<Fix>) -> Self {
        Self { fix, ..self }
    }
}
