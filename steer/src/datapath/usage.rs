//! How much takes each path, as the programs have counted it.

use std::collections::BTreeSet;

use aya::maps::{LpmTrie, Map, PerCpuArray, lpm_trie};
use steer_common::{
    types::Address,
    usage::{HOME, Traffic, UsageKey, Volume},
};

use super::{
    Datapath, View,
    error::Error,
    in_map,
    view::{pinned, summed},
    whole,
};
use crate::rules::Net;

const TRAFFIC: &str = "TRAFFIC";
const USAGE: &str = "USAGE";

impl Datapath {
    /// What went each path since the programs were loaded, summed over the CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn traffic(&self) -> Result<Traffic, Error> {
        let map = self
            .ebpf
            .map(TRAFFIC)
            .ok_or(Error::Missing { name: TRAFFIC })?;
        PerCpuArray::try_from(map)
            .and_then(|map| summed(map, Traffic::add))
            .map_err(in_map(TRAFFIC))
    }

    /// Who had to do with whom while somebody watched ([`steer_common::types::Config::watched`]): as many as there is room
    /// for, those of late. One that was forgotten and came again begins at nothing.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn usage(&self) -> Result<Vec<(UsageKey, Volume)>, Error> {
        self.all(USAGE)
    }

    /// Tells the programs what does not leave the host. Beyond what there is room for it is counted as if it did.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_home(&mut self, home: &BTreeSet<Net>) -> Result<(), Error> {
        const NAME: &str = "HOME";
        let map = self.ebpf.map_mut(NAME);
        let map = map.ok_or(Error::Missing { name: NAME })?;
        let mut map = LpmTrie::<_, Address, u32>::try_from(map).map_err(in_map(NAME))?;
        let key = |net: &Net| {
            let (address, prefix) = net.mapped();
            lpm_trie::Key::new(prefix, address)
        };
        let home: BTreeSet<_> = home.iter().copied().take(HOME).collect();
        for net in self.home.difference(&home) {
            // Gone already is as good.
            let _ = map.remove(&key(net));
        }
        for net in home.difference(&self.home) {
            map.insert(&key(net), 1, 0).map_err(in_map(NAME))?;
        }
        if self.home != home {
            self.home = home;
            self.homes = self.homes.wrapping_add(1).max(1);
            self.tell()?;
        }
        Ok(())
    }
}

impl View {
    /// As [`Datapath::traffic`].
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn traffic(&self) -> Result<Traffic, Error> {
        PerCpuArray::try_from(Map::PerCpuArray(pinned(&self.pins, TRAFFIC)?))
            .and_then(|map| summed(map, Traffic::add))
            .map_err(in_map(TRAFFIC))
    }

    /// As [`Datapath::usage`].
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn usage(&self) -> Result<Vec<(UsageKey, Volume)>, Error> {
        whole(USAGE, &pinned(&self.pins, USAGE)?)
    }
}
