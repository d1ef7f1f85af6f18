//! Many names in one buffer.

use super::{Domain, PatternError, Scope};

/// Names in the form of [`Domain`], each with the scope and the line of its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    text: String,
    ends: Vec<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    length: u8,
    scope: Scope,
    line: u32,
}

impl Names {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each with its scope and its line, in the order in which they were found. Lines count from 1; 0 is that of what has
    /// no lines.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Scope, u32)> {
        let mut rest = self.text.as_str();
        self.ends.iter().map(move |end| {
            let (name, after) = rest.split_at(usize::from(end.length));
            rest = after;
            (name, end.scope, end.line)
        })
    }

    /// Adds a name as it was written.
    ///
    /// # Errors
    /// It is no domain.
    pub(super) fn add(&mut self, name: &str, scope: Scope, line: u32) -> Result<(), PatternError> {
        if Domain::is_normal(name) {
            self.push(name, scope, line);
        } else {
            self.push(name.parse::<Domain>()?.as_str(), scope, line);
        }
        Ok(())
    }

    fn push(&mut self, name: &str, scope: Scope, line: u32) {
        self.text.push_str(name);
        self.ends.push(End {
            // A domain has 253 octets at most.
            length: name.len() as u8,
            scope,
            line,
        });
    }
}
