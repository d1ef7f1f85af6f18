//! Where programs, maps and links live while the daemon may die: a folder of ours in the bpf file system.
//!
//! Names there have no dots, which the kernel keeps for itself; so interfaces go by index and cgroups by id.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::{maps::MapInfo, pin::PinError, programs::links::PinnedLink};
use nix::fcntl::{Flock, FlockArg};
use steer_common::types::LAYOUT;

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
        for folder in [
            &self.folder,
            &self.programs(),
            &self.links(),
            &self.layout(),
        ] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(folder)
                .map_err(|source| file(folder, "made", source))?;
        }
        self.hold()
    }

    /// What a killed run left here, if anything, held.
    ///
    /// # Errors
    /// When a run holds it that lives, or there is something that no run left.
    pub fn left(&self) -> Result<Option<Left>, Error> {
        if !self.folder.exists() {
            return Ok(None);
        }
        let hold = self.hold()?;
        match entries(&self.folder)?
            .into_iter()
            .find(|path| !is_ours(path))
        {
            Some(entry) => Err(Error::Foreign {
                folder: self.folder.clone(),
                entry,
            }),
            None => Ok(Some(Left {
                pins: self.clone(),
                hold,
            })),
        }
    }

    /// Whether the maps there mean what this binary's mean.
    ///
    /// # Errors
    /// When that may not be read.
    pub(super) fn has_layout(&self) -> Result<bool, Error> {
        let layout = self.layout();
        layout
            .try_exists()
            .map_err(|source| file(&layout, "read", source))
    }

    /// The bridges, by index, and the cgroups, by id, that links are pinned for.
    ///
    /// # Errors
    /// When that may not be read.
    pub fn attached(&self) -> Result<Targets, Error> {
        let mut targets = Targets::default();
        for path in entries(&self.links())? {
            let name = path.file_name().and_then(|name| name.to_str());
            let mut parts = name.unwrap_or_default().splitn(3, '-');
            let (kind, number) = (parts.next(), parts.next());
            match (kind, number.and_then(|number| number.parse().ok())) {
                (Some("bridge"), Some(index)) => {
                    targets.bridges.extend(u32::try_from(index));
                }
                (Some("cgroup"), Some(id)) => {
                    targets.cgroups.insert(id);
                }
                _ => {}
            }
        }
        Ok(targets)
    }

    /// Writes down that a qdisc is about to be added to a bridge, as a folder: only filters tell later who added it.
    pub(super) fn intend(&self, index: u32) -> Result<Intent, Error> {
        let path = self.folder.join(format!("{INTENT}{index}"));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(file(&path, "made", error))
            }
            _ => Ok(Intent { path }),
        }
    }

    /// The bridges that a killed run was about to add a qdisc to.
    pub(super) fn intended(&self) -> Result<Vec<u32>, Error> {
        let index = |path: PathBuf| {
            path.file_name()?
                .to_str()?
                .strip_prefix(INTENT)?
                .parse()
                .ok()
        };
        Ok(entries(&self.folder)?
            .into_iter()
            .filter_map(index)
            .collect())
    }

    /// Pins something in place of what is pinned there, so that there is one or the other at any moment.
    pub(super) fn replace(
        &self,
        path: PathBuf,
        pin: impl FnOnce(&Path) -> Result<(), PinError>,
    ) -> Result<(), Error> {
        let new = self.folder.join(NEW);
        unlink(&new)?;
        pin(&new).map_err(|source| Error::Pin {
            path: path.clone(),
            source: Box::new(source),
        })?;
        fs::rename(&new, &path).map_err(|source| file(&path, "replaced", source))
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

    /// Removes the links that are not among those, and detaches what they held. Says how many there were.
    pub(super) fn remove_links(&self, keep: impl Fn(&Path) -> bool) -> Result<usize, Error> {
        let mut removed = 0;
        for path in entries(&self.links())?.iter().filter(|path| !keep(path)) {
            // Held open while its file goes, so that closing it detaches at once; by its file alone the kernel would
            // detach some time later.
            let link = PinnedLink::from_pin(path).ok();
            unlink(path)?;
            drop(link);
            removed += 1;
        }
        Ok(removed)
    }

    fn programs(&self) -> PathBuf {
        self.folder.join(PROGRAMS)
    }

    fn links(&self) -> PathBuf {
        self.folder.join(LINKS)
    }

    /// A folder whose name tells what the maps mean: nothing else in a bpf file system can tell something.
    fn layout(&self) -> PathBuf {
        self.folder.join(format!("{MEANING}{LAYOUT}"))
    }
}

/// What links are pinned for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Bridges by index.
    pub bridges: BTreeSet<u32>,
    /// Cgroups by id.
    pub cgroups: BTreeSet<u64>,
}

const PROGRAMS: &str = "programs";
const LINKS: &str = "links";
/// A pin that is to take another's place.
const NEW: &str = "new";
/// What the name of the folder begins with that tells what the maps mean.
const MEANING: &str = "layout-";
/// What the names of folders begin with that tell of a qdisc to come.
const INTENT: &str = "clsact-";

/// Whether a run may have made an entry of the folder, of whatever version: beside what is named here there are maps, all in
/// capitals.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        let numbered = |prefix| {
            let number: Option<u32> = name
                .strip_prefix(prefix)
                .and_then(|number| number.parse().ok());
            number.is_some()
        };
        if path.is_dir() {
            [PROGRAMS, LINKS].contains(&name) || numbered(MEANING) || numbered(INTENT)
        } else {
            name == NEW || name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        }
    })
}

/// A qdisc is about to be added; until this is dropped.
#[derive(Debug)]
pub(super) struct Intent {
    path: PathBuf,
}

impl Drop for Intent {
    fn drop(&mut self) {
        if let Err(source) = gone(fs::remove_dir(&self.path)) {
            let error = file(&self.path, "removed", source);
            tracing::error!("{}", crate::error::sentence(&error));
        }
    }
}

/// What a killed run left, held: while this lives, no other run takes it.
#[derive(Debug)]
pub struct Left {
    pins: Pins,
    hold: Hold,
}

impl Left {
    /// Where it is.
    pub(super) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Whether its maps mean what this binary's mean.
    pub(super) fn has_layout(&self) -> bool {
        self.pins.has_layout().unwrap_or(false)
    }

    /// What a map is like that it has pinned.
    pub(super) fn map(&self, name: &str) -> Option<MapInfo> {
        MapInfo::from_pin(self.pins.map(name)).ok()
    }

    /// The folder as it is, for a run that goes on with what is in it.
    pub(super) fn into_hold(self) -> Hold {
        self.hold
    }

    /// Removes all of it, and detaches what it held.
    ///
    /// # Errors
    /// When something stays.
    pub fn remove(self) -> Result<(), Error> {
        let pins = &self.pins;
        pins.remove_links(|_| false)?;
        let mut folders = Vec::new();
        for folder in [pins.programs(), pins.folder.clone()] {
            for path in entries(&folder)? {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    unlink(&path)?;
                }
            }
        }
        folders.push(pins.folder.clone());
        for folder in folders {
            gone(fs::remove_dir(&folder)).map_err(|source| file(&folder, "removed", source))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_of_others_is_left_alone() {
        let bpffs = tempfile::tempdir().unwrap();
        let pins = Pins::new(&bpffs.path().join("steer"));
        assert!(pins.left().unwrap().is_none());
        let hold = pins.create().unwrap();
        assert!(matches!(pins.left(), Err(Error::InUse { .. })));
        drop(hold);
        fs::write(pins.map("ADDRS"), "").unwrap();
        fs::create_dir(pins.folder().join("clsact-7")).unwrap();
        assert!(pins.left().unwrap().is_some());
        for (name, is_folder) in [
            ("theirs", false),
            ("theirs", true),
            ("links", false),
            ("layout-x", true),
        ] {
            let theirs = bpffs.path().join("other").join(name);
            fs::create_dir_all(theirs.parent().unwrap()).unwrap();
            if is_folder {
                fs::create_dir(&theirs).unwrap();
            } else {
                fs::write(&theirs, "").unwrap();
            }
            let left = Pins::new(theirs.parent().unwrap()).left();
            assert!(
                matches!(&left, Err(Error::Foreign { entry, .. }) if *entry == theirs),
                "{left:?}"
            );
            assert!(theirs.exists());
            fs::remove_dir_all(theirs.parent().unwrap()).unwrap();
        }
        pins.left().unwrap().unwrap().remove().unwrap();
        assert!(!pins.folder().exists());
    }
}
