//! Where programs, maps and links live while the daemon may die: a folder of ours in the bpf file system.
//!
//! Names there have no dots, which the kernel keeps for itself; so interfaces go by index and cgroups by id.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::programs::links::PinnedLink;

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

    /// Whether something is there.
    pub fn exist(&self) -> bool {
        self.folder.exists()
    }

    /// Makes the folder, for root alone.
    ///
    /// # Errors
    /// When it is there already, or its parent takes no folders.
    pub fn create(&self) -> Result<(), Error> {
        for folder in [&self.folder, &self.programs(), &self.links()] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(folder)
                .map_err(|source| file(folder, "made", source))?;
        }
        Ok(())
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

    /// Removes all, and detaches what it held. What is gone already is no error.
    ///
    /// # Errors
    /// When something stays.
    pub fn remove(&self) -> Result<(), Error> {
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
        Ok(())
    }

    fn programs(&self) -> PathBuf {
        self.folder.join("programs")
    }

    fn links(&self) -> PathBuf {
        self.folder.join("links")
    }
}

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
