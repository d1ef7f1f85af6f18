//! Where programs, maps and links live while the daemon may die: a folder of ours in the bpf file system.
//!
//! Names there have no dots, which the kernel keeps for itself; so interfaces go by index and cgroups by id.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::programs::links::PinnedLink;
use nix::fcntl::{Flock, FlockArg};

use super::error::Error;

/// A folder in the bpf file system, and what it is divided into.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// The folder, made or not.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder, for root alone, and holds it: while the result lives, no other run removes what is in it.
    ///
    /// # Errors
    /// When it is there already, or its parent takes no folders.
    pub fn create(&self) -> Result<Hold, Error> {
        for folder in [&self.folder, &self.programs(), &self.links()] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(folder)
                .map_err(|source| file(folder, "made", source))?;
        }
        self.hold()
    }

    fn hold(&self) -> Result<Hold, Error> {
        let folder =
            File::open(&self.folder).map_err(|source| file(&self.folder, "opened", source))?;
        Flock::lock(folder, FlockArg::LockExclusiveNonblock)
            .map(Hold)
            .map_err(|(_, error)| match error {
                nix::Error::EWOULDBLOCK => Error::InUse {
                    folder: self.folder.clone(),
                },
                error => file(&self.folder, "locked", error.into()),
            })
    }

    /// The file of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The file of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The file of a bridge's link.
    pub fn bridge(&self, index: u32, program: &str) -> PathBuf {
        self.links().join(format!("bridge-{index}-{program}"))
    }

    /// The file of a cgroup's link.
    pub fn cgroup(&self, id: u64, program: &str) -> PathBuf {
        self.links().join(format!("cgroup-{id}-{program}"))
    }

    /// Removes all that no living run holds, and detaches what it held. Says whether there was anything; what is gone
    /// already is no error.
    ///
    /// # Errors
    /// When a run holds it, or something stays.
    pub fn remove(&self) -> Result<bool, Error> {
        if !self.folder.exists() {
            return Ok(false);
        }
        let _hold = self.hold()?;
        for path in entries(&self.links())? {
            // Held open while its file goes, so that closing it detaches at once; by its file alone the kernel would
            // detach some time later.
            let link = PinnedLink::from_pin(&path).ok();
            unlink(&path)?;
            drop(link);
        }
        for folder in [self.programs(), self.folder.clone()] {
            for path in entries(&folder)? {
                if path.is_file() {
                    unlink(&path)?;
                }
            }
        }
        for folder in [self.links(), self.programs(), self.folder.clone()] {
            gone(fs::remove_dir(&folder)).map_err(|source| file(&folder, "removed", source))?;
        }
        Ok(true)
    }

    fn programs(&self) -> PathBuf {
        self.folder.join("programs")
    }

    fn links(&self) -> PathBuf {
        self.folder.join("links")
    }
}

/// The folder, held by a living run.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "held, for closing it lets go")] Flock<File>);

/// The id of a cgroup: the inode of its folder.
///
/// # Errors
/// When it is not there.
pub fn cgroup_id(cgroup: &Path) -> Result<u64, Error> {
    fs::metadata(cgroup)
        .map(|metadata| metadata.ino())
        .map_err(|source| file(cgroup, "read", source))
}

/// Removes a file of ours; gone already is as good.
///
/// # Errors
/// When it stays.
pub fn unlink(path: &Path) -> Result<(), Error> {
    gone(fs::remove_file(path)).map_err(|source| file(path, "removed", source))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(file(folder, "read", source)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|source| file(folder, "read", source))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn file(path: &Path, what: &'static str, source: io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        what,
        source,
    }
}
