//! Domain patterns as users write them.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// Longest name in presentation form without the trailing dot (RFC 1035, 2.3.4: 255 octets on the wire).
const NAME_MAX: usize = 253;
/// Longest label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// A domain name in the form that names are compared in: ASCII, lower case, no trailing dot, 253 bytes at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

impl Domain {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is a domain and already in the form that names are compared in: quickly told, for long lists. What
    /// is not may still be parsed, or else that says why not.
    pub(super) fn is_normal(text: &str) -> bool {
        let octets = text.as_bytes();
        let mut label = 0;
        for &octet in octets {
            match octet {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' if label < LABEL_MAX => label += 1,
                b'.' if label > 0 => label = 0,
                _ => return false,
            }
        }
        // An address ends with a digit.
        label > 0 && octets.len() <= NAME_MAX && !octets[octets.len() - 1].is_ascii_digit()
    }

    /// A name that is known to be one, as [`Self::is_normal`] tells.
    pub(super) fn normal(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The labels, from the leftmost (most specific) to the top-level domain.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if Self::is_normal(text) {
            return Ok(Self::normal(text));
        }
        let refuse = |why| PatternError {
            text: text.to_owned(),
            why,
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(refuse(Why::NoName));
        }
        if let Some(why) = not_a_name(name) {
            return Err(refuse(why));
        }
        let name = if name.is_ascii() {
            name.to_ascii_lowercase()
        } else {
            let name = idna::domain_to_ascii_strict(name).map_err(|_| refuse(Why::NotIdna))?;
            // Digits of other scripts become those of addresses, and what is not seen goes.
            if let Some(why) = not_a_name(&name) {
                return Err(refuse(why));
            }
            name
        };
        check_name(&name).map_err(refuse)?;
        Ok(Self(name))
    }
}

/// Which names a pattern means, of a domain and those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `example.com`: that name alone.
    Exact,
    /// `*.example.com`: the names below it.
    Below,
    /// `.example.com`: the name and those below it.
    Both,
}

impl Scope {
    /// Whether a pattern of this scope means a name that is its domain as a whole, or else lies below it.
    pub fn covers(self, whole: bool) -> bool {
        match self {
            Self::Both => true,
            Self::Exact => whole,
            Self::Below => !whole,
        }
    }

    /// What stands before the domain in a pattern.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::Below => "*.",
            Self::Both => ".",
        }
    }
}

/// A domain pattern: `example.com`, `*.example.com` or `.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    /// The domain at which the pattern is anchored.
    pub domain: Domain,
    /// Whether it means the domain, what is below it, or both.
    pub scope: Scope,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scope.prefix(), self.domain)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (scope, name) = match (text.strip_prefix("*."), text.strip_prefix('.')) {
            (Some(name), _) => (Scope::Below, name),
            (None, Some(name)) => (Scope::Both, name),
            (None, None) => (Scope::Exact, text),
        };
        match name.parse() {
            Ok(domain) => Ok(Self { domain, scope }),
            Err(PatternError { why, .. }) => Err(PatternError {
                text: text.to_owned(),
                why,
            }),
        }
    }
}

/// Why a text is no domain pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is not a domain: {why}", text.escape_debug())]
pub struct PatternError {
    text: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error(
        "a name is missing; write example.com (that name), *.example.com (the names below it) or .example.com (both)"
    )]
    NoName,
    #[error(
        "a wildcard may only be the whole first label; write *.example.com (the names below it) or .example.com (with the name itself)"
    )]
    Wildcard,
    #[error("it is an address")]
    Address,
    #[error("give the host name alone, without {0}")]
    Url(&'static str),
    #[error("it has an empty label between two dots")]
    EmptyLabel,
    #[error("its label \"{label}\" has {length} characters, and {LABEL_MAX} is the most")]
    LongLabel { label: String, length: usize },
    #[error("it has {0} characters, and {NAME_MAX} is the most")]
    LongName(usize),
    #[error("{0:?} cannot be part of a name; letters, digits, hyphens and underscores can")]
    Character(char),
    #[error(
        "it has no valid IDNA form; give the name as the registry has it, with its xn-- labels"
    )]
    NotIdna,
}

/// What the text is instead of a name, where that can be told at once.
fn not_a_name(name: &str) -> Option<Why> {
    if name.contains("://") {
        return Some(Why::Url("a scheme such as https://"));
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Some(Why::Address);
    }
    if name.contains('/') {
        return Some(Why::Url("a path"));
    }
    if name.contains(':') {
        return Some(Why::Url("a port"));
    }
    if name.contains('*') {
        return Some(Why::Wildcard);
    }
    None
}

fn check_name(name: &str) -> Result<(), Why> {
    for label in name.split('.') {
        if label.is_empty() {
            return Err(Why::EmptyLabel);
        }
        if let Some(c) = label
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
        {
            return Err(Why::Character(c));
        }
        if label.len() > LABEL_MAX {
            return Err(Why::LongLabel {
                label: label.to_owned(),
                length: label.len(),
            });
        }
    }
    if name.len() > NAME_MAX {
        return Err(Why::LongName(name.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<Pattern>().unwrap_err().to_string()
    }

    #[test]
    fn the_three_scopes() {
        assert_eq!(pattern("example.com").scope, Scope::Exact);
        assert_eq!(pattern("*.example.com").scope, Scope::Below);
        assert_eq!(pattern(".example.com").scope, Scope::Both);
        assert_eq!(pattern(".example.com").domain.as_str(), "example.com");
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(pattern("ExAmple.COM.").to_string(), "example.com");
        assert_eq!(pattern("*.Example.com.").to_string(), "*.example.com");
        assert_eq!(
            pattern("_dmarc.example.com").to_string(),
            "_dmarc.example.com"
        );
        assert_eq!(pattern("localhost").to_string(), "localhost");
    }

    #[test]
    fn international_names_take_their_wire_form() {
        assert_eq!(
            pattern(".Bücher.example").to_string(),
            ".xn--bcher-kva.example"
        );
        assert_eq!(
            pattern("пример.испытание").to_string(),
            "xn--e1afmkfd.xn--80akhbyknj4f"
        );
    }

    #[test]
    fn refusals_say_what_is_allowed() {
        let cases = [
            (
                "",
                "\"\" is not a domain: a name is missing; write example.com (that name), *.example.com (the names below it) or .example.com (both)",
            ),
            (
                ".",
                "\".\" is not a domain: a name is missing; write example.com (that name), *.example.com (the names below it) or .example.com (both)",
            ),
            (
                "foo.*.com",
                "\"foo.*.com\" is not a domain: a wildcard may only be the whole first label; write *.example.com (the names below it) or .example.com (with the name itself)",
            ),
            (
                "a*.example.com",
                "\"a*.example.com\" is not a domain: a wildcard may only be the whole first label; write *.example.com (the names below it) or .example.com (with the name itself)",
            ),
            (
                "a..b",
                "\"a..b\" is not a domain: it has an empty label between two dots",
            ),
            (
                "a b.com",
                "\"a b.com\" is not a domain: ' ' cannot be part of a name; letters, digits, hyphens and underscores can",
            ),
            (
                "https://hub.docker.com/",
                "\"https://hub.docker.com/\" is not a domain: give the host name alone, without a scheme such as https://",
            ),
            (
                "hub.docker.com/v2",
                "\"hub.docker.com/v2\" is not a domain: give the host name alone, without a path",
            ),
            (
                "hub.docker.com:443",
                "\"hub.docker.com:443\" is not a domain: give the host name alone, without a port",
            ),
            (
                "192.0.2.1",
                "\"192.0.2.1\" is not a domain: it is an address",
            ),
            (
                "\u{feff}192.0.2.1",
                "\"\\u{feff}192.0.2.1\" is not a domain: it is an address",
            ),
            (
                "１９２.0.2.1",
                "\"１９２.0.2.1\" is not a domain: it is an address",
            ),
            (
                "2001:db8::1",
                "\"2001:db8::1\" is not a domain: it is an address",
            ),
        ];
        for (text, sentence) in cases {
            assert_eq!(refusal(text), sentence);
        }
    }

    #[test]
    fn lengths_end_where_dns_ends_them() {
        let label = "a".repeat(63);
        assert!(format!("{label}.com").parse::<Pattern>().is_ok());
        assert!(
            refusal(&format!("{label}a.com")).ends_with("has 64 characters, and 63 is the most")
        );
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(format!(".{name}.").parse::<Pattern>().is_ok());
        assert!(
            refusal(&format!("{name}a")).ends_with("it has 254 characters, and 253 is the most")
        );
    }

    proptest! {
        #[test]
        fn a_printed_pattern_reads_back_as_itself(text in r"(\*\.|\.)?([A-Za-z0-9_-]{1,10}\.){0,5}[a-zA-Z]{1,10}\.?") {
            let first: Pattern = text.parse().unwrap();
            prop_assert_eq!(first.to_string().parse::<Pattern>().unwrap(), first);
        }

        #[test]
        fn what_is_normal_parses_to_itself(text in r"([a-z0-9_-]{0,12}\.){0,4}[a-zA-Z0-9.-]{0,12}|[a-z]{60,66}\.a") {
            let parsed = text.parse::<Domain>();
            if Domain::is_normal(&text) {
                prop_assert_eq!(parsed.unwrap(), Domain(text));
            } else if let Ok(domain) = parsed {
                prop_assert!(domain.as_str() != text || text.ends_with(|c: char| c.is_ascii_digit()));
            }
        }

        #[test]
        fn whatever_is_accepted_fits_into_a_dns_question(text in r"\PC{0,300}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                let name = pattern.domain.as_str();
                prop_assert!(name.len() <= NAME_MAX);
                prop_assert!(!name.bytes().any(|b| b.is_ascii_uppercase() || b == b'*' || !b.is_ascii()));
                for label in pattern.domain.labels() {
                    prop_assert!((1..=LABEL_MAX).contains(&label.len()));
                }
            }
        }
    }
}
