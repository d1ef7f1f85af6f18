//! What a killed run left pinned, taken over by the next one.
//!
//! The tables go on: what was learned, and the flows. Configuration and rules are new maps, which the new programs alone
//! know; a hook has the old programs with the old rules, or the new ones with the new, at any moment.

use std::fmt;

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapInfo},
};
use steer_common::types::Config;

use super::{Datapath, Tables, error::Error, maps::kept, pins::Left, scopes::Scopes};
use crate::host::NetnsCookie;

/// What there is of a killed run.
#[derive(Debug)]
pub enum Legacy {
    /// Nothing is pinned.
    None,
    /// Its maps are as this binary makes them, and were used with this configuration; whether tables among them have other room
    /// than is asked for now.
    Fit(Left, Box<Config>, bool),
    /// They are not.
    Unfit(Left, Unfit),
}

/// Why maps that are there cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// They belong to a binary that means other things by them, or were not pinned to the end.
    Layout,
    /// A map has keys, values or a fixed room that this binary's has not.
    Map(&'static str),
    /// Sockets and interfaces go by other numbers there.
    Netns,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str("another version of steer made it"),
            Self::Map(name) => write!(f, "its map {name} is not made as this version makes it"),
            Self::Netns => f.write_str("it is of another network namespace"),
        }
    }
}

/// How much was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Addresses with a verdict.
    pub addresses: usize,
    /// Flows on the VPN.
    pub flows: usize,
    /// Whether the tables were made with other room than is asked for now.
    pub other_room: bool,
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            addresses,
            flows,
            other_room,
        } = self;
        write!(
            f,
            "adopted what a killed run left: {addresses} {}, {flows} {}",
            if *addresses == 1 {
                "address"
            } else {
                "addresses"
            },
            if *flows == 1 { "flow" } else { "flows" },
        )?;
        if *other_room {
            write!(
                f,
                "; its tables keep the room that they have: stop steer, or steer cleanup, then start it for that of [tables]"
            )?;
        }
        Ok(())
    }
}

impl Legacy {
    /// Compares what was left with what this object makes for itself, in the network namespace with that cookie.
    pub(super) fn of(left: Left, own: &Ebpf, netns: Option<NetnsCookie>) -> Self {
        match configuration(&left, own) {
            Ok((config, _))
                if config.netns != 0 && netns.is_some_and(|own| own.0 != config.netns) =>
            {
                Self::Unfit(left, Unfit::Netns)
            }
            Ok((config, other_room)) => Self::Fit(left, Box::new(config), other_room),
            Err(unfit) => Self::Unfit(left, unfit),
        }
    }

    /// What to go on with.
    pub(super) fn left(&self) -> Option<&Left> {
        match self {
            Self::Fit(left, ..) => Some(left),
            Self::None | Self::Unfit(..) => None,
        }
    }

    /// The configuration that the maps to go on with were used with.
    pub fn config(&self) -> Option<Config> {
        match self {
            Self::Fit(_, config, _) => Some(**config),
            Self::None | Self::Unfit(..) => None,
        }
    }

    /// In which scopes bridges and containers were; none where nobody was, or that cannot be read any more.
    pub fn scopes(&self) -> Scopes {
        let Self::Fit(left, config, _) = self else {
            return Scopes::new();
        };
        let map = MapData::from_pin(left.pins().map("SCOPES"));
        match map.and_then(|map| HashMap::try_from(Map::HashMap(map))) {
            Ok(map) if config.scopes != 0 => map.iter().flatten().collect(),
            _ => Scopes::new(),
        }
    }
}

impl Datapath {
    /// Counts what is left to go on with.
    ///
    /// # Errors
    /// When the tables cannot be used.
    pub fn take_stock(&mut self) -> Result<Inherited, Error> {
        Ok(Inherited {
            addresses: self.addresses()?.keys().flatten().count(),
            flows: self.flows()?.keys().flatten().count(),
            other_room: self.other_room,
        })
    }
}

/// The configuration that was left, if it and the tables are such as this object has, and whether any of them has other room.
fn configuration(left: &Left, own: &Ebpf) -> Result<(Config, bool), Unfit> {
    if !left.has_layout() {
        return Err(Unfit::Layout);
    }
    let mut other_room = false;
    for name in kept().chain(["CONFIG"]) {
        let ours = own.map(name).and_then(data).and_then(|map| map.info().ok());
        let (Some(theirs), Some(ours)) = (left.map(name), ours) else {
            return Err(Unfit::Map(name));
        };
        if shape(&theirs) != shape(&ours) {
            return Err(Unfit::Map(name));
        }
        if theirs.max_entries() != ours.max_entries() {
            let is_chosen = |(sized, _): &(&str, u32)| *sized == name;
            if !Tables::default().of_maps().iter().any(is_chosen) {
                return Err(Unfit::Map(name));
            }
            other_room = true;
        }
    }
    let config = MapData::from_pin(left.pins().map("CONFIG"))
        .and_then(|map| Array::<_, Config>::try_from(Map::Array(map))?.get(&0, 0))
        .map_err(|_| Unfit::Map("CONFIG"))?;
    Ok((config, other_room))
}

/// What two maps must have in common, besides their room, for one to stand for the other.
fn shape(map: &MapInfo) -> (Option<u32>, u32, u32, u32) {
    (
        map.map_type().ok().map(|kind| kind as u32),
        map.key_size(),
        map.value_size(),
        map.map_flags(),
    )
}

/// What is behind a map of one of the kinds that steer has.
pub(super) fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}
