//! The rules of the file, of the flags and of the presets, as one set.

use super::{ConfigError, ConfigFile, Overrides};
use crate::origin::{Origin, Sourced};
use crate::rules::{Preset, Rule, RuleSet, SubjectError, Verdict};

pub(super) fn resolve(file: &ConfigFile, flags: &Overrides) -> Result<RuleSet, ConfigError> {
    let mut rules = Vec::new();
    for preset in presets(file, flags) {
        let found = Preset::named(&preset.value)
            .map_err(|unknown| ConfigError::invalid(&preset.origin, unknown.to_string()))?;
        rules.extend(found.rules());
    }
    let flag = |values: &[String], name| -> Vec<_> {
        values
            .iter()
            .map(|value| Sourced::new(value.clone(), Origin::Flag(name)))
            .collect()
    };
    for (verdict, patterns) in [
        (Verdict::Vpn, file.vpn.clone()),
        (Verdict::Direct, file.direct.clone()),
        (Verdict::Vpn, flag(&flags.vpn_domains, "--vpn-domain")),
        (
            Verdict::Direct,
            flag(&flags.direct_domains, "--direct-domain"),
        ),
    ] {
        for Sourced { value, origin } in patterns {
            let subject = value
                .parse()
                .map_err(|error: SubjectError| ConfigError::invalid(&origin, error.to_string()))?;
            rules.push(Rule {
                subject,
                verdict,
                origin,
            });
        }
    }
    Ok(RuleSet::compile(rules)?)
}

fn presets(file: &ConfigFile, flags: &Overrides) -> Vec<Sourced<String>> {
    if flags.no_presets {
        return Vec::new();
    }
    if !flags.presets.is_empty() {
        return flags
            .presets
            .iter()
            .map(|name| Sourced::new(name.clone(), Origin::Flag("--preset")))
            .collect();
    }
    file.presets
        .clone()
        .unwrap_or_else(|| vec![Sourced::default_value(Preset::DEFAULT.to_owned())])
}
