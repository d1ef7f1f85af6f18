//! The programs that run guests: virtme-ng and its virtiofsd, found on this machine or installed into the cache.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    setup::packages::{self, VM},
    step, system,
};

const VIRTME_NG: &str = "1.42";
const VIRTIOFSD: &str = "1.14.0";
/// Where distributions put it, who do not count it among a user's programs.
const VIRTIOFSD_PLACES: [&str; 3] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/virtiofsd/virtiofsd",
];
/// Debian's package of virtiofsd, from 13 on.
const VIRTIOFSD_PACKAGE: &str = "virtiofsd";
/// What building virtiofsd takes, with a file of each.
const LIBRARIES: [(&str, &str); 2] = [
    ("libcap-ng-dev", "cap-ng.h"),
    ("libseccomp-dev", "seccomp.h"),
];

/// What runs guests.
pub struct Tools {
    /// virtme-ng's command.
    pub vng: PathBuf,
    /// QEMU.
    pub qemu: PathBuf,
    virtiofsd: PathBuf,
}

impl Tools {
    /// What is installed, if all of it is.
    pub fn find() -> Option<Self> {
        if !packages::missing(VM).is_empty() {
            return None;
        }
        Some(Self {
            vng: vng()?,
            qemu: system::find("qemu-system-x86_64")?,
            virtiofsd: virtiofsd()?,
        })
    }

    /// What is missing, each in a line.
    pub fn missing() -> Vec<String> {
        let mut lines = packages::describe(&packages::missing(VM));
        if vng().is_none() {
            lines.push(format!(
                "virtme-ng {VIRTME_NG} (boots the guests): installed by setup, with python3 and its venv"
            ));
        }
        if virtiofsd().is_none() {
            lines.push(format!(
                "virtiofsd (the guests' root): package {VIRTIOFSD_PACKAGE}, or built by setup with packages {}",
                LIBRARIES.map(|(package, _)| package).join(" and ")
            ));
        }
        lines
    }

    /// Installs what is missing.
    ///
    /// # Errors
    /// When something cannot be had here: the message names it.
    pub fn install() -> Result<Self> {
        packages::ensure(VM, "the guests'")?;
        if vng().is_none() {
            install_vng()?;
        }
        if virtiofsd().is_none() {
            install_virtiofsd()?;
        }
        let tools = Self::find()
            .context("a program of the guests is missing although all were installed")?;
        step::note(&format!("virtme-ng {VIRTME_NG}: {}", tools.vng.display()));
        step::note(&format!("virtiofsd: {}", tools.virtiofsd.display()));
        Ok(tools)
    }

    /// The PATH on which virtme-ng finds its own parts, QEMU and virtiofsd.
    ///
    /// # Errors
    /// When a folder's name has a colon.
    pub fn path(&self) -> Result<OsString> {
        let own = [&self.vng, &self.virtiofsd];
        path_with(own.into_iter().filter_map(|program| program.parent()))
    }
}

/// PATH with `folders` before it and those of root's programs behind it.
fn path_with(folders: impl IntoIterator<Item = impl Into<PathBuf>>) -> Result<OsString> {
    let others = env::var_os("PATH").unwrap_or_default();
    let folders = folders
        .into_iter()
        .map(Into::into)
        .chain(env::split_paths(&others))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    env::join_paths(folders).context("PATH cannot be extended by folders of the cache")
}

/// The folder of what guests need.
pub fn folder() -> PathBuf {
    system::cache().join("vm")
}

fn environment() -> PathBuf {
    folder().join(format!("virtme-ng-{VIRTME_NG}"))
}

fn vng() -> Option<PathBuf> {
    let command = environment().join("bin/vng");
    let version = system::output(Command::new(&command).arg("--version"))?;
    version
        .split_whitespace()
        .any(|word| word == VIRTME_NG)
        .then_some(command)
}

/// Makes a Python environment of its own for it.
fn install_vng() -> Result<()> {
    let python = python()?;
    let place = environment();
    if place.exists() {
        fs::remove_dir_all(&place)
            .with_context(|| format!("{} cannot be removed", place.display()))?;
    }
    step::run(
        "making a Python environment for virtme-ng",
        Command::new(python).args(["-m", "venv"]).arg(&place),
    )?;
    step::run(
        &format!("installing virtme-ng {VIRTME_NG}"),
        Command::new(place.join("bin/pip"))
            .args(["install", "--disable-pip-version-check"])
            .arg(format!("virtme-ng=={VIRTME_NG}")),
    )
}

/// A Python that can make environments.
fn python() -> Result<PathBuf> {
    let usable = || {
        let system = PathBuf::from("/usr/bin/python3");
        [Some(system), system::find("python3")]
            .into_iter()
            .flatten()
            .find(|python| {
                system::output(Command::new(python).args(["-c", "import ensurepip, venv"]))
                    .is_some()
            })
    };
    if let Some(python) = usable() {
        return Ok(python);
    }
    ensure!(
        packages::has_apt(),
        "virtme-ng needs Python 3 with its venv module, which is missing: install it with the package manager of {}",
        packages::distribution()
    );
    packages::refresh_if_empty()?;
    packages::install(&["python3", "python3-venv"])?;
    usable().context("packages python3 and python3-venv were installed, yet no Python here can make environments")
}

fn virtiofsd() -> Option<PathBuf> {
    let own = root_of_virtiofsd().join("bin/virtiofsd");
    let candidates = [Some(own), system::find("virtiofsd")]
        .into_iter()
        .flatten()
        .chain(VIRTIOFSD_PLACES.map(PathBuf::from));
    candidates.into_iter().find(|program| {
        // QEMU 7 and older bring another program of this name, which only root can run and which says "version".
        system::output(Command::new(program).arg("--version"))
            .is_some_and(|text| text.starts_with("virtiofsd 1."))
    })
}

fn root_of_virtiofsd() -> PathBuf {
    folder().join(format!("virtiofsd-{VIRTIOFSD}"))
}

fn install_virtiofsd() -> Result<()> {
    if packages::has_apt() {
        packages::refresh_if_empty()?;
        if packages::is_available(VIRTIOFSD_PACKAGE) {
            packages::install(&[VIRTIOFSD_PACKAGE])?;
            if virtiofsd().is_some() {
                return Ok(());
            }
        }
        let missing: Vec<_> = LIBRARIES
            .iter()
            .filter(|(_, header)| !Path::new("/usr/include").join(header).is_file())
            .map(|(package, _)| *package)
            .collect();
        if !missing.is_empty() {
            packages::install(&missing)?;
        }
    }
    let root = root_of_virtiofsd();
    let build = root.join("build");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    system::clean_environment(&mut command)
        .args([
            "install",
            "virtiofsd",
            "--locked",
            "--force",
            "--version",
            VIRTIOFSD,
        ])
        .arg("--root")
        .arg(&root)
        .env("CARGO_TARGET_DIR", &build)
        // Or it warns that its folder is not on PATH.
        .env("PATH", path_with([root.join("bin")])?);
    step::run(
        &format!("building virtiofsd {VIRTIOFSD} (a minute or two)"),
        &mut command,
    )?;
    fs::remove_dir_all(&build).with_context(|| format!("{} cannot be removed", build.display()))?;
    virtiofsd()
        .map(drop)
        .with_context(|| format!("virtiofsd was built, yet {} has none", root.display()))
}
