//! Files written as a whole: whoever reads one sees the old or the new.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use super::JournalError;

/// Whose a file is, and who may what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// Of a file that was not there.
    pub(super) const ROOT: Self = Self {
        mode: 0o644,
        uid: 0,
        gid: 0,
    };

    /// Of a file that this process makes.
    pub fn own() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            ..Self::ROOT
        }
    }

    /// Of a file that is there.
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }
}

/// Puts content in a file's place, with its owner, on the disk.
///
/// # Errors
/// When it cannot be written. What was there is as it was.
pub fn put(path: &Path, content: &[u8], owner: Owner) -> Result<(), JournalError> {
    let beside = beside(path);
    let put = || -> io::Result<()> {
        let mut file = create(&beside)?;
        file.write_all(content)?;
        if Owner::of(&beside) != Some(owner) {
            fchown(&file, Some(owner.uid), Some(owner.gid))?;
            file.set_permissions(Permissions::from_mode(owner.mode))?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(path)
    };
    put().map_err(|source| {
        let _ = fs::remove_file(&beside);
        JournalError::io("write", path, source)
    })
}

/// Writes a file of the journal, which root alone may read.
pub(super) fn write_new(path: &Path, content: &[u8]) -> Result<(), JournalError> {
    let write = || -> io::Result<()> {
        let mut file = create(path)?;
        file.write_all(content)?;
        file.sync_all()?;
        sync_folder(path)
    };
    write().map_err(|source| JournalError::io("write", path, source))
}

/// Has the names in a file's folder be on the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn beside(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.steer-{}", std::process::id()))
}
