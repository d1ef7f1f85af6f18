//! In which scope containers are: the programs are told.

use std::collections::BTreeMap;

use steer_common::types::{FlowKey, Path, ScopeEntry, ScopeKey};

use super::{Datapath, error::Error, in_map};

const NAME: &str = "SCOPES";

/// What the programs are told.
pub type Scopes = BTreeMap<ScopeKey, ScopeEntry>;

impl Datapath {
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
