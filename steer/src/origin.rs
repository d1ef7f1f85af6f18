//! Where a setting came from, so that an error about it can say where to mend it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The place that gave a value.
///
/// Ordered by authority: what is added while steer runs wins over a flag, a flag wins over the file, the file over a list or preset, a preset over the built-in defaults.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Added while steer runs.
    Added,
    /// A command-line flag, named with its dashes.
    Flag(&'static str),
    /// A line of the configuration file, counted from 1.
    File {
        /// The file as the user named it.
        path: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
    },
    /// A line of a list of rules.
    List {
        /// The list, as messages name it.
        name: Arc<str>,
        /// The line, counted from 1; 0 where the list has none.
        line: usize,
    },
    /// A line of a built-in preset, counted from 1.
    Preset {
        /// The preset's name.
        name: &'static str,
        /// The line, counted from 1.
        line: usize,
    },
    /// Built in: nobody asked for it.
    Default,
}

impl Origin {
    /// How much say this origin has against another about the same thing: more wins.
    pub fn authority(&self) -> u8 {
        match self {
            Self::Added => 4,
            Self::Flag(_) => 3,
            Self::File { .. } => 2,
            Self::List { .. } | Self::Preset { .. } => 1,
            Self::Default => 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("steer rules add"),
            Self::Flag(flag) => f.write_str(flag),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::List { name, line: 0 } => f.write_str(name),
            Self::List { name, line } => write!(f, "{name}:{line}"),
            Self::Preset { name, line } => write!(f, "preset {name}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value with the place that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// What gave it.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// Ties a value to the place that gave it.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// A value that nobody asked for.
    pub fn default_value(value: T) -> Self {
        Self::new(value, Origin::Default)
    }
}
