//! Whether a file is still the same.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

/// What tells one state of a file from another, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    /// The file's, or that of what it links to.
    pub fn of(file: &Path) -> Self {
        Self(fs::metadata(file).ok().map(|file| {
            (
                file.dev(),
                file.ino(),
                file.size(),
                file.mtime(),
                file.mtime_nsec(),
            )
        }))
    }

    /// For how long nothing has been written to it, if there is such a file, and not from the future.
    pub fn rested(&self) -> Option<Duration> {
        let (.., seconds, nanoseconds) = self.0?;
        let written = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.ok()?.checked_sub(written)
    }
}
