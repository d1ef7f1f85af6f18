//! Gets the kernel that is meant: from the cache, else from the package sources.

use std::collections::BTreeSet;

use anyhow::{Error, Result, anyhow};

use super::{
    Kernel, Wanted,
    apt::Apt,
    cache::{Cache, Manifest, State},
    catalogue::{self, Catalogue},
    series::{self, Candidate},
    sources::{self, Reach},
};
use crate::step;

/// The package sources, and the cache before them.
pub struct Store<'a> {
    cache: &'a Cache,
    catalogue: Option<Catalogue>,
    /// Why there is no catalogue.
    failure: Option<Error>,
    apt: Option<Apt>,
    /// Whether the sources were asked in this run.
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
            failure: None,
            apt: None,
            looked: false,
        };
        if !refresh && store.catalogue.as_ref().is_some_and(Catalogue::is_young) {
            return Ok(store);
        }
        let failed = store.look(Reach::Usual).err();
        match (failed, &store.catalogue) {
            (None, _) => {}
            (Some(error), _) if refresh => return Err(error),
            (Some(error), Some(old)) => step::note(&format!(
                "newer kernels cannot be looked for: {error:#}; going on with those found {}",
                old.age()
            )),
            (Some(error), None) => store.failure = Some(error),
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
        let fetched = self.fetch(&candidate);
        if fetched.is_ok() || self.looked {
            return fetched;
        }
        step::note(&format!(
            "linux {} is no longer where it was: looking anew",
            candidate.version.kernel()
        ));
        self.look(Reach::Usual)?;
        let candidate = self.choose(wanted)?;
        match self.cached(&candidate) {
            Some(kernel) => Ok(kernel),
            None => self.fetch(&candidate),
        }
    }

    fn look(&mut self, reach: Reach) -> Result<()> {
        let apt = match &mut self.apt {
            Some(apt) => apt,
            none => none.insert(Apt::new(self.cache.path(".apt"))?),
        };
        self.catalogue = Some(Catalogue::look(apt, reach, self.cache)?);
        self.looked = true;
        Ok(())
    }

    fn choose(&mut self, wanted: &Wanted) -> Result<Candidate> {
        let failure = self.failure.take();
        let catalogue = match (&self.catalogue, failure) {
            (Some(catalogue), _) => catalogue,
            (None, Some(error)) => {
                // The next kernel needs the reason too.
                self.failure = Some(anyhow!("{error:#}"));
                return Err(error);
            }
            (None, None) => return Err(anyhow!("the package sources were not asked")),
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
            return Err(error);
        }
        self.look(Reach::Everything)?;
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
            none => none.insert(Apt::new(self.cache.path(".apt"))?),
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
