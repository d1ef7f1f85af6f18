//! Lists of rules that others keep, in the formats that such lists have.
//!
//! What a format means is read from octets alone, by [`parse`]; [`load`] reads the files.

mod adblock;
mod dnsmasq;
mod format;
mod geosite;
mod hosts;
mod load;
mod plain;
mod select;
mod v2fly;

pub use format::{Format, UnknownFormat};
pub use geosite::GeositeError;
pub use load::{List, ListError, Loaded, load};
pub use select::{Condition, Filter, Selector, SelectorError};
pub use v2fly::Include;

use super::{Names, Net, PatternError, Scope, TextPattern};
use crate::progress::{Progress, Unseen};

/// Complaints kept; more are counted.
const KEPT: usize = 5;
/// Characters of a complaint.
const COMPLAINT_MAX: usize = 240;

/// What a list says, less its verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Domains. Each has its line, as all that follows: counted from 1, or 0 in what has none.
    pub names: Names,
    /// Domains that are excepted, and go direct.
    pub exceptions: Names,
    /// Ranges of addresses.
    pub nets: Vec<(Net, u32)>,
    /// Keywords and regular expressions.
    pub texts: Vec<(TextPattern, u32)>,
    /// Other lists of the same folder that belong to it.
    pub includes: Vec<Include>,
    /// What is no rule.
    pub skipped: Skipped,
}

impl Parsed {
    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.names.len() + self.exceptions.len() + self.nets.len() + self.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What was passed over in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How much: lines, or domains where there are no lines.
    pub count: usize,
    /// The first few.
    pub first: Vec<Complaint>,
}

/// Why something was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The line, counted from 1; 0 in what has none.
    pub line: u32,
    /// What is wrong with it and what was expected, without control characters.
    pub why: String,
}

impl Skipped {
    fn add(&mut self, line: u32, why: &str) {
        self.count += 1;
        if self.first.len() < KEPT {
            let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            let mut why: String = why.chars().take(COMPLAINT_MAX).map(harmless).collect();
            if why.chars().count() == COMPLAINT_MAX {
                why.push('…');
            }
            self.first.push(Complaint { line, why });
        }
    }
}

/// What a list of that format says. Selectors say which part of it is meant; without any, all of it is.
///
/// # Errors
/// A category selected is not there, or the whole cannot be read.
pub fn parse(
    format: Format,
    octets: &[u8],
    selectors: &[Selector],
) -> Result<Parsed, GeositeError> {
    if format == Format::Geosite {
        return geosite::parse(octets, selectors);
    }
    Ok(parse_text(format, octets, &Filter::of(selectors), &Unseen))
}

/// What a list of lines says, of what a filter lets through; its steps are octets. [`Format::Geosite`] has no lines and says
/// nothing here.
pub fn parse_text(
    format: Format,
    octets: &[u8],
    filter: &Filter,
    progress: &dyn Progress,
) -> Parsed {
    /// Octets between two looks at the clock.
    const STRIDE: u64 = 65_536;
    let mut parsed = Parsed::default();
    let mut read = 0;
    for (number, line) in lines(octets) {
        read += line.len() as u64 + 1;
        if read >= STRIDE {
            progress.advance(read);
            read = 0;
        }
        let read = std::str::from_utf8(line)
            .map_err(|_| "it is not UTF-8".to_owned())
            .and_then(|line| {
                let line = line.trim();
                match format {
                    _ if line.is_empty() => Ok(()),
                    Format::Plain => plain::line(&mut parsed, number, line),
                    Format::Hosts => hosts::line(&mut parsed, number, line),
                    Format::Dnsmasq => dnsmasq::line(&mut parsed, number, line),
                    Format::Adblock => adblock::line(&mut parsed, number, line),
                    Format::V2fly => v2fly::line(&mut parsed, number, line, filter),
                    Format::Geosite => Ok(()),
                }
            });
        if let Err(why) = read {
            parsed.skipped.add(number, &why);
        }
    }
    progress.advance(read);
    parsed
}

/// The lines with their numbers, without a byte order mark.
fn lines(octets: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    (1..).zip(octets.split(|&octet| octet == b'\n'))
}

/// A line without the comment that may end it.
fn without_comment(line: &str) -> &str {
    line.split_once('#')
        .map_or(line, |(line, _)| line.trim_end())
}

/// Adds a name as such lists have them: `example.com` with all below it, or `*.example.com` for those alone.
fn add_below(names: &mut Names, text: &str, line: u32) -> Result<(), PatternError> {
    match text.strip_prefix("*.") {
        Some(name) => names.add(name, Scope::Below, line),
        None => names.add(text.strip_prefix('.').unwrap_or(text), Scope::Both, line),
    }
}

#[cfg(test)]
mod tests;
