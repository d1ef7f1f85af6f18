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
    path::{Path, PathBuf},
    process::{self, Command},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Kernel,
    series::{Candidate, Package},
    unpack::{fill, image_path, output},
    version::Version,
};
use crate::step;

const SUMS: &str = "SHA256SUMS";
const MANIFEST: &str = "kernel.json";
/// How the names of unfinished things begin; they go at the next run.
const WORK: &str = ".work-";
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
        let cache = Self { root, _lock: lock };
        for entry in fs::read_dir(&cache.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(WORK) {
                let _ = remove(&entry.path());
            }
        }
        Ok(cache)
    }

    /// A path for work under way, of this process alone: what a killed run has left running may still write to its own.
    pub fn work(&self, name: &str) -> PathBuf {
        self.path(&format!("{WORK}{}-{name}", process::id()))
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
        let work = self.work("new");
        remove(&work)?;
        let made = fill(&work, candidate, packages)
            .and_then(|()| seal(&work, candidate))
            .and_then(|manifest| self.place(&work, &candidate.release).map(|_| manifest));
        if made.is_err() {
            let _ = remove(&work);
        }
        made
    }

    /// Renames the folder `work` to `name`, in the place of what was there.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn place(&self, work: &Path, name: &str) -> Result<PathBuf> {
        let place = self.path(name);
        let old = self.work("old");
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

/// SHA-256 in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the sums and the manifest of an arranged kernel.
fn seal(work: &Path, candidate: &Candidate) -> Result<Manifest> {
    let sums = sums(work, &candidate.release)?;
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
    Ok(manifest)
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

#[cfg(test)]
mod tests {
    use super::{
        super::{image::tests::bzimage, scratch::Scratch},
        *,
    };

    const RELEASE: &str = "6.1.0-56-cloud-amd64";

    fn candidate(version: &str) -> Candidate {
        Candidate {
            release: RELEASE.to_owned(),
            version: Version::from(version),
            packages: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// A cache with one small kernel, as if unpacked.
    fn filled(scratch: &Scratch) -> Cache {
        let cache = Cache::at(scratch.path().join("cache")).unwrap();
        let work = cache.work("new");
        fs::create_dir_all(work.join("boot")).unwrap();
        fs::write(work.join(image_path(RELEASE)), bzimage(RELEASE)).unwrap();
        let modules = work.join("lib/modules").join(RELEASE);
        fs::create_dir_all(modules.join("kernel")).unwrap();
        fs::write(modules.join("modules.dep"), "kernel/tun.ko:\n").unwrap();
        fs::write(modules.join("kernel/tun.ko"), "a module").unwrap();
        seal(&work, &candidate("6.1.192-2")).unwrap();
        cache.place(&work, RELEASE).unwrap();
        cache
    }

    #[test]
    fn a_kernel_is_kept_with_what_it_was_made_of() {
        let scratch = Scratch::new();
        let cache = filled(&scratch);
        let State::Intact(manifest) = cache.state(RELEASE) else {
            panic!("{:?}", cache.state(RELEASE))
        };
        let kernel = cache.kernel(&manifest);
        assert_eq!((&*kernel.release, &*kernel.version), (RELEASE, "6.1.192"));
        let root = kernel.image.parent().and_then(Path::parent).unwrap();
        assert!(
            root.join("lib/modules")
                .join(RELEASE)
                .join("modules.dep")
                .is_file()
        );
        assert!(matches!(cache.state("6.1.0-57-cloud-amd64"), State::Absent));
        assert_eq!(cache.manifests().len(), 1);
    }

    #[test]
    fn any_damage_is_seen() {
        type Damage = fn(&Path);
        let damages: [(Damage, &str); 6] = [
            (
                |root| fs::write(root.join(image_path(RELEASE)), "other").unwrap(),
                "FAILED",
            ),
            (
                |root| {
                    fs::write(
                        root.join("lib/modules").join(RELEASE).join("modules.dep"),
                        "",
                    )
                    .unwrap()
                },
                "modules.dep: FAILED",
            ),
            (
                |root| {
                    fs::remove_file(root.join("lib/modules").join(RELEASE).join("kernel/tun.ko"))
                        .unwrap()
                },
                "tun.ko",
            ),
            (|root| fs::write(root.join(SUMS), "").unwrap(), SUMS),
            (
                |root| fs::write(root.join(MANIFEST), "{").unwrap(),
                MANIFEST,
            ),
            (
                |root| fs::remove_file(root.join(MANIFEST)).unwrap(),
                MANIFEST,
            ),
        ];
        for (damage, told) in damages {
            let scratch = Scratch::new();
            let cache = filled(&scratch);
            damage(&cache.path(RELEASE));
            match cache.state(RELEASE) {
                State::Damaged(why) => assert!(why.contains(told), "{why}"),
                other => panic!("{told}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_second_run_waits_for_the_first() {
        let scratch = Scratch::new();
        let root = scratch.path().clone();
        let first = Cache::at(root.clone()).unwrap();
        let (opened, heard) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            let cache = Cache::at(root);
            opened.send(()).unwrap();
            cache.map(drop)
        });
        let moment = Duration::from_millis(200);
        assert!(heard.recv_timeout(moment).is_err(), "both are in");
        drop(first);
        heard.recv_timeout(Duration::from_secs(20)).unwrap();
        second.join().unwrap().unwrap();
    }

    #[test]
    fn what_no_run_has_used_for_long_goes() {
        let scratch = Scratch::new();
        let cache = filled(&scratch);
        cache.prune();
        assert_eq!(cache.manifests().len(), 1);
        let manifest = File::options()
            .append(true)
            .open(cache.path(RELEASE).join(MANIFEST))
            .unwrap();
        manifest.set_modified(SystemTime::now() - 2 * KEPT).unwrap();
        cache.prune();
        assert!(!cache.path(RELEASE).exists());
    }
}
