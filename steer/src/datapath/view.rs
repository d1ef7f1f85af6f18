//! What the programs remember, read where it is pinned: beside a run that goes on, and after one that was killed.

use std::{borrow::Borrow, io};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie},
};
use steer_common::{
    stats::Stats,
    types::{
        AddrEntry, Address, Config, FlowEntry, FlowKey, NameEntry, NameKey, NetEntry, ProcessScope,
        RuleEntry, ScopeEntry, ScopeKey,
    },
};

use super::{
    Tables,
    error::Error,
    in_map,
    pins::{Pins, file},
};

/// Bits of an [`Address`].
const BITS: u32 = 128;

/// The pinned maps; nothing is written to them.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) pins: Pins,
    config: Config,
}

impl View {
    /// Looks at what is pinned there; `None` where nothing is.
    ///
    /// # Errors
    /// When another version of steer pinned it, or it may not be read.
    pub fn open(pins: &Pins) -> Result<Option<Self>, Error> {
        match pins.folder().metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file(pins.folder(), "read", source)),
        }
        if !pins.has_layout()? {
            return Err(Error::OtherLayout {
                folder: pins.folder().to_owned(),
            });
        }
        let map = Map::Array(pinned(pins, "CONFIG")?);
        let config = Array::<MapData, Config>::try_from(map)
            .and_then(|map| map.get(&0, 0))
            .map_err(in_map("CONFIG"))?;
        Ok(Some(Self {
            pins: pins.clone(),
            config,
        }))
    }

    /// What user space told the programs last, when this was opened.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters, summed over the CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        PerCpuArray::try_from(Map::PerCpuArray(pinned(&self.pins, "STATS")?))
            .and_then(|map| summed(map, Stats::add))
            .map_err(in_map("STATS"))
    }

    /// The rules in force by the hash of their domains.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn rules(&self) -> Result<Table<u64, RuleEntry>, Error> {
        self.table("RULES")
    }

    /// What the rules for networks say of an address, by the longest prefix.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn net(&self, address: Address) -> Result<Option<NetEntry>, Error> {
        let map = Map::LpmTrie(pinned(&self.pins, "NETS")?);
        let found = LpmTrie::<MapData, Address, NetEntry>::try_from(map)
            .and_then(|map| map.get(&lpm_trie::Key::new(BITS, address), 0));
        there(found).map_err(in_map("NETS"))
    }

    /// Whether an address is the host's own or one of its containers'.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn is_home(&self, address: Address) -> Result<bool, Error> {
        let map = Map::LpmTrie(pinned(&self.pins, "HOME")?);
        let found = LpmTrie::<MapData, Address, u32>::try_from(map)
            .and_then(|map| map.get(&lpm_trie::Key::new(BITS, address), 0));
        Ok(there(found).map_err(in_map("HOME"))?.is_some())
    }

    /// The addresses learned.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn addresses(&self) -> Result<Table<Address, AddrEntry>, Error> {
        self.table("ADDRS")
    }

    /// By which names they were learned.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn names(&self) -> Result<Table<NameKey, NameEntry>, Error> {
        self.table("NAMES")
    }

    /// How much room the tables have.
    ///
    /// # Errors
    /// When a map does not tell.
    pub fn tables(&self) -> Result<Tables, Error> {
        let room = |name| {
            let info = pinned(&self.pins, name)?.info();
            Ok(info.map_err(in_map(name))?.max_entries())
        };
        Ok(Tables {
            addresses: room("ADDRS")?,
            flows: room("FLOWS")?,
        })
    }

    /// The flows that keep a path: those on the VPN, and of scopes those on the direct path too.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn flows(&self) -> Result<Table<FlowKey, FlowEntry>, Error> {
        self.table("FLOWS")
    }

    /// In which scope bridges and containers are, as user space has said last.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn scopes(&self) -> Result<Table<ScopeKey, ScopeEntry>, Error> {
        self.table("SCOPES")
    }

    /// In which scope processes are, by the ids of cgroups, likewise.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn processes(&self) -> Result<Table<u64, ProcessScope>, Error> {
        self.table("CGROUPS")
    }

    fn table<K: Pod, V: Pod>(&self, name: &'static str) -> Result<Table<K, V>, Error> {
        let map = Map::HashMap(pinned(&self.pins, name)?);
        let map = HashMap::try_from(map).map_err(in_map(name))?;
        Ok(Table { name, map })
    }
}

/// A pinned table.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// The value of a key, if it is there.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn get(&self, key: &K) -> Result<Option<V>, Error> {
        there(self.map.get(key, 0)).map_err(in_map(self.name))
    }

    /// All that is in it. What comes or goes meanwhile may be missing.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.map.iter().flatten()
    }
}

/// The one value of an array, summed over the CPUs.
pub(super) fn summed<V: Pod + Default>(
    map: PerCpuArray<impl Borrow<MapData>, V>,
    add: impl Fn(&mut V, &V),
) -> Result<V, MapError> {
    let mut sum = V::default();
    map.get(&0, 0)?.iter().for_each(|cpu| add(&mut sum, cpu));
    Ok(sum)
}

fn there<V>(found: Result<V, MapError>) -> Result<Option<V>, MapError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn pinned(pins: &Pins, name: &'static str) -> Result<MapData, Error> {
    let path = pins.map(name);
    MapData::from_pin(&path).map_err(|source| Error::Pinned {
        path,
        source: Box::new(source),
    })
}
