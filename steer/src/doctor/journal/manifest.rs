//! The record of a fix: what was there, and what was put in its place.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Act, JournalError, set_sysctl,
    write::{Owner, put, sync_folder, write_new},
};

pub(super) const NAME: &str = "manifest.json";

/// All that a fix changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) files: Vec<FileEntry>,
    pub(super) sysctls: Vec<SysctlEntry>,
    /// For each act in turn where it acts, links followed.
    places: Vec<PathBuf>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) path: PathBuf,
    /// None where there was no file.
    pub(super) before: Option<Before>,
    /// The SHA-256 of what is put there.
    pub(super) after: String,
    /// Folders that are made for it, the outermost first.
    pub(super) made: Vec<PathBuf>,
}

/// What was in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The name of the copy beside the record.
    pub(super) copy: String,
}

/// A sysctl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SysctlEntry {
    pub(super) path: PathBuf,
    pub(super) before: String,
    /// None where the kernel changes it along with another.
    pub(super) after: Option<String>,
}

impl Manifest {
    /// What acts are about to change, with copies of the files in a folder.
    pub(super) fn of(acts: &[Act], folder: &Path) -> Result<Self, JournalError> {
        let mut manifest = Self::default();
        for act in acts {
            match act {
                Act::Write { path, content } => {
                    let copy = manifest.files.len().to_string();
                    let entry = FileEntry::of(path, content, folder, copy)?;
                    manifest.places.push(entry.path.clone());
                    manifest.files.push(entry);
                }
                Act::Sysctl { path, value, along } => {
                    manifest.places.push(path.clone());
                    manifest.sysctls.push(SysctlEntry {
                        path: path.clone(),
                        before: read_sysctl(path)?,
                        after: Some(value.clone()),
                    });
                    for path in along {
                        // An interface may go at any time.
                        if let Ok(before) = read_sysctl(path) {
                            manifest.sysctls.push(SysctlEntry {
                                path: path.clone(),
                                before,
                                after: None,
                            });
                        }
                    }
                }
            }
        }
        Ok(manifest)
    }

    pub(super) fn places(&self) -> Vec<PathBuf> {
        self.places.clone()
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), JournalError> {
        let path = folder.join(NAME);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| JournalError::io("write", &path, error.into()))?;
        // Where there is no record, nothing was changed yet.
        let owner = Owner {
            mode: 0o600,
            ..Owner::ROOT
        };
        put(&path, &text, owner)?;
        sync_folder(folder).map_err(|source| JournalError::io("write", folder, source))
    }

    pub(super) fn read(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(NAME);
        let refuse = |why: String| JournalError::Manifest {
            path: path.clone(),
            why,
        };
        let text = fs::read(&path).map_err(|error| refuse(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))
    }

    /// The first thing that is neither as it was before nor as it was left.
    pub(super) fn changed_since(&self, folder: &Path) -> Result<Option<PathBuf>, JournalError> {
        for entry in &self.files {
            let now = content(&entry.path)?;
            let as_left = now.as_deref().map(sum).as_ref() == Some(&entry.after);
            if !as_left && now != entry.content_before(folder)? {
                return Ok(Some(entry.path.clone()));
            }
        }
        for entry in &self.sysctls {
            let (now, after) = (read_sysctl(&entry.path).ok(), entry.after.as_ref());
            if after.is_some() && now.as_ref() != after && now.as_ref() != Some(&entry.before) {
                return Ok(Some(entry.path.clone()));
            }
        }
        Ok(None)
    }
}

impl FileEntry {
    fn of(path: &Path, after: &[u8], folder: &Path, copy: String) -> Result<Self, JournalError> {
        let after = sum(after);
        // Where the file is a link, what it leads to is changed.
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(_) if fs::symlink_metadata(path).is_ok() => {
                return Err(JournalError::NoFile {
                    path: path.to_owned(),
                });
            }
            Err(_) => path.to_owned(),
        };
        let Some(content) = content(&path)? else {
            let missing = path.ancestors().skip(1).take_while(|above| !above.exists());
            let mut made: Vec<_> = missing.map(Path::to_owned).collect();
            made.reverse();
            return Ok(Self {
                path,
                before: None,
                after,
                made,
            });
        };
        let owner = Owner::of(&path).unwrap_or(Owner::ROOT);
        write_new(&folder.join(&copy), &content)?;
        Ok(Self {
            path,
            before: Some(Before {
                mode: owner.mode,
                uid: owner.uid,
                gid: owner.gid,
                copy,
            }),
            after,
            made: Vec::new(),
        })
    }

    fn content_before(&self, folder: &Path) -> Result<Option<Vec<u8>>, JournalError> {
        let Some(before) = &self.before else {
            return Ok(None);
        };
        let copy = folder.join(&before.copy);
        let content = fs::read(&copy).map_err(|source| JournalError::io("read", &copy, source))?;
        Ok(Some(content))
    }

    pub(super) fn restore(&self, folder: &Path) -> Result<(), JournalError> {
        let before = self.content_before(folder)?;
        match (&self.before, before) {
            (Some(Before { mode, uid, gid, .. }), Some(content)) => {
                let owner = Owner {
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                };
                put(&self.path, &content, owner)
            }
            _ => {
                match fs::remove_file(&self.path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(JournalError::io("remove", &self.path, error));
                    }
                    _ => {}
                }
                for folder in self.made.iter().rev() {
                    // One that somebody put something in stays.
                    let _ = fs::remove_dir(folder);
                }
                Ok(())
            }
        }
    }
}

impl SysctlEntry {
    /// Whether it was changed.
    pub(super) fn restore(&self) -> Result<bool, JournalError> {
        match read_sysctl(&self.path) {
            Ok(now) if now != self.before => {
                set_sysctl(&self.path, &self.before)?;
                Ok(true)
            }
            // As it was, or of an interface that has gone.
            _ => Ok(false),
        }
    }
}

/// The SHA-256 of some octets.
pub(super) fn sum(octets: &[u8]) -> String {
    let mut text = String::new();
    for octet in Sha256::digest(octets) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// What is in a file; none where there is none.
fn content(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Err(JournalError::NoFile {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => {
            let read = fs::read(path).map_err(|source| JournalError::io("read", path, source))?;
            Ok(Some(read))
        }
    }
}

fn read_sysctl(path: &Path) -> Result<String, JournalError> {
    let text = fs::read_to_string(path).map_err(|source| JournalError::io("read", path, source))?;
    Ok(text.trim_end().to_owned())
}
