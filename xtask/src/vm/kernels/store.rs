//! Gets the kernel that is meant: from the cache, else from the package sources.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail};

use super::{
    Kernel, Wanted,
    apt::Apt,
    cache::{Cache, Manifest, State},
    catalogue::{self, Catalogue},
    series::{self, Candidate, OWN},
    sources::{self, Reach},
};
use crate::step;

/// The package sources, and the cache before them.
pub struct Store<'a> {
    cache: &'a Cache,
    catalogue: Option<Catalogue>,
    /// Why there is no catalogue.
    failure: String,
    apt: Option<Apt>,
    /// Whether this run has tried to ask the sources.
    tried: bool,
    /// Whether they have answered it.
    looked: bool,
}

impl<'a> Store<'a> {
    /// Learns what kernels there are: from memory while that is young, unless `refresh` says otherwise.
    ///
    /// # Errors
    /// When `refresh` is set and the sources cannot be reached.
    pub fn open(cache: &'a Cache, refresh: bool) -> Result<Self> {
        let mut store = Self {
            cache,
            catalogue: Catalogue::load(cache),
            failure: String::new(),
            apt: None,
            tried: false,
            looked: false,
        };
        if !refresh && store.catalogue.as_ref().is_some_and(Catalogue::is_young) {
            return Ok(store);
        }
        let failed = store.look(Reach::Usual).err();
        match (failed, &store.catalogue) {
            (None, _) => {}
            (Some(error), _) if refresh => bail!("no newer kernels can be looked for: {error:#}"),
            (Some(error), Some(old)) => step::note(&format!(
                "newer kernels cannot be looked for: {error:#}; going on with those found {}",
                old.age()
            )),
            (Some(error), None) => store.failure = format!("{error:#}"),
        }
        Ok(store)
    }

    /// The kernel that is meant.
    ///
    /// # Errors
    /// When neither the sources nor the cache have it.
    pub fn get(&mut self, wanted: &Wanted) -> Result<Kernel> {
        let failed = match self.by_sources(wanted) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => error,
        };
        let Some(manifest) = self.kept(wanted) else {
            return Err(failed);
        };
        step::note(&format!(
            "{failed:#}\n  going on with linux {}, which is cached",
            manifest.version.kernel()
        ));
        Ok(self.cache.kernel(&manifest))
    }

    /// How fresh the knowledge is, for the line that ends the work.
    pub fn freshness(&self) -> String {
        match &self.catalogue {
            Some(catalogue) if !self.looked => {
                format!(" (newer ones were looked for {})", catalogue.age())
            }
            _ => String::new(),
        }
    }

    fn by_sources(&mut self, wanted: &Wanted) -> Result<Kernel> {
        let candidate = self.choose(wanted)?;
        if let Some(kernel) = self.cached(&candidate) {
            return Ok(kernel);
        }
        let failed = match self.fetch(&candidate) {
            Err(error) if !self.tried => error,
            fetched => return fetched,
        };
        // The archive has moved on since it was asked, or there is no network: asking it anew tells.
        step::note(&format!("{failed:#}\n  looking for it anew"));
        self.look(Reach::Usual)?;
        let candidate = self.choose(wanted)?;
        match self.cached(&candidate) {
            Some(kernel) => Ok(kernel),
            None => self.fetch(&candidate),
        }
    }

    fn look(&mut self, reach: Reach) -> Result<()> {
        self.tried = true;
        let apt = match &mut self.apt {
            Some(apt) => apt,
            none => none.insert(Apt::new(self.cache.work("apt"))?),
        };
        self.catalogue = Some(Catalogue::look(apt, reach, self.cache)?);
        self.looked = true;
        Ok(())
    }

    fn choose(&mut self, wanted: &Wanted) -> Result<Candidate> {
        let Some(catalogue) = &self.catalogue else {
            bail!("{}; {OWN}, which works anywhere", self.failure);
        };
        let error = match series::choose(&catalogue.candidates, wanted) {
            Ok(choice) => {
                if let Some(note) = &choice.note {
                    step::note(note);
                }
                return Ok(choice.candidate.clone());
            }
            Err(error) => error,
        };
        if catalogue.reach == Reach::Everything {
            return Err(match self.looked {
                true => error,
                false => anyhow!("{error:#} (asked {}; --refresh asks anew)", catalogue.age()),
            });
        }
        self.look(Reach::Everything).map_err(|failed| {
            anyhow!("{error:#} (not all package sources could be asked: {failed:#})")
        })?;
        self.choose(wanted)
    }

    /// The kernel of `candidate`, if it is in the cache as it was unpacked.
    fn cached(&self, candidate: &Candidate) -> Option<Kernel> {
        match self.cache.state(&candidate.release) {
            State::Intact(manifest) if manifest.version == candidate.version => {
                Some(self.cache.kernel(&manifest))
            }
            State::Intact(_) | State::Absent => None,
            State::Damaged(why) => {
                step::note(&format!(
                    "linux {} in the cache is damaged ({why}): it is made anew",
                    candidate.version.kernel()
                ));
                None
            }
        }
    }

    fn fetch(&mut self, candidate: &Candidate) -> Result<Kernel> {
        let needed: BTreeSet<&str> = candidate
            .packages
            .iter()
            .map(|package| &*package.suite)
            .collect();
        let apt = match &mut self.apt {
            Some(apt) => apt,
            none => none.insert(Apt::new(self.cache.work("apt"))?),
        };
        if !needed.iter().all(|suite| apt.has_read(suite)) {
            let archives = catalogue::machines_archives()?;
            let mut suites = sources::suites(&archives, Reach::Everything);
            suites.retain(|suite| needed.contains(&*suite.name));
            apt.update(&suites)?;
        }
        let bytes: u64 = candidate.packages.iter().map(|package| package.size).sum();
        let label = format!(
            "downloading linux {} ({} MB)",
            candidate.version.kernel(),
            bytes.div_ceil(1_000_000)
        );
        let files = apt.download(&label, &candidate.packages)?;
        let manifest = step::during(
            &format!("unpacking linux {}", candidate.version.kernel()),
            || self.cache.unpack(candidate, &files),
        )?;
        Ok(self.cache.kernel(&manifest))
    }

    /// The newest kernel in the cache that would do.
    fn kept(&self, wanted: &Wanted) -> Option<Manifest> {
        let mut manifests = self.cache.manifests();
        manifests.retain(|manifest| series::fits(wanted, &manifest.version).unwrap_or(false));
        manifests.sort_by(|a, b| b.version.cmp(&a.version));
        manifests
            .into_iter()
            .find(|manifest| matches!(self.cache.state(&manifest.release), State::Intact(_)))
    }
}
