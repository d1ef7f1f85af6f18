//! Programs of Debian sid, unpacked beside the system.
//!
//! Its dockerd and containerd run on bookworm's C library; its runc does not (it asks for
//! `GLIBC_2.38`), so the machine's own runc serves it. Its curl, nginx and firewalld come with all
//! that they are linked to, the C library and its loader too.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::exec::Ran;

/// What is fetched together, into a folder of its own.
struct Bundle {
    folder: &'static str,
    packages: &'static [&'static str],
    /// Whether the packages come with those that they need.
    whole: bool,
    /// A file that is there when all is.
    proof: &'static str,
}

const DOCKER: Bundle = Bundle {
    folder: "docker-sid",
    packages: &["docker.io", "docker-cli", "containerd"],
    whole: false,
    proof: "usr/sbin/dockerd",
};

const WEB: Bundle = Bundle {
    folder: "web-sid",
    packages: &["curl", "nginx"],
    whole: true,
    proof: "usr/sbin/nginx",
};

const COMPOSE: Bundle = Bundle {
    folder: "compose-sid",
    packages: &["docker-compose"],
    whole: false,
    proof: "usr/libexec/docker/cli-plugins/docker-compose",
};

const FIREWALLD: Bundle = Bundle {
    folder: "firewalld-sid",
    packages: &["firewalld"],
    whole: true,
    proof: "usr/sbin/firewalld",
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where programs of sid are kept: `STEER_CACHE`, else `/var/cache/steer`.
pub fn sid_cache() -> PathBuf {
    env::var_os("STEER_CACHE").map_or_else(|| PathBuf::from("/var/cache/steer"), PathBuf::from)
}

/// Fetches Debian sid's Docker into `cache`, signatures checked, and returns the folder with
/// its binaries. Quick when it is already there. The system's own packages, sources and lists
/// stay as they are.
pub fn fetch_sid_docker(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    DOCKER.fetch(cache, progress)
}

/// Fetches Debian sid's curl and nginx with all that they need, as [`fetch_sid_docker`] does.
pub fn fetch_sid_web(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    WEB.fetch(cache, progress)
}

/// Fetches Debian sid's firewalld with all that it needs, as [`fetch_sid_docker`] does.
pub(super) fn fetch_sid_firewalld(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    FIREWALLD.fetch(cache, progress)
}

/// Fetches Debian sid's Docker Compose, as [`fetch_sid_docker`] does, and returns the program.
pub(super) fn fetch_sid_compose(cache: &Path) -> Result<PathBuf> {
    Ok(COMPOSE.fetch(cache, &mut |_| {})?.join(COMPOSE.proof))
}

/// A program of a bundle that came whole, run by the bundle's own loader and libraries.
pub(super) fn own_loader(root: &Path, program: &str) -> Result<Vec<PathBuf>> {
    let folder = root.join("usr/lib64");
    let loader = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("ld-linux"))
        .with_context(|| format!("{} has no loader", folder.display()))?;
    let libraries = fs::canonicalize(&loader)?;
    let libraries = libraries.parent().context("the loader lies in a folder")?;
    Ok(vec![
        loader,
        "--library-path".into(),
        libraries.to_owned(),
        root.join(program),
    ])
}

/// The root in which `usr/sbin/dockerd` lies.
pub(super) fn docker_root(cache: &Path) -> PathBuf {
    cache.join(DOCKER.folder)
}

impl Bundle {
    fn fetch(&self, cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        let root = cache.join(self.folder);
        if root.join(self.proof).is_file() {
            return Ok(root);
        }
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let work = tempfile::Builder::new()
            .prefix(&format!("{}-", self.folder))
            .tempdir_in(cache)?;
        let config = private_apt(work.path())?;
        let archives = work.path().join("cache/archives");
        let apt = |args: &[&str]| -> Result<String> {
            let mut apt = Command::new("apt-get");
            apt.args(args)
                .env("APT_CONFIG", &config)
                .current_dir(&archives);
            Ran::of(&mut apt)?
                .stdout()
                .with_context(|| format!("sid's {} cannot be fetched", self.packages.join(", ")))
        };
        progress("the list of sid's packages");
        apt(&["update", "-qq"])?;
        progress(&format!("sid's {}", self.packages.join(", ")));
        let how: &[&str] = if self.whole {
            &[
                "install",
                "--download-only",
                "-y",
                "-qq",
                "--no-install-recommends",
            ]
        } else {
            &["download", "-qq"]
        };
        apt(&[how, self.packages].concat())?;
        let unpacked = work.path().join("root");
        for entry in fs::read_dir(&archives)? {
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
            Err(_) if root.join(self.proof).is_file() => {}
            other => other.with_context(|| format!("cannot make {}", root.display()))?,
        }
        Ok(root)
    }
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
