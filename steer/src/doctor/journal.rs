//! Changes of files and sysctls that can be taken back: what was there is written down before anything is changed.

mod manifest;
mod write;

pub use write::{Owner, put};

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use self::manifest::Manifest;
use super::daemon_json::EditError;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A file gets this content, and is made where there is none.
    Write {
        /// The file.
        path: PathBuf,
        /// All of it.
        content: Vec<u8>,
    },
    /// A sysctl gets a value until the next boot.
    Sysctl {
        /// Its file below /proc/sys.
        path: PathBuf,
        /// The value.
        value: String,
        /// Others that the kernel changes along with it.
        along: Vec<PathBuf>,
    },
}

impl Act {
    pub(super) fn write(path: &Path, content: Vec<u8>) -> Self {
        Self::Write {
            path: path.to_owned(),
            content,
        }
    }
}

/// Why nothing was changed, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file could not be used.
    #[error("cannot {what} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not changed.
    #[error("{} is left as it is: {source}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// What is there is no file.
    #[error("{} is left as it is: it is no regular file, but a folder, a device or a link to nothing", path.display())]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// There is nothing to undo.
    #[error("there is nothing to undo: no fix is written down in {}", dir.display())]
    Nothing {
        /// Where it would be.
        dir: PathBuf,
    },
    /// Somebody changed it since.
    #[error(
        "{} was changed after the fix, so nothing is undone: what it was then is kept in {}; put it back by hand, or use --undo --force to lose the later change",
        path.display(),
        kept.display()
    )]
    Changed {
        /// What was changed.
        path: PathBuf,
        /// Where the journal is.
        kept: PathBuf,
    },
    /// Another one is at work.
    #[error("another steer doctor is changing this host: wait until it is done")]
    Locked,
    /// The record cannot be read.
    #[error("cannot read {}, the record of a fix: {why}; put the files that are kept beside it back by hand", path.display())]
    Manifest {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A change failed, and so did taking back those before it.
    #[error("{failed}; and what was done before that could not be undone: {undone}; what was there is kept in {}", kept.display())]
    HalfDone {
        /// The first failure.
        failed: Box<Self>,
        /// The second.
        undone: Box<Self>,
        /// Where the journal is.
        kept: PathBuf,
    },
}

impl JournalError {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root, for example with sudo",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; it is mounted read-only here, so run it on the host itself"
        }
        _ => "",
    }
}

/// What was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// Files and sysctls that are as they were.
    pub restored: Vec<PathBuf>,
    /// How many earlier fixes could still be undone.
    pub left: usize,
}

/// A folder of journals, which nobody else uses meanwhile.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Journal {
    /// Opens the folder, and makes it where there is none.
    ///
    /// # Errors
    /// It cannot be made, or is in use.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir);
        made.map_err(|source| JournalError::io("make", dir, source))?;
        Self::locked(dir)
    }

    /// Opens it if it is there.
    ///
    /// # Errors
    /// It is in use, or there is none.
    pub fn existing(dir: &Path) -> Result<Self, JournalError> {
        if !dir.is_dir() {
            return Err(JournalError::Nothing {
                dir: dir.to_owned(),
            });
        }
        Self::locked(dir)
    }

    fn locked(dir: &Path) -> Result<Self, JournalError> {
        let open = File::open(dir).map_err(|source| JournalError::io("open", dir, source))?;
        let lock = Flock::lock(open, FlockArg::LockExclusiveNonblock);
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock.map_err(|_| JournalError::Locked)?,
        })
    }

    /// Does all of it, or, where something fails, nothing; returns where what was there is kept.
    ///
    /// # Errors
    /// What failed.
    pub fn apply(&self, acts: &[Act]) -> Result<PathBuf, JournalError> {
        let number = self.numbers()?.last().map_or(1, |last| last + 1);
        let folder = self.folder(number);
        let manifest = self.write_down(&folder, acts)?;
        let mut failed = None;
        for (act, path) in acts.iter().zip(manifest.places()) {
            if let Err(error) = act.perform(&path) {
                failed = Some(error);
                break;
            }
        }
        let Some(failed) = failed else {
            return Ok(folder);
        };
        match self.restore(&folder, &manifest) {
            Ok(_) => {
                self.forget(&folder)?;
                Err(failed)
            }
            Err(undone) => Err(JournalError::HalfDone {
                failed: Box::new(failed),
                undone: Box::new(undone),
                kept: folder,
            }),
        }
    }

    /// Takes the last fix back.
    ///
    /// # Errors
    /// There is none, or, unless `force` says so, somebody has changed what it changed; then nothing is taken back.
    pub fn undo(&self, force: bool) -> Result<Undone, JournalError> {
        let numbers = self.numbers()?;
        let Some(last) = numbers.last() else {
            return Err(JournalError::Nothing {
                dir: self.dir.clone(),
            });
        };
        let folder = self.folder(*last);
        let manifest = Manifest::read(&folder)?;
        if !force && let Some(path) = manifest.changed_since(&folder)? {
            return Err(JournalError::Changed { path, kept: folder });
        }
        let restored = self.restore(&folder, &manifest)?;
        self.forget(&folder)?;
        let left = numbers.len() - 1;
        if left == 0 {
            // Whoever has put something else there keeps it.
            let _ = fs::remove_dir(&self.dir);
        }
        Ok(Undone { restored, left })
    }

    fn folder(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:04}"))
    }

    fn numbers(&self) -> Result<Vec<u32>, JournalError> {
        let entries = fs::read_dir(&self.dir);
        let entries = entries.map_err(|source| JournalError::io("read", &self.dir, source))?;
        let mut numbers: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        // One that was killed before its record was whole has changed nothing.
        let (whole, begun): (Vec<_>, Vec<_>) = numbers
            .into_iter()
            .partition(|number| self.folder(*number).join(manifest::NAME).exists());
        for number in begun {
            self.forget(&self.folder(number))?;
        }
        Ok(whole)
    }

    /// Keeps what is there in a folder, on the disk.
    fn write_down(&self, folder: &Path, acts: &[Act]) -> Result<Manifest, JournalError> {
        let made = fs::DirBuilder::new().mode(0o700).create(folder);
        made.map_err(|source| JournalError::io("make", folder, source))?;
        let written = Manifest::of(acts, folder).and_then(|manifest| {
            manifest.write(folder)?;
            Ok(manifest)
        });
        if written.is_err() {
            self.forget(folder)?;
        }
        written
    }

    fn restore(&self, folder: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>, JournalError> {
        let mut restored = Vec::new();
        for entry in manifest.files.iter().rev() {
            entry.restore(folder)?;
            restored.push(entry.path.clone());
        }
        for entry in &manifest.sysctls {
            if entry.restore()? && entry.after.is_some() {
                restored.push(entry.path.clone());
            }
        }
        Ok(restored)
    }

    fn forget(&self, folder: &Path) -> Result<(), JournalError> {
        fs::remove_dir_all(folder).map_err(|source| JournalError::io("remove", folder, source))
    }
}

impl Act {
    fn perform(&self, place: &Path) -> Result<(), JournalError> {
        match self {
            Self::Write { content, .. } => {
                let owner = Owner::of(place).unwrap_or(Owner::ROOT);
                if let Some(folder) = place.parent() {
                    let made = fs::create_dir_all(folder);
                    made.map_err(|source| JournalError::io("make", folder, source))?;
                }
                put(place, content, owner)
            }
            Self::Sysctl { path, value, .. } => set_sysctl(path, value),
        }
    }
}

fn set_sysctl(path: &Path, value: &str) -> Result<(), JournalError> {
    fs::write(path, value).map_err(|source| JournalError::io("write to", path, source))
}

#[cfg(test)]
mod tests;
