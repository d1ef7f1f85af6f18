//! Kernels to boot: Debian's cloud kernels, found through this machine's own package sources, and kernels given by hand.
//!
//! Nothing of the machine changes: apt runs with lists, a cache and sources of its own ([`apt`]), and everything is kept
//! under `steer/vm/kernels` in the user's cache. What the sources had is remembered for a week, so that a second run
//! reads no index and fetches nothing.

mod apt;
mod cache;
mod catalogue;
mod image;
mod own;
mod series;
mod sources;
mod store;
mod unpack;
mod version;

use std::{fmt, path::PathBuf, str::FromStr, time::Instant};

use anyhow::{Error, Result};

use crate::step;
use cache::Cache;
use store::Store;

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` says it: `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// As people say it: `6.1.192`.
    pub version: String,
    /// The image. Its folder's parent holds `lib/modules/RELEASE` with `modules.dep`, as virtme-ng looks for it.
    pub image: PathBuf,
}

/// A kernel that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest patch level of a series (`5.10`), or a patch level (`6.12.117`).
    Series(String),
    /// The newest that the package sources have.
    Newest,
    /// A kernel of the user's own.
    Files {
        /// The image.
        vmlinuz: PathBuf,
        /// `/lib/modules/RELEASE`, or a folder that holds it.
        modules: PathBuf,
    },
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "newest" {
            return Ok(Self::Newest);
        }
        series::parse(text)?;
        Ok(Self::Series(text.to_owned()))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series(series) => f.write_str(series),
            Self::Newest => f.write_str("of any version"),
            Self::Files { vmlinuz, .. } => vmlinuz.display().fmt(f),
        }
    }
}

/// The kernels that every change is tried on: the oldest, those of the stable releases in use, and the newest.
pub fn default() -> Vec<Wanted> {
    let series = |name: &str| Wanted::Series(name.to_owned());
    vec![
        series("5.10"),
        series("6.1"),
        series("6.12"),
        Wanted::Newest,
    ]
}

/// Whether this machine has package sources that kernels come from.
///
/// # Errors
/// When it has none: the sentence says so.
pub fn ensure_source() -> Result<()> {
    catalogue::machines_archives().map(drop)
}

/// Finds `wanted`, fetching what is not in the cache; a kernel that is meant twice comes once.
///
/// With `refresh` (for a flag `--refresh`) the package sources are asked for newer kernels at once, and it is an error when
/// they cannot be reached. Otherwise they are asked once a week, and what is cached serves when they do not answer.
///
/// # Errors
/// When a kernel cannot be had: the message says what can.
pub fn fetch(wanted: &[Wanted], refresh: bool) -> Result<Vec<Kernel>> {
    for wanted in wanted {
        if let Wanted::Series(series) = wanted {
            series::parse(series)?;
        }
    }
    let started = Instant::now();
    let cache = Cache::open()?;
    let mut store: Option<Store> = None;
    let mut kernels: Vec<Kernel> = Vec::new();
    for wanted in wanted {
        let kernel = match (wanted, &mut store) {
            (Wanted::Files { vmlinuz, modules }, _) => own::arrange(&cache, vmlinuz, modules)?,
            (_, Some(store)) => store.get(wanted)?,
            (_, none) => none.insert(Store::open(&cache, refresh)?).get(wanted)?,
        };
        if !kernels.iter().any(|known| known.image == kernel.image) {
            kernels.push(kernel);
        }
    }
    cache.prune();
    let versions: Vec<_> = kernels.iter().map(|kernel| &*kernel.version).collect();
    step::note(&format!(
        "kernels {}: ready in {}{}",
        versions.join(", "),
        step::seconds(started.elapsed()),
        store.map_or_else(String::new, |store| store.freshness())
    ));
    Ok(kernels)
}

#[cfg(test)]
pub mod scratch {
    use std::{
        env, fs,
        path::PathBuf,
        process,
        sync::atomic::{AtomicU32, Ordering},
    };

    /// A folder for one test, removed at its end.
    pub struct Scratch(PathBuf);

    impl Scratch {
        pub fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("steer-kernels-{}-{count}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub fn path(&self) -> &PathBuf {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
