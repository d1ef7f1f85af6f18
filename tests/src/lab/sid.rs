//! Debian sid's Docker, unpacked beside the system.
//!
//! Its dockerd and containerd run on bookworm's C library; its runc does not (it asks for
//! `GLIBC_2.38`), so the machine's own runc serves it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::exec::Ran;

const PACKAGES: [&str; 3] = ["docker.io", "docker-cli", "containerd"];
const DOCKERD: &str = "usr/sbin/dockerd";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where sid's Docker is kept: `STEER_CACHE`, else `/var/cache/steer`.
pub fn sid_docker_cache() -> PathBuf {
    env::var_os("STEER_CACHE").map_or_else(|| PathBuf::from("/var/cache/steer"), PathBuf::from)
}

/// Fetches Debian sid's Docker into `cache`, signatures checked, and returns the folder with
/// its binaries. Quick when it is already there. The system's own packages, sources and lists
/// stay as they are.
pub fn fetch_sid_docker(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let root = root(cache);
    if root.join(DOCKERD).is_file() {
        return Ok(root);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let work = tempfile::Builder::new()
        .prefix("docker-sid-")
        .tempdir_in(cache)?;
    let config = private_apt(work.path())?;
    let apt = |args: &[&str]| -> Result<String> {
        let mut apt = Command::new("apt-get");
        apt.args(args)
            .env("APT_CONFIG", &config)
            .current_dir(work.path());
        Ran::of(&mut apt)?
            .stdout()
            .context("sid's Docker cannot be fetched")
    };
    progress("the list of sid's packages");
    apt(&["update", "-qq"])?;
    progress("sid's docker.io, docker-cli and containerd");
    apt(&[&["download", "-qq"], PACKAGES.as_slice()].concat())?;
    let unpacked = work.path().join("root");
    for entry in fs::read_dir(work.path())? {
        let package = entry?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            let mut unpack = Command::new("dpkg-deb");
            Ran::of(unpack.arg("-x").arg(&package).arg(&unpacked))?.stdout()?;
        }
    }
    match fs::rename(&unpacked, &root) {
        // Another test may have been quicker.
        Err(_) if root.join(DOCKERD).is_file() => {}
        other => other.with_context(|| format!("cannot make {}", root.display()))?,
    }
    Ok(root)
}

/// The root in which `usr/sbin/dockerd` lies.
pub(super) fn root(cache: &Path) -> PathBuf {
    cache.join("docker-sid")
}

/// An apt configuration with state of its own and sid as the only source, fetched from where
/// this machine fetches Debian.
fn private_apt(dir: &Path) -> Result<PathBuf> {
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let targets = Ran::of(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(LABEL) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let uri = targets
        .stdout()?
        .lines()
        .find_map(|line| line.strip_prefix("Debian Debian ").map(str::to_owned))
        .context(
            "this machine has no Debian source that sid could be fetched like; if it is a \
             Debian, run `apt-get update` first",
        )?;
    ensure!(
        Path::new(KEYRING).exists(),
        "{KEYRING} is missing: install debian-archive-keyring, or sid's signature cannot be checked"
    );
    let sources = dir.join("sources.list");
    fs::write(
        &sources,
        format!("deb [signed-by={KEYRING}] {uri} sid main\n"),
    )?;
    fs::write(dir.join("status"), "")?;
    let config = dir.join("apt.conf");
    let at = |name: &str| dir.join(name).display().to_string();
    fs::write(
        &config,
        format!(
            "Dir::State \"{state}\";\nDir::State::lists \"{lists}\";\n\
             Dir::State::status \"{status}\";\nDir::Cache \"{cache}\";\n\
             Dir::Etc::sourcelist \"{sources}\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             Acquire::Check-Valid-Until \"false\";\nAcquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
             APT::Sandbox::User \"root\";\n",
            state = dir.display(),
            lists = at("lists"),
            status = at("status"),
            cache = at("cache"),
            sources = sources.display(),
        ),
    )?;
    Ok(config)
}
