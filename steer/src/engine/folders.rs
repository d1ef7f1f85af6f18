//! Folders that the kernel watches for what happens in them (inotify(7)).

use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

use super::{Error, watched};

/// Folders that are watched.
#[derive(Debug)]
pub(super) struct Folders {
    /// Nothing where the kernel gives none.
    inotify: Option<AsyncFd<Watcher>>,
    watched: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct Watcher(Inotify);

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Folders {
    /// Watches nothing yet, and never will where the kernel refuses.
    pub(super) fn new() -> (Self, Option<Error>) {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags)
            .map_err(|error| Error::Events(error.into()))
            .and_then(|inotify| watched(Watcher(inotify)));
        let (inotify, error) = match inotify {
            Ok(inotify) => (Some(inotify), None),
            Err(error) => (None, Some(error)),
        };
        let folders = Self {
            inotify,
            watched: BTreeSet::new(),
        };
        (folders, error)
    }

    /// Watches these, each for what `flags` say. Returns those that cannot be watched now and were not before.
    pub(super) fn watch(
        &mut self,
        folders: BTreeSet<PathBuf>,
        flags: AddWatchFlags,
    ) -> Vec<(PathBuf, Errno)> {
        let mut refused = Vec::new();
        if let Some(inotify) = &self.inotify {
            // All of them: one that went and came back is watched no more.
            for folder in &folders {
                if let Err(error) = inotify.get_ref().0.add_watch(folder, flags)
                    && !self.watched.contains(folder)
                {
                    refused.push((folder.clone(), error));
                }
            }
        }
        self.watched = folders;
        refused
    }

    /// Waits until something happens in one, and returns the names of what it happened to: all of them or, where more
    /// happened than the kernel remembers, none. May be dropped and called again without loss.
    pub(super) async fn stirred(&mut self) -> BTreeSet<OsString> {
        if let Some(inotify) = &mut self.inotify
            && let Ok(mut ready) = inotify.readable().await
        {
            let (mut names, mut lost) = (BTreeSet::new(), false);
            while let Ok(events) = ready.get_inner().0.read_events() {
                for event in events {
                    lost |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                    names.extend(event.name);
                }
            }
            ready.clear_ready();
            return if lost { BTreeSet::new() } else { names };
        }
        std::future::pending().await
    }
}
