//! What user space finds out of a name, into the tables that the programs learn into.

use std::{collections::HashSet, io};

use aya::{
    Pod,
    maps::{HashMap, MapData, MapError},
};
use steer_common::{
    decide::{self, Match},
    dns, suffix,
    types::{
        AddrEntry, Address, Config, FlowEntry, FlowKey, HelloEntry, Learned, NameEntry, NameKey,
        Origin, QueryEntry, QueryKey, event,
    },
};

use super::{Datapath, error::Error, in_map};

/// `BPF_NOEXIST` and `BPF_EXIST`.
const NEW: u64 = 1;
const THERE: u64 = 2;

/// That a name has an address, and what its rule says.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// The name, without a final dot.
    pub name: &'a str,
    /// What the rules say of it.
    pub matched: Match,
    /// Its address.
    pub address: Address,
    /// For how long, in seconds.
    pub ttl: u32,
    /// How it was found out: one of [`steer_common::types::source`].
    pub source: u32,
    /// Who asked.
    pub origin: Origin,
}

impl Datapath {
    /// Grants an address what an answer of the DNS with it grants, and tells what a program would tell: that the address
    /// had not that verdict before.
    ///
    /// Entries that are there are replaced as a whole, while programs write into them: what one of them wrote between the
    /// look here and the replacement, some microseconds, is lost.
    ///
    /// # Errors
    /// When a table is full or cannot be used.
    pub fn learn(
        &mut self,
        lesson: &Lesson<'_>,
        config: &Config,
        now: u64,
    ) -> Result<Option<Learned>, Error> {
        let Lesson {
            name,
            matched,
            address,
            ttl,
            source,
            origin,
        } = *lesson;
        let until = decide::until(ttl, config, now);
        let mut contested_by = 0;
        let mut news = false;
        replace(
            &mut self.addresses()?,
            address,
            |before: Option<AddrEntry>| {
                let mut entry = before.unwrap_or_default();
                contested_by = entry.contested_by(matched.verdict, now);
                news = entry.learn(&matched, until, now);
                Some(entry)
            },
        )
        .map_err(in_map("ADDRS"))?;

        let (wire, size) = wire(name);
        let by = NameEntry {
            until,
            learned: now,
            rule: matched.rule,
            origin,
            verdict: matched.verdict,
            source,
            ttl,
            size,
            name: wire,
        };
        let key = NameKey {
            address,
            name: suffix::hash_name(&config.key, name),
        };
        replace(&mut self.names()?, key, |before: Option<NameEntry>| {
            Some(NameEntry {
                until: before.map_or(until, |before| before.until.max(until)),
                ..by
            })
        })
        .map_err(in_map("NAMES"))?;
        Ok(news.then_some(Learned {
            kind: event::LEARNED,
            zero: 0,
            contested_by,
            address,
            by,
        }))
    }
}

impl Datapath {
    /// Has addresses that take the VPN at `now` do so at least until then, by all the names that they do it by.
    ///
    /// As with [`Self::learn`], what a program writes at that very moment may be lost: the time of an answer, or a direct
    /// verdict, which decides nothing beside the VPN's.
    ///
    /// # Errors
    /// When a table cannot be used.
    pub fn extend(&mut self, used: &HashSet<Address>, now: u64, until: u64) -> Result<(), Error> {
        let mut addresses = self.addresses()?;
        for address in used {
            replace(&mut addresses, *address, |before: Option<AddrEntry>| {
                let mut entry = before.filter(|entry| entry.vpn_until > now)?;
                entry.vpn_until = entry.vpn_until.max(until);
                Some(entry)
            })
            .map_err(in_map("ADDRS"))?;
        }
        let mut names = self.names()?;
        let keys: Vec<_> = names
            .keys()
            .flatten()
            .filter(|key: &NameKey| used.contains(&key.address))
            .collect();
        for key in keys {
            replace(&mut names, key, |before: Option<NameEntry>| {
                let mut entry =
                    before.filter(|entry| entry.verdict.is_vpn() && entry.until > now)?;
                entry.until = entry.until.max(until);
                Some(entry)
            })
            .map_err(in_map("NAMES"))?;
        }
        Ok(())
    }
}

impl Datapath {
    /// The names that gave an address a verdict, or began flows to it without one.
    ///
    /// # Errors
    /// When the table cannot be used.
    pub fn names_of(&mut self, address: Address) -> Result<Vec<NameEntry>, Error> {
        let names = self.names()?;
        let keys = names.keys().flatten();
        Ok(keys
            .filter(|key| key.address == address)
            .filter_map(|key| names.get(&key, 0).ok())
            .collect())
    }

    /// Looks no more for the name of a connection.
    ///
    /// # Errors
    /// When the table cannot be used.
    pub fn forget_hello(&mut self, key: &FlowKey) -> Result<(), Error> {
        // Gone already is as good.
        let _ = self.hash_mut::<FlowKey, HelloEntry>("HELLOS")?.remove(key);
        Ok(())
    }

    /// Forgets that a flow goes the direct path, so that its next packet decides anew.
    ///
    /// # Errors
    /// When the table cannot be used.
    pub fn forget_direct(&mut self, key: &FlowKey) -> Result<(), Error> {
        // Gone already is as good.
        let _ = self.hash_mut::<FlowKey, FlowEntry>("DIRECT")?.remove(key);
        Ok(())
    }

    /// Lets go of a flow that is held on a path, so that its next packet decides anew.
    ///
    /// # Errors
    /// When the table cannot be used.
    pub fn forget_flow(&mut self, key: &FlowKey) -> Result<(), Error> {
        // Gone already is as good.
        let _ = self.flows()?.remove(key);
        Ok(())
    }

    /// Stops a connection, whose first octet has that sequence number: nothing that its client sends goes on.
    ///
    /// # Errors
    /// When the table cannot be used.
    pub fn stop_hello(&mut self, key: &FlowKey, first: u32) -> Result<(), Error> {
        let entry = HelloEntry {
            state: HelloEntry::STOPPED,
            first,
            ..HelloEntry::default()
        };
        self.hash_mut::<FlowKey, HelloEntry>("HELLOS")?
            .insert(key, entry, 0)
            .map_err(in_map("HELLOS"))
    }

    /// Whether a question about a name is on its way; from now on it is answered.
    ///
    /// # Errors
    /// When the table cannot be used.
    pub fn take_query(&mut self, key: &QueryKey, name: u64, tick: u32) -> Result<bool, Error> {
        let mut queries = self.hash_mut::<QueryKey, QueryEntry>("QUERIES")?;
        let asked = queries
            .get(key, 0)
            .is_ok_and(|query| query.name == name && query.is_awaited(tick));
        if asked {
            // Gone already is as good.
            let _ = queries.remove(key);
        }
        Ok(asked)
    }
}

/// Puts what `entry` makes of the value that is there in its place, if it makes something.
fn replace<K: Pod, V: Pod + PartialEq>(
    map: &mut HashMap<&mut MapData, K, V>,
    key: K,
    mut entry: impl FnMut(Option<V>) -> Option<V>,
) -> Result<(), MapError> {
    loop {
        let before = match map.get(&key, 0) {
            Ok(value) => Some(value),
            Err(MapError::KeyNotFound) => None,
            Err(error) => return Err(error),
        };
        let Some(after) = entry(before) else {
            return Ok(());
        };
        let mode = match before {
            Some(before) if before == after => return Ok(()),
            Some(_) => THERE,
            None => NEW,
        };
        match map.insert(key, after, mode) {
            // A program was faster: what it wrote is to be seen.
            Err(error) if has_changed(&error) => {}
            result => return result,
        }
    }
}

/// Whether an entry came, or went, since it was looked for.
fn has_changed(error: &MapError) -> bool {
    match error {
        MapError::SyscallError(error) => matches!(
            error.io_error.kind(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
        ),
        _ => false,
    }
}

/// A name in wire form without its root, and how many octets of it count.
fn wire(name: &str) -> (dns::Name, u32) {
    let mut octets = [0; size_of::<dns::Name>()];
    let mut size = 0;
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let end = size + 1 + label.len();
        // Longer than any name may be: the rest is left out.
        let (Ok(length), Some(place)) = (u8::try_from(label.len()), octets.get_mut(size..end))
        else {
            break;
        };
        place[0] = length;
        place[1..].copy_from_slice(label.as_bytes());
        size = end;
    }
    let (words, _) = octets.as_chunks();
    let mut name = dns::Name::default();
    for (word, octets) in name.iter_mut().zip(words) {
        *word = u64::from_ne_bytes(*octets);
    }
    (name, u32::try_from(size).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_wire_form() {
        let (name, size) = wire("hub.docker.com");
        let octets: Vec<u8> = name.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(&octets[..15], b"\x03hub\x06docker\x03com");
        assert_eq!((octets[15], size), (0, 15));
        assert_eq!(wire("").1, 0);
        assert_eq!(wire(&"a.".repeat(127)).1, 254);
        assert_eq!(wire(&"a.".repeat(200)).1, 256);
    }
}
