//! The configuration file, each value with its line.

use super::{ConfigError, DEFAULT_FILE, explain};
use crate::origin::{Origin, Sourced};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;

/// What a configuration file says, each value with its line and not yet judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    pub(super) vpns: Vec<FileVpn>,
    pub(super) cgroups: Option<Vec<Sourced<String>>>,
    pub(super) bridges: Option<Vec<Sourced<String>>>,
    pub(super) docker: Option<Sourced<String>>,
    pub(super) presets: Option<Vec<Sourced<String>>>,
    pub(super) vpn: Vec<FileRule>,
    pub(super) direct: Vec<Sourced<String>>,
    pub(super) block: Vec<Sourced<String>>,
    pub(super) lists: Vec<FileList>,
    pub(super) resolve: Option<bool>,
    pub(super) dns_vpn: Vec<Sourced<String>>,
    pub(super) sni_ports: Option<Vec<Sourced<u16>>>,
    pub(super) http_ports: Option<Vec<Sourced<u16>>>,
    pub(super) late: Option<Sourced<String>>,
    pub(super) mark: Option<Sourced<u32>>,
    pub(super) mask: Option<Sourced<u32>>,
    pub(super) table: Option<Sourced<u32>>,
    pub(super) priority: Option<Sourced<u32>>,
    pub(super) addresses: Option<Sourced<u32>>,
    pub(super) flows: Option<Sourced<u32>>,
    pub(super) scopes: Vec<FileScope>,
    pub(super) path: Option<Arc<Path>>,
}

/// A VPN as the file has it, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileVpn {
    pub(super) name: Option<Sourced<String>>,
    pub(super) interface: Option<Sourced<String>>,
    pub(super) default: Option<Sourced<bool>>,
    pub(super) on_down: Option<Sourced<String>>,
    pub(super) gateway: Option<Sourced<String>>,
    pub(super) origin: Origin,
}

impl Default for FileVpn {
    fn default() -> Self {
        Self {
            name: None,
            interface: None,
            default: None,
            on_down: None,
            gateway: None,
            origin: Origin::Default,
        }
    }
}

/// A rule as the file has it, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRule {
    pub(super) rule: Sourced<String>,
    pub(super) vpn: Option<Sourced<String>>,
}

/// A list of rules as the file names it, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileList {
    pub(super) path: Option<Sourced<String>>,
    pub(super) verdict: Option<Sourced<String>>,
    pub(super) vpn: Option<Sourced<String>>,
    pub(super) format: Option<Sourced<String>>,
    pub(super) select: Vec<Sourced<String>>,
    pub(super) origin: Origin,
}

/// A scope as the file has it, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileScope {
    pub(super) network: Option<Sourced<String>>,
    pub(super) container: Option<Sourced<String>>,
    pub(super) label: Option<Sourced<String>>,
    pub(super) compose: Option<Sourced<String>>,
    pub(super) cgroup: Option<Sourced<String>>,
    pub(super) vpn: Option<Sourced<String>>,
    pub(super) default: Option<Sourced<String>>,
    pub(super) dns: Vec<Sourced<String>>,
    pub(super) forward: Vec<Sourced<String>>,
    pub(super) on_stop: Option<Sourced<String>>,
    pub(super) origin: Origin,
}

impl ConfigFile {
    /// Reads the file that the user names, else the one at the usual place if it is there; else it says nothing.
    ///
    /// # Errors
    /// As for [`ConfigFile::read`].
    pub fn find(named: Option<&Path>) -> Result<Self, ConfigError> {
        let usual = Path::new(DEFAULT_FILE);
        match named.or_else(|| usual.exists().then_some(usual)) {
            Some(path) => Self::read(path),
            None => Ok(Self::default()),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or has a key or a type that is not of the schema.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// The text is no TOML, or has a key or a type that is not of the schema.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let path: Arc<Path> = path.into();
        let at = &|offset| Origin::File {
            path: path.clone(),
            line: line_of(text, offset),
        };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let (offset, why) = explain::explain(text, &error);
            ConfigError::Invalid {
                origin: at(offset),
                why,
            }
        })?;
        fn sourced<T>(value: Spanned<T>, at: impl Fn(usize) -> Origin) -> Sourced<T> {
            let origin = at(value.span().start);
            Sourced::new(value.into_inner(), origin)
        }
        let one = |value: Spanned<String>| sourced(value, at);
        let many = |values: Vec<Spanned<String>>| values.into_iter().map(one).collect::<Vec<_>>();
        let number = |value: Spanned<u32>| sourced(value, at);
        let ports = |values: Vec<Spanned<u16>>| {
            values
                .into_iter()
                .map(|value| sourced(value, at))
                .collect::<Vec<_>>()
        };
        let rule = |value: Spanned<RawRule>| {
            let span = value.span();
            match value.into_inner() {
                RawRule::Alone(text) => FileRule {
                    rule: Sourced::new(text, at(span.start)),
                    vpn: None,
                },
                RawRule::WithVpn(RawRuleWithVpn { rule, vpn }) => FileRule {
                    rule: one(rule),
                    vpn: vpn.map(one),
                },
            }
        };
        let vpn = |value: Spanned<RawVpn>| {
            let Sourced { value, origin } = sourced(value, at);
            FileVpn {
                name: value.name.map(one),
                interface: value.interface.map(one),
                default: value.default.map(|value| sourced(value, at)),
                on_down: value.on_down.map(one),
                gateway: value.gateway.map(one),
                origin,
            }
        };
        let list = |value: Spanned<RawList>| {
            let Sourced { value, origin } = sourced(value, at);
            FileList {
                path: value.path.map(one),
                verdict: value.verdict.map(one),
                vpn: value.vpn.map(one),
                format: value.format.map(one),
                select: many(value.select),
                origin,
            }
        };
        let scope = |value: Spanned<RawScope>| {
            let Sourced { value, origin } = sourced(value, at);
            FileScope {
                network: value.network.map(one),
                container: value.container.map(one),
                label: value.label.map(one),
                compose: value.compose.map(one),
                cgroup: value.cgroup.map(one),
                vpn: value.vpn.map(one),
                default: value.default.map(one),
                dns: value
                    .dns
                    .map_or_else(Vec::new, |Several(values)| many(values)),
                forward: many(value.forward),
                on_stop: value.on_stop.map(one),
                origin,
            }
        };
        Ok(Self {
            vpns: raw.vpn.0.into_iter().map(vpn).collect(),
            cgroups: raw.attach.cgroups.map(many),
            bridges: raw.attach.bridges.map(many),
            docker: raw.attach.docker.map(one),
            presets: raw.rules.presets.map(many),
            vpn: raw.rules.vpn.into_iter().map(rule).collect(),
            direct: many(raw.rules.direct),
            block: many(raw.rules.block),
            lists: raw.rules.lists.into_iter().map(list).collect(),
            resolve: raw.dns.resolve,
            dns_vpn: raw
                .dns
                .vpn
                .map_or_else(Vec::new, |Several(values)| many(values)),
            sni_ports: raw.sni.ports.map(ports),
            http_ports: raw.sni.http_ports.map(ports),
            late: raw.sni.late.map(one),
            mark: raw.routing.mark.map(number),
            mask: raw.routing.mask.map(number),
            table: raw.routing.table.map(number),
            priority: raw.routing.priority.map(number),
            addresses: raw.tables.addresses.map(number),
            flows: raw.tables.flows.map(number),
            scopes: raw.scope.into_iter().map(scope).collect(),
            path: Some(path.clone()),
        })
    }
}

/// The line, counted from 1, that holds the byte at `offset`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|&byte| byte == b'\n')
        .count()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    vpn: RawVpns,
    attach: RawAttach,
    rules: RawRules,
    dns: RawDns,
    sni: RawSni,
    routing: RawRouting,
    tables: RawTables,
    scope: Vec<Spanned<RawScope>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawVpn {
    name: Option<Spanned<String>>,
    default: Option<Spanned<bool>>,
    interface: Option<Spanned<String>>,
    on_down: Option<Spanned<String>>,
    gateway: Option<Spanned<String>>,
}

/// Several VPNs, or one that stands alone.
#[derive(Debug, Default)]
struct RawVpns(Vec<Spanned<RawVpn>>);

impl<'de> Deserialize<'de> for RawVpns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Spanned::<OneOrManyVpns>::deserialize(deserializer)?;
        let span = value.span();
        Ok(Self(match value.into_inner() {
            OneOrManyVpns::One(one) => vec![Spanned::new(span, one)],
            OneOrManyVpns::Many(many) => many,
        }))
    }
}

#[derive(Debug)]
enum OneOrManyVpns {
    One(RawVpn),
    Many(Vec<Spanned<RawVpn>>),
}

impl<'de> Deserialize<'de> for OneOrManyVpns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OneOrManyVpns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<OneOrManyVpns, A::Error> {
                let table = MapAccessDeserializer::new(table);
                RawVpn::deserialize(table).map(OneOrManyVpns::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<OneOrManyVpns, A::Error> {
                let tables = SeqAccessDeserializer::new(tables);
                Vec::deserialize(tables).map(OneOrManyVpns::Many)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAttach {
    cgroups: Option<Vec<Spanned<String>>>,
    bridges: Option<Vec<Spanned<String>>>,
    docker: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRules {
    presets: Option<Vec<Spanned<String>>>,
    vpn: Vec<Spanned<RawRule>>,
    direct: Vec<Spanned<String>>,
    block: Vec<Spanned<String>>,
    lists: Vec<Spanned<RawList>>,
}

/// A rule, which may have a VPN of its own.
#[derive(Debug)]
enum RawRule {
    Alone(String),
    WithVpn(RawRuleWithVpn),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRuleWithVpn {
    rule: Spanned<String>,
    vpn: Option<Spanned<String>>,
}

impl<'de> Deserialize<'de> for RawRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a table with rule and vpn")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawRule, E> {
                Ok(RawRule::Alone(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RawRule, A::Error> {
                let table = MapAccessDeserializer::new(table);
                RawRuleWithVpn::deserialize(table).map(RawRule::WithVpn)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawList {
    path: Option<Spanned<String>>,
    verdict: Option<Spanned<String>>,
    vpn: Option<Spanned<String>>,
    format: Option<Spanned<String>>,
    select: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawDns {
    resolve: Option<bool>,
    vpn: Option<Several>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSni {
    ports: Option<Vec<Spanned<u16>>>,
    http_ports: Option<Vec<Spanned<u16>>>,
    late: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRouting {
    mark: Option<Spanned<u32>>,
    mask: Option<Spanned<u32>>,
    table: Option<Spanned<u32>>,
    priority: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTables {
    addresses: Option<Spanned<u32>>,
    flows: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawScope {
    network: Option<Spanned<String>>,
    container: Option<Spanned<String>>,
    label: Option<Spanned<String>>,
    compose: Option<Spanned<String>>,
    cgroup: Option<Spanned<String>>,
    vpn: Option<Spanned<String>>,
    default: Option<Spanned<String>>,
    dns: Option<Several>,
    forward: Vec<Spanned<String>>,
    on_stop: Option<Spanned<String>>,
}

/// A list of strings, or one that stands alone.
#[derive(Debug)]
struct Several(Vec<Spanned<String>>);

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Spanned::<OneOrMany>::deserialize(deserializer)?;
        let span = value.span();
        Ok(Self(match value.into_inner() {
            OneOrMany::One(one) => vec![Spanned::new(span, one)],
            OneOrMany::Many(many) => many,
        }))
    }
}

#[derive(Debug)]
enum OneOrMany {
    One(String),
    Many(Vec<Spanned<String>>),
}

// An untagged enum would lose the places of what is in the list.
impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<OneOrMany, A::Error> {
                let mut many = Vec::new();
                while let Some(value) = values.next_element()? {
                    many.push(value);
                }
                Ok(OneOrMany::Many(many))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What the TOML reader itself says of a text that it refuses.
    pub(in crate::config) fn unexplained(text: &str) -> String {
        toml::from_str::<Raw>(text)
            .unwrap_err()
            .message()
            .to_owned()
    }

    #[test]
    fn lines_count_from_one() {
        let text = "a\nb\n\nc";
        let lines: Vec<_> = (0..=text.len())
            .map(|offset| line_of(text, offset))
            .collect();
        assert_eq!(lines, [1, 1, 2, 2, 3, 4, 4]);
    }
}
