//! The record of what has to be put back, for the case that steer is killed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Error,
    plan::{Interface, Numbers},
};

const FILE: &str = "routing.json";

/// Written, and on the disk, before the change that it is about.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    entries: Entries,
    written: bool,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entries {
    /// Interface indexes mean something within one boot and one network namespace only.
    origin: Origin,
    /// Every set of numbers under which there may be rules and routes of ours.
    numbers: Vec<Numbers>,
    /// Interfaces whose `rp_filter` was changed.
    rp_filter: Vec<RpFilterEntry>,
    /// Whether there may be rules of ours in Docker's chain.
    #[serde(default)]
    openings: bool,
}

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    boot: String,
    netns: String,
}

impl Origin {
    fn here() -> Result<Self, Error> {
        let boot = Path::new("/proc/sys/kernel/random/boot_id");
        let netns = Path::new("/proc/thread-self/ns/net");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Sysctl { path, source }
        };
        Ok(Self {
            boot: fs::read_to_string(boot)
                .map_err(failed(boot))?
                .trim()
                .to_owned(),
            netns: fs::read_link(netns)
                .map_err(failed(netns))?
                .display()
                .to_string(),
        })
    }
}

/// An interface whose `rp_filter` was changed, and the value it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RpFilterEntry {
    pub(super) interface: Interface,
    pub(super) original: u8,
}

impl Ledger {
    /// Reads the record that an earlier run left in `dir`, or begins an empty one.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let origin = Origin::here()?;
        let failed = |source| Error::Ledger {
            action: "read",
            path: path.clone(),
            source,
        };
        let found: Option<Entries> = match fs::read(&path) {
            Ok(bytes) => {
                Some(serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let written = found.is_some();
        let entries = found.filter(|entries| {
            let same = entries.origin == origin;
            if !same {
                tracing::debug!(path = %path.display(), "the record is from before a reboot or of another network namespace: nothing to put back");
            }
            same
        });
        let entries = entries.unwrap_or(Entries {
            origin,
            numbers: Vec::new(),
            rp_filter: Vec::new(),
            openings: false,
        });
        Ok(Self {
            path,
            entries,
            written,
        })
    }

    /// Numbers of earlier runs and of this one.
    pub(super) fn numbers(&self) -> &[Numbers] {
        &self.entries.numbers
    }

    pub(super) fn rp_filter(&self) -> &[RpFilterEntry] {
        &self.entries.rp_filter
    }

    /// Whatever is made from now on may have these numbers, too.
    pub(super) fn add_numbers(&mut self, numbers: Numbers) -> Result<(), Error> {
        if self.written && self.entries.numbers.contains(&numbers) {
            return Ok(());
        }
        self.update(|entries| {
            if !entries.numbers.contains(&numbers) {
                entries.numbers.push(numbers);
            }
        })
    }

    /// Nothing is left under any other numbers.
    pub(super) fn keep_only(&mut self, numbers: Numbers) -> Result<(), Error> {
        if self.entries.numbers == [numbers] {
            return Ok(());
        }
        self.update(|entries| entries.numbers = vec![numbers])
    }

    pub(super) fn add_rp_filter(
        &mut self,
        interface: &Interface,
        original: u8,
    ) -> Result<(), Error> {
        self.update(|entries| {
            entries
                .rp_filter
                .retain(|entry| entry.interface.index != interface.index);
            entries.rp_filter.push(RpFilterEntry {
                interface: interface.clone(),
                original,
            });
        })
    }

    pub(super) fn forget_rp_filter(&mut self, interface: &Interface) -> Result<(), Error> {
        self.update(|entries| {
            entries
                .rp_filter
                .retain(|entry| entry.interface.index != interface.index)
        })
    }

    /// Whether there may be rules of ours in Docker's chain.
    pub(super) fn openings(&self) -> bool {
        self.entries.openings
    }

    pub(super) fn set_openings(&mut self, openings: bool) -> Result<(), Error> {
        if self.entries.openings == openings {
            return Ok(());
        }
        self.update(|entries| entries.openings = openings)
    }

    /// Deletes the file: nothing is left to put back.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        self.entries.numbers.clear();
        self.entries.rp_filter.clear();
        self.entries.openings = false;
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(self.failed("delete", source)),
        }
    }

    /// In memory only once it is in the file.
    fn update(&mut self, change: impl FnOnce(&mut Entries)) -> Result<(), Error> {
        let mut entries = self.entries.clone();
        change(&mut entries);
        self.write(&entries)
            .map_err(|source| self.failed("write", source))?;
        self.entries = entries;
        self.written = true;
        Ok(())
    }

    /// A new file takes the old one's place, so that there is a whole one at any moment.
    fn write(&self, entries: &Entries) -> io::Result<()> {
        let temporary = self.path.with_extension("json.new");
        // Root's alone, also where others may pass through the folder.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(entries)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        match self.path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::Ledger {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::plan::IfIndex;

    fn interface() -> Interface {
        Interface {
            name: "wg0".into(),
            index: IfIndex(7),
        }
    }

    #[test]
    fn is_read_back_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.add_numbers(Numbers::default()).unwrap();
        ledger.add_rp_filter(&interface(), 1).unwrap();
        let next = Ledger::open(dir.path()).unwrap();
        assert_eq!(next.entries, ledger.entries);
        assert_eq!(next.rp_filter()[0].original, 1);
    }

    #[test]
    fn an_interface_has_one_entry() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.add_rp_filter(&interface(), 1).unwrap();
        ledger.add_rp_filter(&interface(), 0).unwrap();
        assert_eq!(ledger.rp_filter().len(), 1);
        assert_eq!(ledger.rp_filter()[0].original, 0);
        ledger.forget_rp_filter(&interface()).unwrap();
        assert!(Ledger::open(dir.path()).unwrap().rp_filter().is_empty());
    }

    #[test]
    fn a_record_from_before_a_reboot_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger
            .update(|entries| entries.origin.boot = "another".into())
            .unwrap();
        ledger.add_rp_filter(&interface(), 1).unwrap();
        assert!(Ledger::open(dir.path()).unwrap().rp_filter().is_empty());
    }

    #[test]
    fn closing_twice_is_success() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.add_numbers(Numbers::default()).unwrap();
        ledger.close().unwrap();
        ledger.close().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_broken_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = Ledger::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("routing.json"), "{error}");
    }

    #[test]
    fn a_failed_write_changes_nothing_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&dir.path().join("missing")).unwrap();
        assert!(ledger.add_rp_filter(&interface(), 1).is_err());
        assert!(ledger.rp_filter().is_empty());
    }
}
