//! What a killed run left, carried over into tables that have other room.
//!
//! The old tables are read twice: before the new ones are known to anybody, and once no program goes by the old ones any more,
//! for what was learned and what began between.

use std::{cmp::Reverse, collections::HashSet, hash::Hash, marker::PhantomData, os::fd::AsFd as _};

use aya::{
    Ebpf, Pod,
    maps::{MapData, MapError},
};
use steer_common::types::{AddrEntry, Address, FlowEntry, FlowKey, NameEntry, NameKey};

use super::{adopt::data, bpf, error::Error, in_map, pins::Pins};

/// The tables whose room the user chooses.
pub(super) const SIZED: [&str; 4] = ["ADDRS", "NAMES", "FLOWS", "DIRECT"];

/// Tables of a killed run that have other room than this one's.
#[derive(Debug, Default)]
pub(super) struct Outgrown {
    addresses: Option<Old<Address, AddrEntry>>,
    names: Option<Old<NameKey, NameEntry>>,
    flows: Option<Old<FlowKey, FlowEntry>>,
    direct: Option<Old<FlowKey, FlowEntry>>,
}

impl Outgrown {
    /// Opens those of `names` that a killed run left in `pins`.
    pub(super) fn open(pins: &Pins, names: &[&'static str]) -> Result<Self, Error> {
        Ok(Self {
            addresses: Old::open(pins, names, "ADDRS")?,
            names: Old::open(pins, names, "NAMES")?,
            flows: Old::open(pins, names, "FLOWS")?,
            direct: Old::open(pins, names, "DIRECT")?,
        })
    }

    /// Carries over what came since this was done last; returns how many entries find no room, in all. Those that hold longest, and
    /// of flows those that were seen last, go first.
    pub(super) fn carry(&mut self, ebpf: &Ebpf) -> Result<usize, Error> {
        let seen = |entry: &FlowEntry| u64::from(entry.seen);
        Ok(carry(&mut self.addresses, ebpf, |entry| {
            let AddrEntry {
                vpn_until,
                direct_until,
                block_until,
                ..
            } = *entry;
            vpn_until.max(direct_until).max(block_until)
        })? + carry(&mut self.names, ebpf, |entry| entry.until)?
            + carry(&mut self.flows, ebpf, seen)?
            + carry(&mut self.direct, ebpf, seen)?)
    }
}

/// A table of a killed run.
#[derive(Debug)]
struct Old<K, V> {
    name: &'static str,
    map: MapData,
    /// What of it was carried over, or found no room.
    known: HashSet<K>,
    lost: usize,
    values: PhantomData<V>,
}

impl<K, V> Old<K, V> {
    fn open(pins: &Pins, which: &[&str], name: &'static str) -> Result<Option<Self>, Error> {
        if !which.contains(&name) {
            return Ok(None);
        }
        Ok(Some(Self {
            name,
            map: super::view::pinned(pins, name)?,
            known: HashSet::new(),
            lost: 0,
            values: PhantomData,
        }))
    }
}

fn carry<K: Pod + Eq + Hash, V: Pod>(
    old: &mut Option<Old<K, V>>,
    ebpf: &Ebpf,
    rank: impl Fn(&V) -> u64,
) -> Result<usize, Error> {
    let Some(old) = old else { return Ok(0) };
    let name = old.name;
    let new = ebpf.map(name).and_then(data);
    let new = new.ok_or(Error::Missing { name })?;
    let failed = |source| in_map(name)(MapError::IoError(source));
    let there: HashSet<K> = read::<K, V>(name, new)?.map(|(key, _)| key).collect();
    let mut fresh: Vec<(K, V)> = read(name, &old.map)?
        .filter(|(key, _)| !there.contains(key) && !old.known.contains(key))
        .collect();
    fresh.sort_by_key(|(_, value)| Reverse(rank(value)));
    old.known.extend(fresh.iter().map(|(key, _)| *key));
    let room = room(name, new)?.saturating_sub(there.len());
    old.lost += fresh.len().saturating_sub(room);
    fresh.truncate(room);
    // Those that count most come last, so that they are the youngest where the oldest are forgotten.
    let (keys, values): (Vec<K>, Vec<V>) = fresh.into_iter().rev().unzip();
    bpf::update_batch(new.fd().as_fd(), &keys, &values).map_err(failed)?;
    Ok(old.lost)
}

fn read<K: Pod, V: Pod>(
    name: &'static str,
    map: &MapData,
) -> Result<impl Iterator<Item = (K, V)> + use<K, V>, Error> {
    let entries = bpf::lookup_batch(map.fd().as_fd(), room(name, map)?);
    let entries: Vec<_> = entries.map_err(|source| in_map(name)(MapError::IoError(source)))?;
    Ok(entries.into_iter())
}

fn room(name: &'static str, map: &MapData) -> Result<usize, Error> {
    let info = map.info().map_err(in_map(name))?;
    Ok(info.max_entries() as usize)
}
