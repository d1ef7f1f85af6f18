//! Kernels unpacked, with the sums of all their files.
//!
//! Each is a folder named by its release: `boot/vmlinuz-RELEASE`, `lib/modules/RELEASE`, `SHA256SUMS` of every file
//! (`sha256sum --check` reads it by hand too) and `kernel.json`. A folder is made under another name and renamed when it
//! is whole.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Kernel, image,
    series::{Candidate, Package, Version},
};
use crate::{step, system};

const SUMS: &str = "SHA256SUMS";
const MANIFEST: &str = "kernel.json";
/// How long a kernel that no run has used is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The cache, locked as long as this lives.
pub struct Cache {
    root: PathBuf,
    _lock: File,
}

/// What a kernel in the cache was made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// As `uname -r` says it.
    pub release: String,
    /// The version of its packages.
    pub version: Version,
    /// The packages, with the sums that the signed indexes had for them.
    pub packages: Vec<Package>,
    /// The SHA-256 of the file with all the other sums.
    sums: String,
}

/// How a kernel is in the cache.
#[derive(Debug)]
pub enum State {
    Absent,
    /// Every file is as it was unpacked.
    Intact(Manifest),
    /// Why not.
    Damaged(String),
}

impl Cache {
    /// Opens the user's cache, and waits while another run works on it.
    ///
    /// # Errors
    /// When it cannot be made or locked.
    pub fn open() -> Result<Self> {
        let home = || env::home_dir().map(|home| home.join(".cache"));
        let base = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(home)
            .context("there is no home folder to keep kernels in: set XDG_CACHE_HOME")?;
        Self::at(base.join("steer/vm/kernels"))
    }

    fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
        let path = root.join(".lock");
        let lock =
            File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        let locked = match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                step::note("another run is fetching kernels: waiting for it");
                lock.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        locked.with_context(|| format!("{} cannot be locked", path.display()))?;
        Ok(Self { root, _lock: lock })
    }

    /// The path of `name` in the cache.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// How the kernel `release` is kept.
    pub fn state(&self, release: &str) -> State {
        let folder = self.path(release);
        if !folder.exists() {
            return State::Absent;
        }
        match check(&folder) {
            Ok(manifest) => {
                // The date tells when it was last used.
                if let Ok(file) = File::options().append(true).open(folder.join(MANIFEST)) {
                    let _ = file.set_modified(SystemTime::now());
                }
                State::Intact(manifest)
            }
            Err(error) => State::Damaged(format!("{error:#}")),
        }
    }

    /// The kernels that are kept, whole or not.
    pub fn manifests(&self) -> Vec<Manifest> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| manifest(&entry.path()).ok())
            .collect()
    }

    /// Unpacks `packages`, the files of the candidate's packages in their order, and puts the kernel into its place.
    ///
    /// # Errors
    /// When a package is not what the index says, or has no kernel.
    pub fn unpack(&self, candidate: &Candidate, packages: &[PathBuf]) -> Result<Manifest> {
        let work = self.path(".new");
        remove(&work)?;
        fs::create_dir_all(&work).with_context(|| format!("{} cannot be made", work.display()))?;
        for (package, file) in candidate.packages.iter().zip(packages) {
            let sum = output(Command::new("sha256sum").arg(file))?;
            ensure!(
                sum.split_whitespace().next() == Some(&*package.sha256),
                "{} is not the file that the signed index names: its sum should be {}",
                file.display(),
                package.sha256
            );
            output(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(file)
                    .arg(&work),
            )?;
        }
        arrange(&work, &candidate.release)?;
        let sums = sums(&work, &candidate.release)?;
        fs::write(work.join(SUMS), &sums)?;
        let manifest = Manifest {
            release: candidate.release.clone(),
            version: candidate.version.clone(),
            packages: candidate.packages.clone(),
            sums: hex(&Sha256::digest(&sums)),
        };
        fs::write(
            work.join(MANIFEST),
            serde_json::to_string_pretty(&manifest)?,
        )?;
        self.place(&work, &candidate.release)?;
        Ok(manifest)
    }

    /// Renames the folder `work` to `name`, in the place of what was there.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn place(&self, work: &Path, name: &str) -> Result<PathBuf> {
        let place = self.path(name);
        let old = self.path(".old");
        remove(&old)?;
        if place.exists() {
            fs::rename(&place, &old)?;
        }
        fs::rename(work, &place)
            .with_context(|| format!("{} cannot become {}", work.display(), place.display()))?;
        remove(&old)?;
        Ok(place)
    }

    /// The kernel of `manifest`, ready to be booted.
    pub fn kernel(&self, manifest: &Manifest) -> Kernel {
        Kernel {
            release: manifest.release.clone(),
            version: manifest.version.kernel(),
            image: self
                .path(&manifest.release)
                .join(image_path(&manifest.release)),
        }
    }

    /// Removes what no run has used for long.
    pub fn prune(&self) {
        let used = |path: &Path| {
            let manifest = path.join(MANIFEST);
            let dated = if manifest.exists() { &manifest } else { path };
            dated.metadata().and_then(|data| data.modified())
        };
        let folders = [&self.root, &self.path("own")].map(fs::read_dir);
        for entry in folders.into_iter().flatten().flatten().flatten() {
            let path = entry.path();
            let is_kernel = path.join("boot").is_dir();
            let age = used(&path).ok().and_then(|used| used.elapsed().ok());
            if is_kernel && age.is_some_and(|age| age > KEPT) && remove(&path).is_ok() {
                step::note(&format!("{}: removed, unused for 30 days", path.display()));
            }
        }
    }
}

/// Where the image of a kernel lies in its folder.
pub fn image_path(release: &str) -> String {
    format!("boot/vmlinuz-{release}")
}

/// Removes a file or a folder; that it is gone already is success.
///
/// # Errors
/// When it is still there.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes what modprobe reads: `modules.dep` and its kin for the modules of `release` under `root`.
///
/// # Errors
/// When depmod is missing or fails.
pub fn depmod(root: &Path, release: &str) -> Result<()> {
    let Some(depmod) = system::find("depmod") else {
        bail!(
            "depmod is missing, without which a kernel finds no modules: install the package kmod"
        );
    };
    output(Command::new(depmod).arg("-b").arg(root).arg(release))?;
    Ok(())
}

/// SHA-256 in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Brings what the packages had into one layout, whatever their age.
fn arrange(root: &Path, release: &str) -> Result<()> {
    // Up to bookworm the packages have /lib, later ones /usr/lib. kmod looks in either, by how it was built.
    if root.join("lib").is_dir() {
        fs::create_dir_all(root.join("usr"))?;
        ensure!(
            !root.join("usr/lib").exists(),
            "the packages of {release} have both /lib and /usr/lib"
        );
        fs::rename(root.join("lib"), root.join("usr/lib"))?;
    }
    symlink("usr/lib", root.join("lib"))?;
    remove(&root.join("usr/share"))?;

    let modules = root.join("lib/modules").join(release);
    ensure!(
        modules.is_dir(),
        "the packages of {release} have no modules: {} is missing",
        modules.display()
    );
    let boot = root.join(image_path(release));
    // Since 6.19 the image lies with the modules.
    let beside = modules.join("vmlinuz");
    if !boot.exists() && beside.exists() {
        fs::create_dir_all(root.join("boot"))?;
        fs::rename(beside, &boot)?;
    }
    ensure!(
        boot.is_file(),
        "the packages of {release} have no image: {} is missing",
        boot.display()
    );
    if let Some(said) = image::release(&boot)? {
        ensure!(
            said == release,
            "the image of {release} says that it is {said}"
        );
    }
    depmod(root, release)
}

/// The sums of all files of an arranged kernel, as `sha256sum` prints them.
fn sums(root: &Path, release: &str) -> Result<String> {
    let mut files = Vec::new();
    collect(root, Path::new("boot"), &mut files)?;
    collect(root, &Path::new("lib/modules").join(release), &mut files)?;
    files.sort();
    ensure!(
        files
            .iter()
            .any(|file| file.file_name() == Some(OsStr::new("modules.dep"))),
        "depmod wrote no modules.dep for {release}"
    );
    output(
        Command::new("sha256sum")
            .arg("--")
            .args(&files)
            .current_dir(root),
    )
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn manifest(folder: &Path) -> Result<Manifest> {
    let text = fs::read_to_string(folder.join(MANIFEST)).context(MANIFEST)?;
    serde_json::from_str(&text).context(MANIFEST)
}

/// Whether every file in `folder` is as it was unpacked.
fn check(folder: &Path) -> Result<Manifest> {
    let manifest = manifest(folder)?;
    let sums = fs::read(folder.join(SUMS)).context(SUMS)?;
    ensure!(
        hex(&Sha256::digest(&sums)) == manifest.sums,
        "{SUMS} is not as it was written"
    );
    output(
        Command::new("sha256sum")
            .args(["--check", "--quiet", "--strict", SUMS])
            .current_dir(folder),
    )?;
    Ok(manifest)
}

/// What `command` prints; when it fails, the error has the first line of what it says.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("`{}` cannot be started", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let said = text
            .lines()
            .chain(complaint.lines())
            .next()
            .unwrap_or("nothing");
        bail!("{} says: {said}", command.get_program().display());
    }
    Ok(text)
}
