//! The files that a run was told by, watched for changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, mem,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::inotify::AddWatchFlags;
use tokio::time::{Instant, sleep_until};

use super::folders::Folders;
use crate::{error::sentence, stamp::Stamp};

/// Who writes a file may take several steps: a change counts once nothing has happened for that long.
const QUIET: Duration = Duration::from_millis(250);
/// And after this in any case.
const PATIENCE: Duration = Duration::from_secs(3);

/// Files and what they were like when they were looked at last.
///
/// Folders are watched rather than files: many editors put a new file in the old one's place.
#[derive(Debug)]
pub(super) struct Files {
    /// Where the kernel watches none, only looks tell.
    folders: Folders,
    stamps: BTreeMap<PathBuf, Stamp>,
    stirred: Option<Stirred>,
    /// Whether they count as changed though they may be the same.
    asked: bool,
}

/// Something happened in a folder.
#[derive(Clone, Copy, Debug)]
struct Stirred {
    since: Instant,
    last: Instant,
}

impl Stirred {
    fn settles(&self) -> Instant {
        (self.last + QUIET).min(self.since + PATIENCE)
    }
}

impl Files {
    /// Watches nothing yet. Says what the user should know.
    pub fn new() -> (Self, Option<String>) {
        let (folders, error) = Folders::new();
        let note = error.map(|error| {
            format!(
                "files are not watched ({}): a change of one is seen half a minute later",
                sentence(&error)
            )
        });
        let files = Self {
            folders,
            stamps: BTreeMap::new(),
            stirred: None,
            asked: false,
        };
        (files, note)
    }

    /// Watches these files from now on: those that were watched before for changes since the last look, others for
    /// changes from now on. Says what the user should know.
    pub fn watch(&mut self, files: &[PathBuf]) -> Option<String> {
        let mut known = mem::take(&mut self.stamps);
        self.stamps = files
            .iter()
            .map(|file| {
                let stamp = known.remove(file).unwrap_or_else(|| Stamp::of(file));
                (file.clone(), stamp)
            })
            .collect();
        let folders: BTreeSet<_> = files.iter().flat_map(|file| folders(file)).collect();
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM;
        let refused = self.folders.watch(folders, flags).pop();
        refused.map(|(folder, error)| {
            format!(
                "{} is not watched ({error}): a change of a file there is seen half a minute later",
                folder.display()
            )
        })
    }

    /// Looks whether a file is another than before.
    pub fn have_changed(&mut self) -> bool {
        let mut changed = false;
        for (file, stamp) in &mut self.stamps {
            let now = Stamp::of(file);
            changed |= now != *stamp;
            *stamp = now;
        }
        changed
    }

    /// Whether a file is another than at the last look.
    pub fn differ(&self) -> bool {
        let mut stamps = self.stamps.iter();
        stamps.any(|(file, stamp)| Stamp::of(file) != *stamp)
    }

    /// Has them count as changed as soon as nobody writes to one.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Waits until a file is another than before, and nobody writes to one. May be dropped and called again without loss.
    pub async fn changed(&mut self) {
        loop {
            let settles = match self.stirred {
                Some(stirred) => Some(stirred.settles()),
                None => self.asked.then(Instant::now),
            };
            tokio::select! {
                _ = self.folders.stirred() => {
                    let now = Instant::now();
                    self.stirred.get_or_insert(Stirred { since: now, last: now }).last = now;
                }
                () = sleep_until(settles.unwrap_or_else(Instant::now)), if settles.is_some() => {
                    self.stirred = self.still_written();
                    if self.stirred.is_none() && (self.have_changed() | mem::take(&mut self.asked)) {
                        return;
                    }
                }
            }
        }
    }

    /// Until when there is to be waited for one that was written to just now: half of it is not to be read.
    fn still_written(&self) -> Option<Stirred> {
        let rested = |file: &PathBuf| Stamp::of(file).rested();
        let rested = self.stamps.keys().filter_map(rested).min()?;
        let now = Instant::now();
        (rested < QUIET).then(|| Stirred {
            since: now,
            last: now - rested,
        })
    }
}

/// The folder that a file stands in, and the one where what it links to stands.
fn folders(file: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = |file: &Path| match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let real = fs::canonicalize(file).ok().and_then(|file| folder(&file));
    folder(file).into_iter().chain(real)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::fs::symlink,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use tokio::{runtime, time::timeout};

    use super::*;

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(test)
    }

    /// Watches a file.
    fn watching(file: &Path) -> Files {
        let (mut files, note) = Files::new();
        assert_eq!(note, None);
        assert_eq!(files.watch(&[file.to_owned()]), None);
        files
    }

    /// Whether a watched file counts as changed by what `change` does.
    fn sees(file: &Path, change: impl FnOnce()) -> bool {
        block_on(async {
            let mut files = watching(file);
            change();
            timeout(4 * QUIET, files.changed()).await.is_ok()
        })
    }

    #[test]
    fn whatever_way_a_file_is_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).expect("a file");
        write("file", "1");
        assert!(sees(&path("file"), || write("file", "22")));
        assert!(sees(&path("file"), || {
            write("new", "333");
            fs::rename(path("new"), path("file")).expect("renamed");
        }));
        assert!(sees(&path("file"), || {
            fs::remove_file(path("file")).expect("removed");
        }));
        assert!(sees(&path("file"), || write("file", "1")));
        assert!(!sees(&path("file"), || write("other", "1")));
    }

    /// How long somebody paused at most who wrote to a file again and again, and whether he had ended when it counted as
    /// changed.
    fn written_on_and_on() -> (Duration, bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "0").expect("a file");
        let ended = AtomicBool::new(false);
        let write = || {
            let mut file = fs::File::create(&path).expect("a file");
            let mut pause = Duration::ZERO;
            for _ in 0..40 {
                let last = std::time::Instant::now();
                thread::sleep(QUIET / 20);
                file.write_all(b"1").expect("written");
                pause = pause.max(last.elapsed());
            }
            ended.store(true, Ordering::Relaxed);
            pause
        };
        thread::scope(|scope| {
            block_on(async {
                let mut files = watching(&path);
                let writer = scope.spawn(write);
                files.ask();
                files.changed().await;
                let had_ended = ended.load(Ordering::Relaxed);
                (writer.join().expect("it wrote"), had_ended)
            })
        })
    }

    #[test]
    fn not_while_it_is_written() {
        // Who pauses for long counts as having ended.
        let mut trials = (0..20).map(|_| written_on_and_on());
        let told = trials.find(|(pause, _)| *pause < QUIET / 2);
        assert_eq!(told.map(|(_, ended)| ended), Some(true));
    }

    #[test]
    fn what_a_link_leads_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for version in ["a", "b"] {
            fs::create_dir(path(version)).expect("a folder");
            fs::write(path(version).join("file"), version.repeat(3)).expect("a file");
        }
        symlink("a/file", path("link")).expect("a link");
        assert!(sees(&path("link"), || {
            fs::write(path("a").join("file"), "other").expect("a file");
        }));
        assert!(sees(&path("link"), || {
            symlink("b/file", path("new")).expect("a link");
            fs::rename(path("new"), path("link")).expect("renamed");
        }));
    }
}
