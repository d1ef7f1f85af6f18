//! Built-in lists of rules.

use super::{Rule, Subject, Verdict};
use crate::config::line_of;
use crate::origin::Origin;
use crate::suggest;
use serde::Deserialize;
use std::fmt;
use toml::Spanned;

/// A built-in list of rules, written as a configuration file is, so that an entry can carry its reason and be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct Preset {
    name: &'static str,
    text: &'static str,
}

static PRESETS: [Preset; 1] = [Preset {
    name: Preset::DEFAULT,
    text: include_str!("docker-hub.toml"),
}];

impl Preset {
    /// The preset used when nothing else is asked for.
    pub const DEFAULT: &'static str = "docker-hub";

    /// Every preset there is.
    pub fn all() -> &'static [Self] {
        &PRESETS
    }

    /// The preset of that name.
    pub fn named(name: &str) -> Result<&'static Self, UnknownPreset> {
        PRESETS
            .iter()
            .find(|preset| preset.name == name)
            .ok_or_else(|| UnknownPreset(name.to_owned()))
    }

    /// The name that selects it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The list as it is written, with its comments.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Its rules, each with the line that it stands on.
    pub fn rules(&self) -> Vec<Rule> {
        let file: PresetFile =
            toml::from_str(self.text).expect("a built-in preset parses: a test reads each");
        let PresetRules { vpn, direct } = file.rules;
        let vpn = vpn.iter().map(|entry| self.rule(entry, Verdict::Vpn));
        let direct = direct.iter().map(|entry| self.rule(entry, Verdict::Direct));
        vpn.chain(direct).collect()
    }

    fn rule(&self, entry: &Spanned<String>, verdict: Verdict) -> Rule {
        let line = line_of(self.text, entry.span().start);
        let pattern = entry
            .get_ref()
            .parse()
            .expect("a built-in preset holds domains only: a test reads each");
        Rule {
            subject: Subject::Names(pattern),
            verdict,
            vpn: None,
            origin: Origin::Preset {
                name: self.name,
                line,
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetFile {
    rules: PresetRules,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetRules {
    vpn: Vec<Spanned<String>>,
    direct: Vec<Spanned<String>>,
}

/// A preset was asked for that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPreset(String);

impl std::error::Error for UnknownPreset {}

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = PRESETS.iter().map(Preset::name).collect();
        write!(f, "there is no preset \"{}\"", self.0)?;
        match suggest::nearest(&self.0, names.iter().copied()) {
            Some(name) => write!(f, "; did you mean \"{name}\"?"),
            None => write!(f, "; those built in: {}", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{RuleSet, Scope};

    #[test]
    fn every_preset_reads_without_conflict() {
        for preset in Preset::all() {
            let rules = preset.rules();
            let count = rules.len();
            assert!(count > 0, "{} is empty", preset.name());
            RuleSet::compile(rules).unwrap();
        }
    }

    #[test]
    fn an_entry_knows_its_line() {
        for rule in Preset::named("docker-hub").unwrap().rules() {
            let Origin::Preset { name, line } = rule.origin else {
                panic!("{:?}", rule.origin)
            };
            let preset = Preset::named(name).unwrap();
            let text = preset.text().lines().nth(line - 1).unwrap();
            assert!(
                text.contains(&format!("\"{}\"", rule.subject)),
                "line {line} is {text}"
            );
        }
    }

    #[test]
    fn docker_hub_takes_the_gates_and_leaves_the_layers() {
        let rules = RuleSet::compile(Preset::named("docker-hub").unwrap().rules()).unwrap();
        for name in [
            "hub.docker.com",
            "registry-1.docker.io",
            "auth.docker.io",
            "index.docker.io",
            "login.docker.com",
        ] {
            assert_eq!(rules.decide(name).unwrap().verdict, Verdict::Vpn, "{name}");
        }
        for name in [
            "production.cloudflare.docker.com",
            "production.cloudfront.docker.com",
            "dseasb33srnrn.cloudfront.net",
            "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
        ] {
            assert_eq!(
                rules.decide(name).unwrap().verdict,
                Verdict::Direct,
                "{name}"
            );
        }
        for name in ["docker.com", "docs.docker.com", "docker.io", "com"] {
            assert!(rules.decide(name).is_none(), "{name}");
        }
    }

    #[test]
    fn no_preset_takes_a_whole_company_through_the_vpn() {
        for preset in Preset::all() {
            for rule in preset
                .rules()
                .iter()
                .filter(|rule| rule.verdict == Verdict::Vpn)
            {
                let Subject::Names(pattern) = &rule.subject else {
                    panic!("{}", rule.subject)
                };
                assert_eq!(pattern.scope, Scope::Exact, "{pattern}");
            }
        }
    }

    #[test]
    fn a_wrong_name_gets_the_right_one() {
        assert_eq!(
            Preset::named("dockerhub").unwrap_err().to_string(),
            "there is no preset \"dockerhub\"; did you mean \"docker-hub\"?"
        );
        assert_eq!(
            Preset::named("x").unwrap_err().to_string(),
            "there is no preset \"x\"; those built in: docker-hub"
        );
    }
}
