//! Names as lists of labels.

use std::fmt;

use steer_common::types::{RuleEntry, Verdict};

use super::RULES;

/// A name: its labels in lower case, the most specific first; the root has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name(Vec<Vec<u8>>);

impl Name {
    /// A name from its labels.
    pub fn new<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(labels.into_iter().map(<[u8]>::to_ascii_lowercase).collect())
    }

    /// A name from its text, without escapes.
    pub fn of_text(text: &str) -> Self {
        let labels = text.split('.').filter(|label| !label.is_empty());
        Self::new(labels.map(str::as_bytes))
    }

    /// The name that the question of a message is for, if it stands there whole and as labels.
    pub fn of_question(octets: &[u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut rest = octets.get(12..)?;
        loop {
            let (&length, after) = rest.split_first()?;
            match usize::from(length) {
                0 => return Some(Self::new(labels)),
                length @ 1..=63 => {
                    labels.push(after.get(..length)?);
                    rest = &after[length..];
                }
                _ => return None,
            }
        }
    }

    /// Its labels.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// What [`RULES`] say of it, by the text of its labels: the most specific rule wins.
    pub fn verdict(&self) -> Verdict {
        let matching = RULES.iter().filter_map(|(rule, entry)| {
            let rule = Self::of_text(rule);
            let RuleEntry { exact, below } = *entry;
            let verdict = if rule == *self { exact } else { below };
            let applies = self.0.ends_with(&rule.0) && verdict != Verdict::NONE;
            applies.then_some((rule.0.len(), verdict))
        });
        matching
            .max_by_key(|(labels, _)| *labels)
            .map_or(Verdict::NONE, |(_, verdict)| verdict)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{}", label.escape_ascii())?;
        }
        Ok(())
    }
}
