//! bpf-linker, made against the LLVM of the compiler it serves.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::packages;
use crate::{step, system};

const VERSION: &str = "0.13.0";
/// The LLVM majors that this version of bpf-linker can be built against.
const SUPPORTED: [u32; 3] = [21, 22, 23];

/// A bpf-linker that is installed and fits LLVM `major`.
pub fn find(major: u32) -> Option<PathBuf> {
    let own = folder(major).join("bin/bpf-linker");
    if own.is_file() {
        return Some(own);
    }
    let home = cargo_home();
    let shared = home.join("bin/bpf-linker");
    let record = fs::read_to_string(home.join(".crates2.json")).ok()?;
    (shared.is_file() && is_recorded(&record, major)).then_some(shared)
}

/// Whether a bpf-linker for LLVM `major` is there or can be made.
pub fn is_within_reach(major: u32) -> bool {
    SUPPORTED.contains(&major)
        && (find(major).is_some()
            || prefix(major).is_some()
            || packages::is_available(&package(major)))
}

/// The package that has LLVM's headers and library.
pub fn package(major: u32) -> String {
    format!("llvm-{major}-dev")
}

/// Builds and installs bpf-linker for LLVM `major`, into a folder of its own so that nobody's own copy is replaced.
///
/// # Errors
/// When LLVM's development package cannot be had or the build fails.
pub fn install(major: u32) -> Result<PathBuf> {
    if !SUPPORTED.contains(&major) {
        bail!(
            "bpf-linker {VERSION} cannot be built against LLVM {major}: use a Rust toolchain whose LLVM is one of {SUPPORTED:?}"
        );
    }
    if prefix(major).is_none() && packages::has_apt() {
        packages::install(&[&package(major)])?;
    }
    let prefix = prefix(major).with_context(|| {
        format!("LLVM {major} with its headers is missing: install it, and set LLVM_PREFIX to the folder whose bin/llvm-config is that version's")
    })?;

    let root = folder(major);
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    system::clean_environment(&mut command);
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
            "--no-default-features",
            "--features",
        ])
        .arg(format!("llvm-{major}"))
        .arg("--root")
        .arg(&root)
        .env("LLVM_PREFIX", prefix)
        .env("CARGO_TARGET_DIR", root.join("build"));
    step::run(
        &format!("building bpf-linker {VERSION} for LLVM {major} (about a minute)"),
        &mut command,
    )?;
    fs::remove_dir_all(root.join("build"))
        .with_context(|| format!("{} cannot be removed", root.join("build").display()))?;
    find(major).with_context(|| format!("bpf-linker was built, yet {} has none", root.display()))
}

/// The folder whose `bin/llvm-config` is of version `major`.
fn prefix(major: u32) -> Option<PathBuf> {
    let fits = |prefix: &Path| {
        let version =
            system::output(Command::new(prefix.join("bin/llvm-config")).arg("--version"))?;
        let headers = prefix.join("include/llvm-c/Core.h").is_file();
        (headers && version.split('.').next()? == major.to_string()).then_some(())
    };
    let given = env::var_os("LLVM_PREFIX").map(PathBuf::from);
    let known = [
        format!("/usr/lib/llvm-{major}"),
        format!("/usr/lib/llvm{major}"),
        format!("/usr/lib64/llvm{major}"),
        "/usr".to_owned(),
    ];
    given
        .into_iter()
        .chain(known.map(PathBuf::from))
        .find(|prefix| fits(prefix).is_some())
}

/// Whether cargo's record of installed programs has our version, built for LLVM `major`.
fn is_recorded(record: &str, major: u32) -> bool {
    let Some((_, entry)) = record.split_once(&format!("\"bpf-linker {VERSION} ")) else {
        return false;
    };
    let entry = entry
        .split_once("\"target\"")
        .map_or(entry, |(entry, _)| entry);
    entry.contains(&format!("\"llvm-{major}\""))
}

fn folder(major: u32) -> PathBuf {
    system::cache().join(format!("bpf-linker-{VERSION}-llvm-{major}"))
}

fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(|| system::home().join(".cargo"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"installs":{"bindgen-cli 0.72.0 (x)":{"features":["llvm-22"],"target":"t"},
        "bpf-linker 0.13.0 (x)":{"version_req":"=0.13.0","bins":["bpf-linker"],"features":["llvm-21"],"target":"t"},
        "other 1.0.0 (x)":{"features":["llvm-23"],"target":"t"}}}"#;

    #[test]
    fn only_the_features_of_the_linker_itself_count() {
        assert!(is_recorded(RECORD, 21));
        assert!(!is_recorded(RECORD, 22));
        assert!(!is_recorded(RECORD, 23));
        assert!(!is_recorded("", 21));
    }
}
