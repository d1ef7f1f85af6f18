//! Licences and origins of every crate that the lock file names.
//!
//! deny.toml has the rules. cargo-deny applies all of them where it is installed; as compiling it takes longer than all the
//! rest of a test run, its two rules that concern users are applied here otherwise.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{step, system};

/// Checks every dependency by deny.toml.
///
/// # Errors
/// When a licence is not allowed or a crate comes from elsewhere than the registry: all of them are named.
pub fn check(root: &Path) -> Result<()> {
    if system::find("cargo-deny").is_some() {
        // Advisories need a database from the network, and belong to the day rather than to the commit.
        let mut command = Command::new("cargo");
        system::clean_environment(&mut command).current_dir(root);
        return step::run(
            "cargo deny",
            command.args(["deny", "--offline", "check", "licenses", "bans", "sources"]),
        );
    }

    let path = root.join("deny.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let rules: Rules =
        toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))?;
    let mut command = Command::new("cargo");
    system::clean_environment(&mut command).current_dir(root);
    let text = system::output(command.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--all-features",
    ]))
    .context("`cargo metadata` failed: is Cargo.lock up to date?")?;
    let metadata: Metadata = serde_json::from_str(&text)
        .context("`cargo metadata` printed something else than metadata")?;

    let faults: Vec<_> = metadata
        .packages
        .iter()
        .filter_map(|package| package.fault(&rules.licenses.allow))
        .collect();
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    step::note(&format!(
        "{} crates: licences and sources as deny.toml allows (bans not checked: cargo-deny is not installed)",
        metadata.packages.len()
    ));
    Ok(())
}

#[derive(Deserialize)]
struct Rules {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// `None` for the crates of this workspace.
    source: Option<String>,
}

impl Package {
    fn fault(&self, allowed: &BTreeSet<String>) -> Option<String> {
        let who = format!("{} {}", self.name, self.version);
        let Some(licence) = &self.license else {
            return Some(format!("{who} names no licence"));
        };
        if self
            .source
            .as_deref()
            .is_some_and(|source| !source.starts_with("registry+"))
        {
            return Some(format!("{who} does not come from the registry"));
        }
        match spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX) {
            Err(error) => Some(format!(
                "{who}: `{licence}` is no licence expression: {}",
                error.reason
            )),
            Ok(expression) => (!expression
                .evaluate(|requirement| allowed.contains(&requirement.to_string())))
            .then(|| format!("{who}: `{licence}` is not covered by deny.toml's list of licences")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(licence: Option<&str>, source: Option<&str>) -> Option<String> {
        let package = Package {
            name: "p".to_owned(),
            version: "1.0.0".to_owned(),
            license: licence.map(str::to_owned),
            source: source.map(str::to_owned),
        };
        package.fault(&["MIT".to_owned(), "Zlib".to_owned()].into())
    }

    #[test]
    fn a_choice_needs_one_allowed_licence_and_a_conjunction_all() {
        assert_eq!(fault(Some("MIT OR GPL-3.0-only"), None), None);
        assert_eq!(
            fault(Some("GPL-2.0-only / MIT"), None),
            fault(Some("GPL-2.0-only/MIT"), None)
        );
        assert_eq!(fault(Some("MIT/Apache-2.0"), None), None);
        assert_eq!(fault(Some("(MIT OR Apache-2.0) AND Zlib"), None), None);
        assert!(fault(Some("MIT AND GPL-3.0-only"), None).is_some());
        assert!(fault(Some("GPL-3.0-only"), None).is_some());
        assert!(fault(None, None).is_some());
    }

    #[test]
    fn only_the_registry_is_a_source() {
        assert_eq!(fault(Some("MIT"), Some("registry+https://example")), None);
        assert!(fault(Some("MIT"), Some("git+https://example/p")).is_some());
    }
}
