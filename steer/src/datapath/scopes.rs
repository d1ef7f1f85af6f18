//! In which scope containers are: the programs are told.

use std::collections::BTreeMap;

use steer_common::types::{
    AskedEntry, AskedKey, EmbeddedKey, FlowKey, Path, ProcessScope, ScopeEntry, ScopeKey,
};

use super::{Datapath, error::Error, in_map};

const NAME: &str = "SCOPES";
const LISTENERS: &str = "EMBEDDED";
const PROCESSES: &str = "CGROUPS";

/// What the programs are told.
pub type Scopes = BTreeMap<ScopeKey, ScopeEntry>;

/// Where Docker's own resolver listens, for whom.
pub type Listeners = BTreeMap<EmbeddedKey, ScopeEntry>;

/// In which scopes processes are, by the ids of cgroups.
pub type Processes = BTreeMap<u64, ProcessScope>;

impl Datapath {
    /// Tells the programs in which scopes processes are now, given what was told before.
    ///
    /// # Errors
    /// When the map cannot be written: it is full.
    pub fn set_processes(&mut self, before: &Processes, now: &Processes) -> Result<(), Error> {
        let mut map = self.hash_mut::<u64, ProcessScope>(PROCESSES)?;
        for (cgroup, scope) in now {
            if before.get(cgroup) != Some(scope) {
                map.insert(cgroup, scope, 0).map_err(in_map(PROCESSES))?;
            }
        }
        for gone in before.keys().filter(|it| !now.contains_key(*it)) {
            // Gone already is as good.
            let _ = map.remove(gone);
        }
        Ok(())
    }

    /// Tells the programs in which scopes bridges and containers are now, given what was told before. Those that are no more are
    /// unknown again.
    ///
    /// # Errors
    /// When the map cannot be written: it is full. What isolates comes first.
    pub fn set_scopes(&mut self, before: &Scopes, now: &Scopes) -> Result<(), Error> {
        let mut map = self.hash_mut::<ScopeKey, ScopeEntry>(NAME)?;
        for gone in before.keys().filter(|it| !now.contains_key(*it)) {
            // Gone already is as good.
            let _ = map.remove(gone);
        }
        let mut news: Vec<_> = now
            .iter()
            .filter(|(key, entry)| before.get(*key) != Some(entry))
            .collect();
        news.sort_by_key(|(_, entry)| entry.default == ScopeEntry::FREE);
        for (at, entry) in news {
            map.insert(at, entry, 0).map_err(in_map(NAME))?;
        }
        Ok(())
    }

    /// Tells the programs for whom Docker's own resolver listens where. Of all others nobody knows.
    ///
    /// # Errors
    /// When the map cannot be written: it is full.
    pub fn set_listeners(&mut self, now: &Listeners) -> Result<(), Error> {
        let mut map = self.hash_mut::<EmbeddedKey, ScopeEntry>(LISTENERS)?;
        let known: Listeners = map.iter().flatten().collect();
        for gone in known.keys().filter(|it| !now.contains_key(*it)) {
            // Gone already is as good.
            let _ = map.remove(gone);
        }
        for (at, entry) in now
            .iter()
            .filter(|(at, entry)| known.get(*at) != Some(entry))
        {
            map.insert(at, entry, 0).map_err(in_map(LISTENERS))?;
        }
        Ok(())
    }

    /// Forgets what Docker's own resolver was asked that long ago, in ticks.
    ///
    /// # Errors
    /// When the map cannot be used.
    pub fn forget_asked(&mut self, tick: u32, ago: u32) -> Result<(), Error> {
        let mut map = self.hash_mut::<AskedKey, AskedEntry>("ASKED")?;
        let is_old = |entry: &AskedEntry| tick.wrapping_sub(entry.tick) > ago;
        let old: Vec<_> = map
            .iter()
            .flatten()
            .filter(|(_, entry)| is_old(entry))
            .collect();
        for (key, _) in old {
            // Asked again meanwhile, it stays; gone already is as good.
            if map.get(&key, 0).is_ok_and(|entry| is_old(&entry)) {
                let _ = map.remove(&key);
            }
        }
        Ok(())
    }

    /// Has the programs tell of somebody anew when he sends again, unless he is known by now.
    ///
    /// # Errors
    /// When the map cannot be used.
    pub fn forget_waiting(&mut self, who: &ScopeKey) -> Result<(), Error> {
        let mut map = self.hash_mut::<ScopeKey, ScopeEntry>(NAME)?;
        if map
            .get(who, 0)
            .is_ok_and(|entry| entry.default == ScopeEntry::UNKNOWN)
        {
            // Gone already is as good.
            let _ = map.remove(who);
        }
        Ok(())
    }

    /// Lets go of flows that were held on the direct path.
    ///
    /// # Errors
    /// When the map cannot be used.
    pub fn forget_held(&mut self, which: impl Fn(&FlowKey) -> bool) -> Result<(), Error> {
        let mut flows = self.flows()?;
        let held: Vec<_> = flows
            .iter()
            .flatten()
            .filter(|(key, entry)| entry.path == Path::DIRECT && which(key))
            .map(|(key, _)| key)
            .collect();
        for key in held {
            // Gone already is as good.
            let _ = flows.remove(&key);
        }
        Ok(())
    }
}
