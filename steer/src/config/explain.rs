//! Errors of the TOML reader, told as what was expected where.

use crate::suggest;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
}

impl Section {
    /// What its keys stand under.
    fn heading(&self) -> String {
        if self.name == SCOPE.name {
            "[[scope]]".to_owned()
        } else {
            format!("[{}]", self.name)
        }
    }
}

pub(super) struct Key {
    pub(super) name: &'static str,
    expects: &'static str,
}

const NUMBER: &str = "a whole number from 0 to 4294967295, such as 7350 or 0x1000";

const ENTRIES: &str = "a whole number from 1024 to 1048576, such as 65536";

const RULES: &str = "a list of rules such as [\"example.com\", \".example.com\", \"203.0.113.0/24\", \"keyword:example\"]";
const PORTS: &str = "a list of ports from 1 to 65535, such as [443, 8443]";

pub(super) const SCHEMA: [Section; 7] = [
    Section {
        name: "vpn",
        keys: &[
            Key {
                name: "name",
                expects: "a string: a name such as \"us\", by which rules and scopes mean it",
            },
            Key {
                name: "default",
                expects: "true or false",
            },
            Key {
                name: "interface",
                expects: "a string: an interface such as \"wg0\", or \"auto\"",
            },
            Key {
                name: "on_down",
                expects: "a string: \"block\" or \"direct\"",
            },
            Key {
                name: "gateway",
                expects: "a string: an address such as \"10.2.0.1\", or \"auto\"",
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
                name: "block",
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
        keys: &[
            Key {
                name: "resolve",
                expects: "true or false",
            },
            Key {
                name: "vpn",
                expects: "an address such as \"1.1.1.1\", or a list of them",
            },
        ],
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
    Section {
        name: "tables",
        keys: &[
            Key {
                name: "addresses",
                expects: ENTRIES,
            },
            Key {
                name: "flows",
                expects: ENTRIES,
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
            expects: "a string: \"vpn\", \"direct\" or \"block\"",
        },
        Key {
            name: "vpn",
            expects: "a string: the name of a VPN such as \"us\"",
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

/// The keys of a rule with a VPN of its own.
const RULE: Section = Section {
    name: "rules.vpn",
    keys: &[
        Key {
            name: "rule",
            expects: "a string: a rule such as \".example.com\"",
        },
        Key {
            name: "vpn",
            expects: "a string: the name of a VPN such as \"us\"",
        },
    ],
};

/// The section that may come several times, or once.
const VPN: &str = "vpn";

/// The keys of each `[[scope]]`.
pub(super) const SCOPE: Section = Section {
    name: "scope",
    keys: &[
        Key {
            name: "network",
            expects: "a string: a network of Docker's such as \"web\", or a pattern such as \"web-*\"",
        },
        Key {
            name: "container",
            expects: "a string: a container's name such as \"torrent\", or a pattern such as \"torrent-*\"",
        },
        Key {
            name: "label",
            expects: "a string: a label such as \"steer.path=vpn\", or its key alone",
        },
        Key {
            name: "compose",
            expects: "a string: a Compose project such as \"media\"",
        },
        Key {
            name: "cgroup",
            expects: "a string: the path of a cgroup such as \"system.slice/app.service\"",
        },
        Key {
            name: "vpn",
            expects: "a string: the name of a VPN such as \"us\"",
        },
        Key {
            name: "default",
            expects: "a string: \"vpn\", \"direct\" or \"block\"",
        },
        Key {
            name: "dns",
            expects: "an address such as \"1.1.1.1\", or a list of addresses",
        },
        Key {
            name: "forward",
            expects: "a list of strings such as [\"4666/tcp -> torrent:4666\"]",
        },
        Key {
            name: "on_stop",
            expects: "a string: \"keep\" or \"release\"",
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
        if name == SCOPE.name && is_sections(value.get_ref()) {
            found.extend(tables(value).flat_map(|scope| unknown_keys(scope, &SCOPE)));
            continue;
        }
        match (
            SCHEMA.iter().find(|section| section.name == name),
            value.get_ref(),
        ) {
            (Some(section), DeValue::Table(keys)) => {
                found.extend(unknown_keys(keys, section));
                if section.name == "rules" {
                    found.extend(lists(keys).flat_map(|list| unknown_keys(list, &LIST)));
                    found.extend(rules(keys).flat_map(|rule| unknown_keys(rule, &RULE)));
                }
            }
            (Some(section), other) if section.name == VPN && is_sections(other) => {
                found.extend(tables(value).flat_map(|vpn| unknown_keys(vpn, section)));
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
            (None, other) if name == SCOPE.name => found.push((
                at,
                format!(
                    "scope is a section that may come several times: write [[scope]] on a line of its own, with two brackets, not {}",
                    kind(other)
                ),
            )),
            (None, DeValue::Table(_)) => {
                found.push((at, unknown_section(name, &format!("[{name}]"))));
            }
            (None, other) if is_sections(other) => {
                found.push((at, unknown_section(name, &format!("[[{name}]]"))));
            }
            (None, _) => found.push((at, sectionless_key(name))),
        }
    }
    found.into_iter().min()
}

fn unknown_keys(keys: &DeTable<'_>, section: &Section) -> Vec<(usize, String)> {
    keys.keys()
        .filter(|key| section.keys.iter().all(|known| known.name != key.get_ref()))
        .map(|key| (key.span().start, misplaced_key(key.get_ref(), section)))
        .collect()
}

/// The tables of `rules.lists`.
fn lists<'a, 'b>(rules: &'a DeTable<'b>) -> impl Iterator<Item = &'a DeTable<'b>> {
    rules.get("lists").into_iter().flat_map(tables)
}

/// Those of `rules.vpn`.
fn rules<'a, 'b>(rules: &'a DeTable<'b>) -> impl Iterator<Item = &'a DeTable<'b>> {
    rules.get("vpn").into_iter().flat_map(tables)
}

/// The tables of a list.
fn tables<'a, 'b>(list: &'a Spanned<DeValue<'b>>) -> impl Iterator<Item = &'a DeTable<'b>> {
    let items = list.get_ref().as_array().into_iter();
    items
        .flat_map(|items| items.iter())
        .filter_map(|item| item.get_ref().as_table())
}

/// Whether it is a list as double brackets make one.
fn is_sections(value: &DeValue<'_>) -> bool {
    let is_table = |item: &Spanned<DeValue<'_>>| item.get_ref().is_table();
    value
        .as_array()
        .is_some_and(|items| !items.is_empty() && items.iter().all(is_table))
}

fn unknown_section(name: &str, written: &str) -> String {
    match suggest::nearest(name, known_sections().map(|section| section.name)) {
        Some(right) => {
            let right = known_sections().find(|section| section.name == right);
            let right = right.map(Section::heading).unwrap_or_default();
            format!("unknown section {written}; did you mean {right}?")
        }
        None => format!("unknown section {written}; the sections are {}", sections()),
    }
}

fn known_sections() -> impl Iterator<Item = &'static Section> {
    SCHEMA.iter().chain([&SCOPE])
}

fn sections() -> String {
    let known: Vec<_> = known_sections().map(Section::heading).collect();
    known.join(", ")
}

fn misplaced_key(name: &str, section: &Section) -> String {
    let unknown = format!("unknown key \"{name}\" in {}", section.heading());
    if let Some(right) = suggest::nearest(name, section.keys.iter().map(|key| key.name)) {
        return format!("{unknown}; did you mean \"{right}\"?");
    }
    if let Some(home) = home_of(name) {
        return format!("{unknown}; it belongs in {home}");
    }
    let known: Vec<_> = section.keys.iter().map(|key| key.name).collect();
    format!("{unknown}; the keys there are {}", known.join(", "))
}

fn sectionless_key(name: &str) -> String {
    match home_of(name) {
        Some(home) => format!("\"{name}\" stands before any section; it belongs in {home}"),
        None => format!(
            "unknown key \"{name}\"; keys stand in the sections {}",
            sections()
        ),
    }
}

fn home_of(key: &str) -> Option<String> {
    known_sections()
        .find(|section| section.keys.iter().any(|known| known.name == key))
        .map(Section::heading)
}

/// The key whose value the error is about.
fn wrong_type(table: &DeTable<'_>, span: &Range<usize>) -> Option<(usize, String)> {
    let section = |name| table.get(name).and_then(|value| value.get_ref().as_table());
    let of_rules = section("rules").and_then(|keys| {
        let of_a_list = lists(keys).find_map(|list| wrong_value(&LIST, list, span));
        of_a_list.or_else(|| rules(keys).find_map(|rule| wrong_value(&RULE, rule, span)))
    });
    let of_a_vpn = || {
        let known = SCHEMA.iter().find(|section| section.name == VPN)?;
        let mut vpns = table.get(VPN).into_iter().flat_map(tables);
        vpns.find_map(|vpn| wrong_value(known, vpn, span))
    };
    let of_a_scope = || {
        let mut scopes = table.get(SCOPE.name).into_iter().flat_map(tables);
        scopes.find_map(|scope| wrong_value(&SCOPE, scope, span))
    };
    of_rules.or_else(of_a_vpn).or_else(of_a_scope).or_else(|| {
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
    fn every_key_of_a_scope_told_of_is_one_that_is_read() {
        for key in SCOPE.keys {
            let said = refusal(&format!("[[scope]]\n\n[[scope]]\n{} = {{}}\n", key.name));
            let expected = format!(
                "steer.toml:4: scope.{} must be {}; this is a table",
                key.name, key.expects
            );
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn every_key_that_is_read_is_told_of() {
        for section in known_sections() {
            let said =
                super::super::file::tests::unexplained(&format!("{}\nx = 1\n", section.heading()));
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
