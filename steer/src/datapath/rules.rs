//! The rules in the kernel: filled apart, put in force all at once.

use std::os::fd::AsFd as _;

use aya::maps::{ArrayOfMaps, LpmTrie, Map, MapData, MapError, lpm_trie};
use steer_common::types::{Address, NetEntry, RuleEntry};

use super::{Datapath, Net, Room, adopt::data, bpf, error::Error, in_map, open_rules};
use crate::progress::{Progress, Unseen};

const RULES: &str = "RULES";
const NETS: &str = "NETS";

/// Rules in maps of their own, which no program knows yet.
#[derive(Debug)]
pub struct NewRules {
    rules: Map,
    nets: Map,
}

impl NewRules {
    /// Makes maps and puts rules into them. Takes its time where there are many, and touches nothing that is in force.
    ///
    /// # Errors
    /// When there are more rules than a map takes, or there is no memory for them.
    pub fn fill(rules: &[(u64, RuleEntry)], nets: &[Net]) -> Result<Self, Error> {
        let room = Room {
            rules: rules.len(),
            nets: nets.len(),
            ..Room::default()
        };
        let mut object = open_rules(room)?;
        let mut take = |name| object.take_map(name).ok_or(Error::Missing { name });
        let mut new = Self {
            rules: take(RULES)?,
            nets: take(NETS)?,
        };
        fill_rules(&mut new.rules, rules, &Unseen)?;
        fill_nets(&mut new.nets, nets)?;
        Ok(new)
    }
}

impl Datapath {
    /// Puts in the rules, hashes of suffixes and what they say, and puts them in force.
    ///
    /// # Errors
    /// When there are more than there was to be room for, or the map cannot be written.
    pub fn set_rules(
        &mut self,
        rules: &[(u64, RuleEntry)],
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let map = self.ebpf.map_mut(RULES);
        progress.begin("giving rules to the kernel", rules.len() as u64);
        let filled = fill_rules(map.ok_or(Error::Missing { name: RULES })?, rules, progress);
        progress.end();
        filled?;
        self.put_in_force(RULES, "RULESETS", None)
    }

    /// Puts in the networks, as [`Self::set_rules`] does the names. [`steer_common::types::Config::nets`] says whether
    /// there are any.
    ///
    /// # Errors
    /// As for [`Self::set_rules`].
    pub fn set_nets(&mut self, nets: &[Net]) -> Result<(), Error> {
        let map = self.ebpf.map_mut(NETS);
        fill_nets(map.ok_or(Error::Missing { name: NETS })?, nets)?;
        self.put_in_force(NETS, "NETSETS", None)
    }

    /// Puts other rules in force: a packet meets the old ones or the new ones. Once this returns, no program goes by the
    /// old ones any more.
    ///
    /// # Errors
    /// When a map cannot be written or pinned.
    pub fn replace_rules(&mut self, new: &NewRules) -> Result<(), Error> {
        for (name, sets, map) in [
            (RULES, "RULESETS", &new.rules),
            (NETS, "NETSETS", &new.nets),
        ] {
            self.put_in_force(name, sets, data(map))?;
            if let Some((pins, _)) = &self.pins {
                let map = data(map).ok_or(Error::Missing { name })?;
                pins.replace(pins.map(name), |path| map.pin(path))?;
            }
            // The one of the start, whose memory goes with it.
            drop(self.ebpf.take_map(name));
        }
        Ok(())
    }

    /// Makes a map the one that the programs find in another: the object's own by that name, if there is no `new` one.
    fn put_in_force(
        &mut self,
        name: &'static str,
        sets: &'static str,
        new: Option<&MapData>,
    ) -> Result<(), Error> {
        let (mut map, mut outer) = (None, None);
        for (other, found) in self.ebpf.maps_mut() {
            if other == name {
                map = data(found);
            } else if other == sets {
                outer = Some(found);
            }
        }
        let map = new.or(map).ok_or(Error::Missing { name })?;
        let outer = outer.ok_or(Error::Missing { name: sets })?;
        ArrayOfMaps::<_, MapData>::try_from(outer)
            .and_then(|mut outer| outer.set(0, map, 0))
            .map_err(in_map(sets))
    }
}

/// How many entries a map is made with: one without room is none.
pub(super) fn entries(count: usize) -> Result<u32, Error> {
    u32::try_from(count.max(1)).map_err(|_| Error::TooManyRules { count })
}

fn fill_rules(
    map: &mut Map,
    rules: &[(u64, RuleEntry)],
    progress: &dyn Progress,
) -> Result<(), Error> {
    /// Entries that one call takes.
    const AT_ONCE: usize = 4096;
    let map = data(map).ok_or(Error::Missing { name: RULES })?;
    for chunk in rules.chunks(AT_ONCE) {
        let (hashes, entries): (Vec<u64>, Vec<RuleEntry>) = chunk.iter().copied().unzip();
        bpf::update_batch(map.fd().as_fd(), &hashes, &entries)
            .map_err(|source| in_map(RULES)(MapError::IoError(source)))?;
        progress.advance(chunk.len() as u64);
    }
    Ok(())
}

fn fill_nets(map: &mut Map, nets: &[Net]) -> Result<(), Error> {
    let mut map: LpmTrie<_, Address, NetEntry> = LpmTrie::try_from(map).map_err(in_map(NETS))?;
    for net in nets {
        map.insert(&lpm_trie::Key::new(net.prefix, net.address), net.entry, 0)
            .map_err(in_map(NETS))?;
    }
    Ok(())
}
