//! Patterns for names, as in a shell.

use std::fmt;

/// A name, or a pattern in which `*` stands for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes the text as it is written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a name, which it alone matches.
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) =
            (self.0.chars().collect(), name.chars().collect());
        let (mut p, mut n) = (0, 0);
        let mut retry = None;
        while n < name.len() {
            match pattern.get(p) {
                Some('*') => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(&c) if c == '?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((after_star, taken)) = retry else {
                        return false;
                    };
                    (p, n) = (after_star, taken + 1);
                    retry = Some((after_star, taken + 1));
                }
            }
        }
        pattern[p..].iter().all(|&c| c == '*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).matches(name)
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name) in [
            ("br-*", "br-"),
            ("br-*", "br-a"),
            ("*", ""),
            ("*-*n", "br-lan"),
            ("br-???", "br-lan"),
            ("**a", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("br-*", "xbr-a"),
            ("br-?", "br-"),
            ("*a", "ab"),
            ("", "a"),
            ("a*b*c", "acb"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_made_from_a_name_matches_it(name in "[ab-]{0,8}", cuts in prop::collection::vec((0_usize..9, 0_usize..9), 0..4)) {
            let mut pattern: Vec<char> = name.chars().collect();
            for (from, to) in cuts {
                let (from, to) = (from.min(pattern.len()), to.min(pattern.len()));
                pattern.splice(from.min(to)..from.max(to), ['*']);
            }
            let pattern: String = pattern.into_iter().collect();
            prop_assert!(matches(&pattern, &name), "{} {}", pattern, name);
        }
    }
}
