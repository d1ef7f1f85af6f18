//! How long an address stays known: while flows to it live, and no longer than that once its answers have expired.

use std::collections::{HashMap, HashSet};

use steer_common::{
    decide::Match,
    stats::Outcome,
    types::{AddrEntry, Address, NameEntry},
};

use super::{
    Engine, Error,
    anew::THERE,
    sockets,
    upkeep::{GRACE, SECOND, monotonic},
};

/// An address that expires before this is looked at; more than from one look to the next.
const SOON: u64 = 60 * SECOND;
/// What has expired is a miss already; it is only removed later, when an answer hardly refreshes it at that very moment.
pub(super) const EXPIRED_LONG: u64 = 600 * SECOND;
/// And this much later where a table is full.
pub(super) const EXPIRED: u64 = 60 * SECOND;

impl Engine {
    /// Has the addresses of the VPN that are about to expire stay while flows use them: connections over a bridge, and
    /// processes' sockets, idle or not.
    pub(super) fn keep_used(&mut self) -> Result<(), Error> {
        let now = monotonic();
        let ending: HashSet<Address> = self
            .datapath
            .all_addresses()?
            .into_iter()
            .filter(|(_, entry)| (now..now + SOON).contains(&entry.vpn_until))
            .map(|(address, _)| address)
            .collect();
        if ending.is_empty() {
            return Ok(());
        }
        let tick = self.config.tick;
        let mut used: HashSet<_> = self
            .datapath
            .all_flows()?
            .into_iter()
            .filter(|(key, entry)| entry.path.is_vpn() && !entry.is_over(key.protocol, tick))
            .map(|(key, _)| key.remote)
            .filter(|remote| ending.contains(remote))
            .collect();
        if used.len() < ending.len() {
            let sockets =
                sockets::remotes(&self.config).map_err(|errno| Error::Sockets(errno.into()))?;
            used.extend(sockets.into_iter().filter(|remote| ending.contains(remote)));
        }
        if !used.is_empty() {
            self.datapath.extend(&used, now, now + GRACE)?;
        }
        tracing::debug!(
            "{} of {} addresses stay while flows use them",
            used.len(),
            ending.len()
        );
        Ok(())
    }

    /// Has addresses take the VPN that their names mean now: what a name for a certain one was granted may have ended, while the
    /// address goes on by another's, for the programs prolong the entry as a whole rather than let the address go direct.
    pub(super) fn follow_names(&mut self) -> Result<(), Error> {
        // A name that found no room may have meant the VPN that an address has.
        let lacks_names = self.datapath.stats()?.counter(Outcome::NamesFull) != 0;
        if self.settings.vpns.len() < 2 || lacks_names {
            return Ok(());
        }
        let now = monotonic();
        // Addresses first: a program writes an address before its name.
        let held: HashMap<Address, AddrEntry> = self
            .datapath
            .all_addresses()?
            .into_iter()
            .filter(|(_, entry)| entry.vpn_until > now && entry.vpn.named().is_vpn())
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        let mut names: HashMap<Address, Vec<Match>> = HashMap::new();
        for (key, entry) in self.datapath.all_names()? {
            let NameEntry { verdict, rule, .. } = entry;
            if entry.until > now && verdict.is_vpn() && held.contains_key(&key.address) {
                let of = names.entry(key.address).or_default();
                of.push(Match { verdict, rule });
            }
        }
        let mut addresses = self.datapath.addresses()?;
        for (address, names) in names {
            let seen = held[&address];
            let Some(Match { verdict, rule }) = instead(&seen, &names) else {
                continue;
            };
            // What a program has written since is newer.
            if addresses.get(&address, 0).is_ok_and(|entry| entry == seen) {
                let entry = AddrEntry {
                    vpn: verdict,
                    vpn_rule: rule,
                    ..seen
                };
                // It may have gone, which is as good.
                let _ = addresses.insert(address, entry, THERE);
            }
        }
        Ok(())
    }

    /// Removes addresses and names that expired that long ago.
    pub(super) fn make_room(&mut self, long: u64) -> Result<(), Error> {
        let now = monotonic();
        let before = now.saturating_sub(long);
        let mut addresses = self.datapath.addresses()?;
        let has_ended = |entry: &AddrEntry| last(entry) < before;
        let expired: Vec<_> = addresses
            .iter()
            .flatten()
            .filter_map(|(address, entry)| has_ended(&entry).then_some(address))
            .collect();
        for address in &expired {
            // Whoever was learned anew since stays; gone already is as good.
            if addresses
                .get(address, 0)
                .is_ok_and(|entry| has_ended(&entry))
            {
                let _ = addresses.remove(address);
            }
        }
        let mut names = self.datapath.names()?;
        let has_ended = |entry: &NameEntry| entry.until < before;
        let forgotten: Vec<_> = names
            .iter()
            .flatten()
            .filter_map(|(key, entry)| has_ended(&entry).then_some(key))
            .collect();
        for key in &forgotten {
            if names.get(key, 0).is_ok_and(|entry| has_ended(&entry)) {
                let _ = names.remove(key);
            }
        }
        tracing::debug!(
            "{} addresses and {} names that had expired made room",
            expired.len(),
            forgotten.len()
        );
        Ok(())
    }
}

/// When the last of what an address was granted ends.
fn last(entry: &AddrEntry) -> u64 {
    let granted = entry.vpn_until.max(entry.direct_until);
    granted.max(entry.block_until)
}

/// The rule that an address takes a VPN by from now on, by the names that are granted; none where it stays as it is.
fn instead(seen: &AddrEntry, names: &[Match]) -> Option<Match> {
    if names.iter().any(|it| it.verdict == seen.vpn) {
        return None;
    }
    let named = names.iter().find(|it| it.verdict.named().is_vpn());
    named.or(names.first()).copied()
}

#[cfg(test)]
mod tests {
    use steer_common::types::{Path, Verdict};

    use super::*;

    #[test]
    fn a_vpn_that_no_name_means_any_more_gives_way_to_those_that_are_meant() {
        let by = |verdict, rule| Match { verdict, rule };
        let any = by(Verdict::VPN, 1);
        let [first, second] = [1, 2].map(|number| by(Verdict::by(Path::vpn(number)), 2));
        let mut seen = AddrEntry::default();
        seen.begin(&first, 10);
        seen.learn(&any, 20, 5);
        for (names, taken) in [
            (&[any, first][..], None),
            (&[any, second, first], None),
            (&[any], Some(any)),
            (&[any, second], Some(second)),
            // For them there was no room.
            (&[], None),
        ] {
            assert_eq!(instead(&seen, names), taken, "{names:?}");
        }
    }
}
