//! Which part of a list is meant: `geosite:docker`, `geosite:google@ads`, `@-cn`.

use std::fmt;
use std::str::FromStr;

/// A part of a list, as a user selects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The category, in small letters; none: the file is one.
    pub category: Option<String>,
    /// What the attributes of a rule must be, all of it.
    pub conditions: Vec<Condition>,
}

/// A condition on the attributes of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// `@cn`: it has this one. A name may begin with `!`, which is part of it: `@!cn`.
    Has(String),
    /// `@-cn`: it has not this one.
    Lacks(String),
}

impl Condition {
    /// Reads what follows an `@`; none where that is nothing.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (without, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = name.to_ascii_lowercase();
        match name.is_empty() {
            true => None,
            false if without => Some(Self::Lacks(name)),
            false => Some(Self::Has(name)),
        }
    }

    fn holds(&self, attributes: &[String]) -> bool {
        match self {
            Self::Has(name) => attributes.contains(name),
            Self::Lacks(name) => !attributes.contains(name),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(category) = &self.category {
            write!(f, "geosite:{category}")?;
        }
        for condition in &self.conditions {
            match condition {
                Condition::Has(name) => write!(f, "@{name}")?,
                Condition::Lacks(name) => write!(f, "@-{name}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let refuse = || SelectorError(text.to_owned());
        let mut parts = text.strip_prefix("geosite:").unwrap_or(text).split('@');
        let category = parts.next().unwrap_or_default().to_ascii_lowercase();
        if !category.is_empty() && !is_category(&category) {
            return Err(refuse());
        }
        let conditions: Vec<_> = parts
            .map(Condition::read)
            .collect::<Option<_>>()
            .ok_or_else(refuse)?;
        if category.is_empty() && conditions.is_empty() {
            return Err(refuse());
        }
        Ok(Self {
            category: (!category.is_empty()).then_some(category),
            conditions,
        })
    }
}

/// Whether a category can have that name. It may become the name of a file, which must not lead out of its folder, and is
/// shown to the user.
pub(super) fn is_category(name: &str) -> bool {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '!'));
    !name.is_empty() && !name.contains(odd)
}

/// A text selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" selects no part of a list; write geosite:docker, geosite:google@ads (with that attribute) or geosite:google@-cn (without)"
)]
pub struct SelectorError(String);

/// What the attributes of a rule must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Each of these.
    all: Vec<Condition>,
    /// And all of one of these, if there are any.
    any: Vec<Vec<Condition>>,
}

impl Filter {
    /// What one of the selectors lets through; without any, everything.
    pub fn of(selectors: &[Selector]) -> Self {
        Self {
            all: Vec::new(),
            any: selectors
                .iter()
                .map(|selector| selector.conditions.clone())
                .collect(),
        }
    }

    /// What this lets through and the conditions too.
    pub(super) fn and(&self, conditions: &[Condition]) -> Self {
        let mut narrower = self.clone();
        narrower.all.extend_from_slice(conditions);
        narrower.all.sort();
        narrower.all.dedup();
        narrower
    }

    /// Whether a rule with these attributes, in small letters, is let through.
    pub(super) fn lets_through(&self, attributes: &[String]) -> bool {
        let hold = |conditions: &[Condition]| conditions.iter().all(|one| one.holds(attributes));
        hold(&self.all)
            && (self.any.is_empty() || self.any.iter().any(|conditions| hold(conditions)))
    }
}
