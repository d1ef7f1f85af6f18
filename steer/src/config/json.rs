//! Settings as JSON, by the keys of the configuration file.

use super::{
    BridgeChoice, CgroupChoice, DockerChoice, Late, ListSummary, Scope, Settings, VpnChoice,
};
use serde_json::{Value, json};

const AUTO: &str = "auto";

impl Settings {
    /// Every key of the file with the value that holds, and what the rules and lists came to.
    pub fn to_json(&self) -> Value {
        let rules = self.rules.own();
        let rules = rules.iter().map(|(subject, judgement)| {
            json!({
                "rule": subject.to_string(),
                "verdict": judgement.verdict.to_string(),
                "from": judgement.origin.to_string(),
            })
        });
        let cgroups = self.cgroups.iter().map(|choice| match &choice.value {
            CgroupChoice::Auto => AUTO.to_owned(),
            CgroupChoice::Path(path) => path.display().to_string(),
        });
        let bridges = self.bridges.iter().map(|choice| match &choice.value {
            BridgeChoice::Auto => AUTO,
            BridgeChoice::Pattern(pattern) => pattern,
        });
        let vpns = self.vpns.iter().enumerate().map(|(place, vpn)| {
            json!({
                "name": vpn.name,
                "interface": match &vpn.interface.value {
                    VpnChoice::Auto => AUTO,
                    VpnChoice::Named(name) => name,
                },
                "default": self.default_vpn.0 == place,
                "on_down": vpn.on_down.value,
                "gateway": vpn.gateway.map_or_else(|| AUTO.to_owned(), |gateway| gateway.to_string()),
            })
        });
        let vpns: Vec<_> = vpns.collect();
        json!({
            "file": self.file.as_ref().map(|file| file.display().to_string()),
            "vpn": vpns[self.default_vpn.0],
            "vpns": vpns,
            "attach": {
                "cgroups": cgroups.collect::<Vec<_>>(),
                "bridges": bridges.collect::<Vec<_>>(),
                "docker": match &self.docker.value {
                    DockerChoice::Auto => AUTO.to_owned(),
                    DockerChoice::Off => "off".to_owned(),
                    DockerChoice::Socket(socket) => socket.display().to_string(),
                },
            },
            "rules": rules.collect::<Vec<_>>(),
            "lists": self.lists.iter().map(list_json).collect::<Vec<_>>(),
            "dns": { "resolve": self.resolve, "vpn": self.dns_vpn },
            "sni": {
                "ports": self.sni.ports,
                "http_ports": self.sni.http_ports,
                "late": match self.sni.late {
                    Late::Reset => "reset",
                    Late::Learn => "learn",
                },
            },
            "scope": self.scopes.iter().map(|scope| self.scope_json(scope)).collect::<Vec<_>>(),
            "routing": {
                "mark": self.routing.mark.value(),
                "mask": self.routing.mark.mask(),
                "table": self.routing.table.0,
                "priority": self.routing.priority.0,
            },
            "tables": {
                "addresses": self.tables.addresses,
                "flows": self.tables.flows,
            },
        })
    }

    fn scope_json(&self, scope: &Scope) -> Value {
        let forward = scope.forward.iter().map(ToString::to_string);
        let mut json = json!({
            "network": null,
            "container": null,
            "label": null,
            "compose": null,
            "cgroup": null,
            "vpn": scope.vpn.map(|vpn| &self.vpns[vpn.0].name),
            "default": scope.default.to_string(),
            "dns": scope.dns,
            "forward": forward.collect::<Vec<_>>(),
            "on_stop": scope.on_stop.to_string(),
            "from": scope.origin.to_string(),
        });
        json[scope.selector.key()] = scope.selector.value().into();
        json
    }
}

/// What a list came to.
pub fn list_json(list: &ListSummary) -> Value {
    json!({
        "path": list.path.display().to_string(),
        "format": list.format.to_string(),
        "verdict": list.verdict.to_string(),
        "rules": list.rules,
        "skipped": list.skipped,
        "complaints": list.complaints,
    })
}

#[cfg(test)]
mod tests {
    use super::super::explain::{SCHEMA, SCOPE};
    use super::*;
    use crate::config::{ConfigFile, Overrides};
    use std::path::Path;

    fn json(text: &str) -> Value {
        let file = ConfigFile::parse(Path::new("steer.toml"), text).unwrap();
        Settings::resolve(file, Overrides::default())
            .unwrap()
            .to_json()
    }

    #[test]
    fn the_keys_that_are_documented_are_those_there_are_with_their_defaults() {
        let (_, told) = include_str!("../../../docs/configuration.md")
            .split_once("## All keys with their defaults\n\n```toml\n")
            .unwrap();
        let (told, _) = told.split_once("```").unwrap();
        assert_eq!(json(told), json(""));
        let table = toml::from_str::<toml::Table>(told).unwrap();
        for section in &SCHEMA {
            for key in section.keys {
                let is_told = table[section.name].get(key.name).is_some();
                assert!(is_told, "{}.{}", section.name, key.name);
            }
        }
    }

    #[test]
    fn the_keys_of_a_scope_are_documented_with_values_that_hold() {
        let (_, told) = include_str!("../../../docs/configuration.md")
            .split_once("## Scopes\n")
            .unwrap();
        let (_, told) = told.split_once("```toml\n").unwrap();
        let (told, _) = told.split_once("```").unwrap();
        let scopes = json(told)["scope"].take();
        for key in SCOPE.keys {
            let mut values = scopes.as_array().unwrap().iter().map(|it| &it[key.name]);
            assert!(values.any(|value| !value.is_null()), "{}", key.name);
            assert!(told.contains(&format!("\n{} = ", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn every_key_of_the_file_is_there() {
        let json = json("");
        // What the rules and lists came to stands in the place of what they are written in.
        for section in SCHEMA.iter().filter(|section| section.name != "rules") {
            for key in section.keys {
                let value = &json[section.name][key.name];
                assert!(!value.is_null(), "{}.{}", section.name, key.name);
            }
        }
        let scope =
            self::json("[[scope]]\nlabel = \"a=b\"\ndns = \"1.1.1.1\"\n")["scope"][0].take();
        for key in SCOPE.keys {
            assert!(scope.get(key.name).is_some(), "scope.{}", key.name);
        }
        assert_eq!(scope["label"], "a=b");
        assert_eq!(scope["default"], "vpn");
        assert_eq!(json["routing"]["table"], 7350);
        assert_eq!(json["rules"][0]["rule"], "api.docker.com");
    }
}
