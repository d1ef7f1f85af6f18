//! Keywords and regular expressions: names told by what is found in them.

use super::build::BuildError;
use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};
use std::fmt;
use std::str::FromStr;

const KEYWORD: &str = "keyword:";
const REGEX: &str = "regex:";

/// Memory that one regular expression may take when compiled, in octets.
const ONE_MAX: usize = 1 << 20;
/// Memory that all together may take.
const ALL_MAX: usize = 64 << 20;

/// A text to be found in names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TextPattern {
    /// `keyword:tracker`: names that have it anywhere, in any case.
    Keyword(String),
    /// `regex:^cdn[0-9]+\.`: names in which it is found, in any case and without their final dot.
    Regex(String),
}

impl TextPattern {
    /// A keyword.
    ///
    /// # Errors
    /// It is empty or has characters that no name has.
    pub fn keyword(text: &str) -> Result<Self, TextError> {
        let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let refuse = |why| TextError {
            text: format!("{KEYWORD}{text}"),
            why,
        };
        if text.is_empty() {
            return Err(refuse(Why::Empty("a keyword such as keyword:tracker")));
        }
        match text.chars().find(odd) {
            Some(c) if c.is_ascii() => Err(refuse(Why::Character(c))),
            Some(_) => Err(refuse(Why::International)),
            None => Ok(Self::Keyword(text.to_ascii_lowercase())),
        }
    }

    /// A regular expression, in the syntax of the `regex` crate: no look-around and no back-references.
    ///
    /// # Errors
    /// It is none, or takes more than a mebibyte when compiled.
    pub fn regex(text: &str) -> Result<Self, TextError> {
        let refuse = |why| TextError {
            text: format!("{REGEX}{text}"),
            why,
        };
        if text.is_empty() {
            return Err(refuse(Why::Empty(
                r"a regular expression such as regex:^cdn[0-9]+\.example\.com$",
            )));
        }
        // As the whole set is built, so that what passes here compiles there.
        let built = RegexBuilder::new(text)
            .unicode(false)
            .case_insensitive(true)
            .size_limit(ONE_MAX)
            .build();
        match built {
            Ok(_) => Ok(Self::Regex(text.to_owned())),
            Err(regex::Error::CompiledTooBig(_)) => Err(refuse(Why::TooBig)),
            Err(error) => Err(refuse(Why::Syntax(reason(&error)))),
        }
    }

    /// Whether a text is meant to be one, right or wrong.
    pub(super) fn is_meant(text: &str) -> bool {
        text.starts_with(KEYWORD) || text.starts_with(REGEX)
    }

    fn expression(&self) -> String {
        match self {
            Self::Keyword(keyword) => regex::escape(keyword),
            Self::Regex(expression) => expression.clone(),
        }
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword(text) => write!(f, "{KEYWORD}{text}"),
            Self::Regex(text) => write!(f, "{REGEX}{text}"),
        }
    }
}

impl FromStr for TextPattern {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if let Some(keyword) = text.strip_prefix(KEYWORD) {
            return Self::keyword(keyword);
        }
        match text.strip_prefix(REGEX) {
            Some(expression) => Self::regex(expression),
            None => Err(TextError {
                text: text.to_owned(),
                why: Why::Empty("keyword: or regex: in front"),
            }),
        }
    }
}

/// Why a text is no keyword or regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" cannot be looked for in names: {why}")]
pub struct TextError {
    text: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("it lacks {0}")]
    Empty(&'static str),
    #[error("{0:?} cannot be part of a name; letters, digits, dots, hyphens and underscores can")]
    Character(char),
    #[error(
        "names have only ASCII characters where they are looked at; give it as it is in its xn-- form"
    )]
    International,
    #[error("the regular expression is wrong: {0}")]
    Syntax(String),
    #[error("the regular expression takes more than {} KiB when compiled; make its repetitions smaller", ONE_MAX >> 10)]
    TooBig,
}

/// The last line of what the `regex` crate says, which shows the place in a drawing before it.
fn reason(error: &regex::Error) -> String {
    let told = error.to_string();
    let last = told.trim().lines().next_back().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}

/// Patterns looked for all at once; those before win over those after.
#[derive(Clone, Debug, Default)]
pub(super) struct TextSet {
    set: Option<RegexSet>,
}

impl TextSet {
    /// The patterns in this order.
    pub(super) fn new<'a>(
        patterns: impl Iterator<Item = &'a TextPattern>,
    ) -> Result<Self, BuildError> {
        let expressions: Vec<_> = patterns.map(TextPattern::expression).collect();
        if expressions.is_empty() {
            return Ok(Self::default());
        }
        let set = RegexSetBuilder::new(&expressions)
            .unicode(false)
            .case_insensitive(true)
            .size_limit(ALL_MAX)
            .build()
            .map_err(|_| BuildError::TooMuchText {
                count: expressions.len(),
                limit: ALL_MAX >> 20,
            })?;
        Ok(Self { set: Some(set) })
    }

    /// The place of the first pattern found in a name.
    pub(super) fn first(&self, name: &str) -> Option<usize> {
        self.set.as_ref()?.matches(name.as_bytes()).iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(patterns: &[&str], name: &str) -> Option<usize> {
        let patterns: Vec<TextPattern> =
            patterns.iter().map(|text| text.parse().unwrap()).collect();
        TextSet::new(patterns.iter()).unwrap().first(name)
    }

    fn refusal(text: &str) -> String {
        text.parse::<TextPattern>().unwrap_err().to_string()
    }

    #[test]
    fn a_keyword_is_found_anywhere_and_means_its_dots() {
        assert_eq!(first(&["keyword:Track"], "a.mytracker.example"), Some(0));
        assert_eq!(first(&["keyword:a.b"], "xa.by.example"), Some(0));
        assert_eq!(first(&["keyword:a.b"], "xaxb.example"), None);
    }

    #[test]
    fn a_regular_expression_is_found_in_any_case() {
        let cdn = r"regex:^CDN\d+\.";
        assert_eq!(first(&[cdn], "cdn12.example"), Some(0));
        assert_eq!(first(&[cdn], "x.cdn12.example"), None);
        assert_eq!(
            first(&["keyword:no", cdn, "keyword:cdn"], "cdn1.example"),
            Some(1)
        );
        assert_eq!(first(&[], "cdn1.example"), None);
    }

    #[test]
    fn refusals_say_why() {
        for (text, sentence) in [
            (
                "keyword:",
                "\"keyword:\" cannot be looked for in names: it lacks a keyword such as keyword:tracker",
            ),
            (
                "keyword:a b",
                "\"keyword:a b\" cannot be looked for in names: ' ' cannot be part of a name; letters, digits, dots, hyphens and underscores can",
            ),
            (
                "keyword:bücher",
                "\"keyword:bücher\" cannot be looked for in names: names have only ASCII characters where they are looked at; give it as it is in its xn-- form",
            ),
            (
                "regex:a(",
                "\"regex:a(\" cannot be looked for in names: the regular expression is wrong: unclosed group",
            ),
            (
                "regex:(?=a)",
                "\"regex:(?=a)\" cannot be looked for in names: the regular expression is wrong: look-around, including look-ahead and look-behind, is not supported",
            ),
            (
                r"regex:(\d{500}){500}",
                "\"regex:(\\d{500}){500}\" cannot be looked for in names: the regular expression takes more than 1024 KiB when compiled; make its repetitions smaller",
            ),
        ] {
            assert_eq!(refusal(text), sentence);
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_alone_compiles_in_a_set(texts in prop::collection::vec(r"(keyword:|regex:)[a-z.*+?()|\[\]\\0-9{}^$-]{0,12}", 0..6)) {
            let patterns: Vec<TextPattern> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            prop_assert!(TextSet::new(patterns.iter()).is_ok());
        }
    }
}
