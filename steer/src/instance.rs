//! One run at a time: the folder with the lock and with the record of what to put back, and a name in the network namespace.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, bind, connect,
        getsockopt, listen, socket, sockopt::PeerCredentials,
    },
};

/// Why a run may not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another run has the lock.
    #[error(
        "steer is running already ({who}, which holds {}); stop it first",
        lock.display()
    )]
    Running {
        /// The other's process, as far as it said.
        who: String,
        /// The lock.
        lock: PathBuf,
    },
    /// Another run, with a folder of its own, has this network namespace.
    #[error(
        "steer is running already in this network namespace, with another --run-dir ({who}); stop it first"
    )]
    RunningHere {
        /// The other's process, as far as the kernel tells.
        who: String,
    },
    /// The name cannot be taken.
    #[error("the socket @steer, by which other runs are told of this one, cannot be made")]
    Name(#[source] io::Error),
    /// The folder or the lock cannot be used.
    #[error("{} cannot be {what}; is {} writable for root?", path.display(), path.parent().unwrap_or(path).display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was to be done with it.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The lock, held. Dropped, it takes the folder away again if that was made for it and is empty.
#[derive(Debug)]
pub struct Instance {
    folder: PathBuf,
    /// Whether this run made the folder: what was there before stays.
    made: bool,
    _lock: Flock<File>,
}

const LOCK: &str = "lock";
/// Of the abstract socket.
const NAME: &[u8] = b"steer";

/// The name that a run has in its network namespace, of whose routing there is one for all runs: an abstract socket, which
/// goes with its process.
#[derive(Debug)]
pub struct Name {
    _socket: Option<OwnedFd>,
}

impl Name {
    /// Takes it, or does without where somebody has it who is not known to be root, as a run is: nobody else is to keep steer
    /// from running.
    ///
    /// # Errors
    /// When another run has it.
    pub fn take() -> Result<Self, Error> {
        let failed = |error: nix::Error| Error::Name(error.into());
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)
        };
        let address = UnixAddr::new_abstract(NAME).map_err(failed)?;
        let ours = open()?;
        match bind(ours.as_raw_fd(), &address) {
            Ok(()) => {
                // Nobody is let in: whoever asks who has the name, stays in the queue.
                listen(&ours, Backlog::MAXCONN).map_err(failed)?;
                return Ok(Self {
                    _socket: Some(ours),
                });
            }
            Err(nix::Error::EADDRINUSE) => {}
            Err(error) => return Err(failed(error)),
        }
        let peer = Self::peer();
        match peer {
            Some(peer) if peer.uid() == 0 => Err(Error::RunningHere { who: who(&peer) }),
            other => {
                let who =
                    other.map(|peer| format!("process {} of user {}", peer.pid(), peer.uid()));
                tracing::warn!(
                    "{} has the socket @steer, and is no steer: a second steer with another --run-dir would not be noticed",
                    who.as_deref().unwrap_or("somebody")
                );
                Ok(Self { _socket: None })
            }
        }
    }
}

impl Name {
    /// Who has it, if a run does.
    pub fn holder() -> Option<String> {
        let peer = Self::peer().filter(|peer| peer.uid() == 0)?;
        Some(who(&peer))
    }

    fn peer() -> Option<UnixCredentials> {
        let address = UnixAddr::new_abstract(NAME).ok()?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let asking = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
        connect(asking.as_raw_fd(), &address).ok()?;
        getsockopt(&asking, PeerCredentials).ok()
    }
}

fn who(peer: &UnixCredentials) -> String {
    match peer.pid() {
        0 => "of another PID namespace".to_owned(),
        pid => format!("process {pid}"),
    }
}

impl Instance {
    /// Takes the lock in `folder`, which is made, for root alone, if it is not there.
    ///
    /// # Errors
    /// When another run has it, or the folder cannot be used.
    pub fn take(folder: &Path) -> Result<Self, Error> {
        let made = make(folder)?;
        let path = folder.join(LOCK);
        // A run that ends removes the lock's file; whoever waited on that very file then holds nothing, and tries again.
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(|source| failed(&path, "opened", source))?;
            let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut file, nix::Error::EWOULDBLOCK)) => {
                    return Err(Error::Running {
                        who: owner(&mut file),
                        lock: path,
                    });
                }
                Err((_, error)) => return Err(failed(&path, "locked", error.into())),
            };
            if !is_at(&lock, &path) {
                continue;
            }
            write_owner(&mut lock).map_err(|source| failed(&path, "written", source))?;
            return Ok(Self {
                folder: folder.to_owned(),
                made,
                _lock: lock,
            });
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Nothing to be done where it fails: the next run takes the lock and the folder as they are.
        let _ = fs::remove_file(self.folder.join(LOCK));
        if self.made {
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Makes the folder unless it is there; a killed run's folder has its lock, and counts as made by a run.
fn make(folder: &Path) -> Result<bool, Error> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(folder.join(LOCK).exists())
        }
        Err(source) => Err(failed(folder, "made", source)),
    }
}

fn is_at(lock: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (lock.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        _ => false,
    }
}

fn write_owner(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn owner(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "an unnamed process".to_owned(),
    }
}

fn failed(path: &Path, what: &'static str, source: io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_left() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("steer");
        let first = Instance::take(&folder).unwrap();
        let refused = Instance::take(&folder).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!(
                "steer is running already (process {}",
                std::process::id()
            )),
            "{refused}"
        );
        drop(first);
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_that_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        drop(Instance::take(folder.path()).unwrap());
        assert!(folder.path().exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_killed_runs_folder_is_taken_over_and_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("steer");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(LOCK), "1\n").unwrap();
        drop(Instance::take(&folder).unwrap());
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let told = Instance::take(Path::new("/proc/steer"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            told,
            "/proc/steer cannot be made; is /proc writable for root?"
        );
    }
}
