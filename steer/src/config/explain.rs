//! Errors of the TOML reader, told as what was expected where.

use crate::suggest;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
}

pub(super) struct Key {
    pub(super) name: &'static str,
    expects: &'static str,
}

const NUMBER: &str = "a whole number from 0 to 4294967295, such as 7350 or 0x1000";

const RULES: &str = "a list of rules such as [\"example.com\", \".example.com\", \"203.0.113.0/24\", \"keyword:example\"]";
const PORTS: &str = "a list of ports from 1 to 65535, such as [443, 8443]";

pub(super) const SCHEMA: [Section; 6] = [
    Section {
        name: "vpn",
        keys: &[
            Key {
                name: "interface",
                expects: "a string: an interface such as \"wg0\", or \"auto\"",
            },
            Key {
                name: "on_down",
                expects: "a string: \"block\" or \"direct\"",
            },
        ],
    },
    Section {
        name: "attach",
        keys: &[
            Key {
                name: "cgroups",
                expects: "a list of strings: paths of cgroups, or \"auto\"",
            },
            Key {
                name: "bridges",
                expects: "a list of strings: names or patterns such as \"br-*\", or \"auto\"",
            },
            Key {
                name: "docker",
                expects: "a string: the path of Docker's socket, \"auto\" or \"off\"",
            },
        ],
    },
    Section {
        name: "rules",
        keys: &[
            Key {
                name: "presets",
                expects: "a list of strings such as [\"docker-hub\"]",
            },
            Key {
                name: "vpn",
                expects: RULES,
            },
            Key {
                name: "direct",
                expects: RULES,
            },
            Key {
                name: "lists",
                expects: "a list such as [{ path = \"blocked.txt\", verdict = \"vpn\" }]",
            },
        ],
    },
    Section {
        name: "dns",
        keys: &[Key {
            name: "resolve",
            expects: "true or false",
        }],
    },
    Section {
        name: "sni",
        keys: &[
            Key {
                name: "ports",
                expects: PORTS,
            },
            Key {
                name: "http_ports",
                expects: PORTS,
            },
            Key {
                name: "late",
                expects: "a string: \"reset\" or \"learn\"",
            },
        ],
    },
    Section {
        name: "routing",
        keys: &[
            Key {
                name: "mark",
                expects: NUMBER,
            },
            Key {
                name: "mask",
                expects: NUMBER,
            },
            Key {
                name: "table",
                expects: NUMBER,
            },
            Key {
                name: "priority",
                expects: NUMBER,
            },
        ],
    },
];

/// The keys of each of `rules.lists`.
const LIST: Section = Section {
    name: "rules.lists",
    keys: &[
        Key {
            name: "path",
            expects: "a string: the path of a file such as \"blocked.txt\"",
        },
        Key {
            name: "verdict",
            expects: "a string: \"vpn\" or \"direct\"",
        },
        Key {
            name: "format",
            expects: "a string such as \"plain\", \"hosts\" or \"adblock\"",
        },
        Key {
            name: "select",
            expects: "a list of strings such as [\"geosite:docker\", \"geosite:google@ads\"]",
        },
    ],
};

/// Where in the text the error is, in bytes, and a sentence about it.
pub(super) fn explain(text: &str, error: &toml::de::Error) -> (usize, String) {
    let span = error.span().unwrap_or(0..0);
    let explained = DeTable::parse(text).ok().and_then(|table| {
        unknown_key(table.get_ref()).or_else(|| wrong_type(table.get_ref(), &span))
    });
    explained.unwrap_or_else(|| (span.start, syntax(error)))
}

fn syntax(error: &toml::de::Error) -> String {
    error.message().trim().replace('\n', ", ")
}

/// The first key or section of the text that the schema does not have.
fn unknown_key(table: &DeTable<'_>) -> Option<(usize, String)> {
    let mut found = Vec::new();
    for (name, value) in table {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        match (
            SCHEMA.iter().find(|section| section.name == name),
            value.get_ref(),
        ) {
            (Some(section), DeValue::Table(keys)) => {
                let unknown = keys
                    .keys()
                    .filter(|key| section.keys.iter().all(|known| known.name != key.get_ref()));
                found.extend(
                    unknown.map(|key| (key.span().start, misplaced_key(key.get_ref(), section))),
                );
                if section.name == "rules" {
                    let keys = lists(keys).flat_map(|list| list.keys());
                    let unknown = keys
                        .filter(|key| LIST.keys.iter().all(|known| known.name != key.get_ref()));
                    found.extend(
                        unknown.map(|key| (key.span().start, misplaced_key(key.get_ref(), &LIST))),
                    );
                }
            }
            (Some(_), other) => {
                found.push((
                    at,
                    format!(
                        "{name} is a section: write [{name}] on a line of its own, not {}",
                        kind(other)
                    ),
                ));
            }
            (None, DeValue::Table(_)) => found.push((at, unknown_section(name))),
            (None, _) => found.push((at, sectionless_key(name))),
        }
    }
    found.into_iter().min()
}

/// The tables of `rules.lists`.
fn lists<'a, 'b>(rules: &'a DeTable<'b>) -> impl Iterator<Item = &'a DeTable<'b>> {
    rules
        .get("lists")
        .and_then(|lists| lists.get_ref().as_array())
        .into_iter()
        .flat_map(|lists| lists.iter())
        .filter_map(|list| list.get_ref().as_table())
}

fn unknown_section(name: &str) -> String {
    match suggest::nearest(name, SCHEMA.iter().map(|section| section.name)) {
        Some(right) => format!("unknown section [{name}]; did you mean [{right}]?"),
        None => format!("unknown section [{name}]; the sections are {}", sections()),
    }
}

fn sections() -> String {
    let known: Vec<_> = SCHEMA
        .iter()
        .map(|section| format!("[{}]", section.name))
        .collect();
    known.join(", ")
}

fn misplaced_key(name: &str, section: &Section) -> String {
    let unknown = format!("unknown key \"{name}\" in [{}]", section.name);
    if let Some(right) = suggest::nearest(name, section.keys.iter().map(|key| key.name)) {
        return format!("{unknown}; did you mean \"{right}\"?");
    }
    if let Some(home) = home_of(name) {
        return format!("{unknown}; it belongs in [{home}]");
    }
    let known: Vec<_> = section.keys.iter().map(|key| key.name).collect();
    format!("{unknown}; the keys there are {}", known.join(", "))
}

fn sectionless_key(name: &str) -> String {
    match home_of(name) {
        Some(home) => format!("\"{name}\" stands before any section; it belongs in [{home}]"),
        None => format!(
            "unknown key \"{name}\"; keys stand in the sections {}",
            sections()
        ),
    }
}

fn home_of(key: &str) -> Option<&'static str> {
    SCHEMA
        .iter()
        .find(|section| section.keys.iter().any(|known| known.name == key))
        .map(|section| section.name)
}

/// The key whose value the error is about.
fn wrong_type(table: &DeTable<'_>, span: &Range<usize>) -> Option<(usize, String)> {
    let section = |name| table.get(name).and_then(|value| value.get_ref().as_table());
    let of_a_list = section("rules")
        .into_iter()
        .flat_map(lists)
        .find_map(|list| wrong_value(&LIST, list, span));
    of_a_list.or_else(|| {
        SCHEMA
            .iter()
            .find_map(|known| wrong_value(known, section(known.name)?, span))
    })
}

fn wrong_value(
    section: &Section,
    keys: &DeTable<'_>,
    span: &Range<usize>,
) -> Option<(usize, String)> {
    section.keys.iter().find_map(|key| {
        let value = keys.get(key.name)?;
        if !(value.span().start <= span.start && span.start < value.span().end) {
            return None;
        }
        let culprit = match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .find(|item| item.span().start == span.start)
                .unwrap_or(value),
            _ => value,
        };
        let found = kind(culprit.get_ref());
        let why = format!(
            "{}.{} must be {}; this is {found}",
            section.name, key.name, key.expects
        );
        Some((culprit.span().start, why))
    })
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{text}\""),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(truth) => format!("the truth value {truth}"),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;
    use std::path::Path;

    fn refusal(text: &str) -> String {
        ConfigFile::parse(Path::new("steer.toml"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_key_told_of_is_one_that_is_read() {
        for section in &SCHEMA {
            for key in section.keys {
                let said = refusal(&format!("[{}]\n{} = {{}}\n", section.name, key.name));
                let expected = format!(
                    "steer.toml:2: {}.{} must be {}; this is a table",
                    section.name, key.name, key.expects
                );
                assert_eq!(said, expected);
            }
        }
    }

    #[test]
    fn every_key_that_is_read_is_told_of() {
        for section in &SCHEMA {
            let said =
                super::super::file::tests::unexplained(&format!("[{}]\nx = 1\n", section.name));
            let read: Vec<_> = said.split('`').skip(3).step_by(2).collect();
            assert!(!read.is_empty(), "{said}");
            for key in read {
                assert!(
                    section.keys.iter().any(|known| known.name == key),
                    "{}.{key}",
                    section.name
                );
            }
        }
    }
}
