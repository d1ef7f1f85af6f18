//! What kernels the package sources have, remembered for a week.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    apt::{Apt, Unread},
    cache::Cache,
    series::{self, Candidate},
    sources::{self, Archive, Reach},
};
use crate::step;

const FILE: &str = "catalogue.json";
const YOUNG: Duration = Duration::from_secs(7 * 24 * 3600);
const DAY: u64 = 24 * 3600;

/// The kernels that the sources had at a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct Catalogue {
    /// Seconds since 1970; zero when some source could not be reached.
    taken: u64,
    /// The processor that the kernels are for, for caches on shared home folders.
    machine: String,
    /// How many suites were asked.
    pub reach: Reach,
    /// Oldest first.
    pub candidates: Vec<Candidate>,
}

impl Catalogue {
    /// The catalogue of an earlier run.
    pub fn load(cache: &Cache) -> Option<Self> {
        let text = fs::read_to_string(cache.path(FILE)).ok()?;
        let catalogue: Self = serde_json::from_str(&text).ok()?;
        (catalogue.machine == std::env::consts::ARCH).then_some(catalogue)
    }

    /// Asks the package sources, and remembers what they have.
    ///
    /// # Errors
    /// When this machine has no sources with kernels, or none can be reached.
    pub fn look(apt: &mut Apt, reach: Reach, cache: &Cache) -> Result<Self> {
        let archives = machines_archives()?;
        let suites = sources::suites(&archives, reach);
        let unread = apt.update(&suites)?;
        tell(&unread);
        let whole = !unread.iter().any(Unread::may_pass);

        let mut packages = Vec::new();
        for (path, suite) in apt.indexes()? {
            let read = File::open(&path).and_then(|file| {
                series::read_index(
                    BufReader::with_capacity(1 << 16, file),
                    &suite,
                    apt.architecture(),
                )
            });
            packages.extend(read.with_context(|| format!("{} cannot be read", path.display()))?);
        }
        let candidates = series::candidates(&packages);
        if candidates.is_empty() {
            bail!(
                "the package sources of this machine have no cloud kernels for {}",
                apt.architecture()
            );
        }
        let catalogue = Self {
            taken: if whole { now() } else { 0 },
            machine: std::env::consts::ARCH.to_owned(),
            reach,
            candidates,
        };
        if whole {
            catalogue.save(cache)?;
        }
        Ok(catalogue)
    }

    /// Whether it need not be taken anew.
    pub fn is_young(&self) -> bool {
        now()
            .checked_sub(self.taken)
            .is_some_and(|age| age < YOUNG.as_secs())
    }

    /// When it was taken, in words.
    pub fn age(&self) -> String {
        match now().saturating_sub(self.taken) / DAY {
            0 => "today".to_owned(),
            1 => "a day ago".to_owned(),
            days => format!("{days} days ago"),
        }
    }

    fn save(&self, cache: &Cache) -> Result<()> {
        let work = cache.work("catalogue");
        fs::write(&work, serde_json::to_string(self)?)
            .and_then(|()| fs::rename(&work, cache.path(FILE)))
            .with_context(|| format!("{} cannot be written", cache.path(FILE).display()))
    }
}

/// Debian's archives among the sources of this machine.
///
/// # Errors
/// When there are none.
pub fn machines_archives() -> Result<Vec<Archive>> {
    let archives = sources::archives(Path::new("/etc/apt"))?;
    if archives.is_empty() {
        bail!(
            "kernels are fetched from Debian's archives, and the apt sources of this machine name none"
        );
    }
    Ok(archives)
}

/// Names the suites that should be there, a line for each archive.
fn tell(unread: &[Unread]) {
    let mut failed: BTreeMap<&str, Vec<&Unread>> = BTreeMap::new();
    for unread in unread.iter().filter(|unread| !unread.is_absent()) {
        failed.entry(&unread.uri).or_default().push(unread);
    }
    for (uri, failed) in failed {
        let suites: Vec<_> = failed.iter().map(|unread| &*unread.suite).collect();
        step::note(&format!(
            "no package index at {uri} of {}: {}",
            suites.join(", "),
            failed[0].reason
        ));
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(taken: u64) -> Catalogue {
        Catalogue {
            taken,
            machine: String::new(),
            reach: Reach::Usual,
            candidates: Vec::new(),
        }
    }

    #[test]
    fn a_catalogue_serves_for_a_week() {
        assert!(taken(now() - 6 * DAY).is_young());
        assert!(!taken(now() - 8 * DAY).is_young());
        assert!(!taken(0).is_young());
        assert!(!taken(now() + DAY).is_young(), "a clock that was wrong");
        assert_eq!(taken(now() - 3 * DAY).age(), "3 days ago");
    }
}
