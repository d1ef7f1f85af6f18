//! What keeps the tables fit: flows that ended and addresses that expired make room.

use steer_common::types::{AddrEntry, TICK_SECONDS};

use super::{Engine, Error};

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds that an address lives at least: a client may take that long from the answer to the connection.
pub(super) const FLOOR: u64 = 60 * SECOND;
/// Nanoseconds beyond the TTL: clients cache answers, and dockerd connects again for each layer.
pub(super) const GRACE: u64 = 300 * SECOND;

/// An address that expired is a miss already; it is only removed later, when an answer hardly refreshes it at that very
/// moment.
const EXPIRED_LONG: u64 = 600 * SECOND;
/// Ticks from one look at the addresses to the next.
const ADDRESS_TICKS: u32 = ticks(600);

impl Engine {
    /// Counts the tick on and makes room.
    pub(super) fn upkeep(&mut self) -> Result<(), Error> {
        self.config.tick = self.config.tick.wrapping_add(1);
        self.datapath.configure(&self.config)?;
        let tick = self.config.tick;

        let mut flows = self.datapath.flows()?;
        let ended: Vec<_> = flows
            .iter()
            .flatten()
            .filter(|(key, entry)| entry.is_over(key.protocol, tick))
            .map(|(key, _)| key)
            .collect();
        for key in &ended {
            // A packet may have come since the table was read. Gone already is as good.
            if flows
                .get(key, 0)
                .is_ok_and(|entry| entry.is_over(key.protocol, tick))
            {
                let _ = flows.remove(key);
            }
        }
        if tick.is_multiple_of(ADDRESS_TICKS) {
            let now = monotonic();
            let mut addresses = self.datapath.addresses()?;
            let expired: Vec<_> = addresses
                .iter()
                .flatten()
                .filter(|(_, entry)| is_expired_long(entry, now))
                .map(|(address, _)| address)
                .collect();
            for address in &expired {
                if addresses
                    .get(address, 0)
                    .is_ok_and(|entry| is_expired_long(&entry, now))
                {
                    let _ = addresses.remove(address);
                }
            }
            tracing::debug!("{} addresses that had expired made room", expired.len());
        }
        tracing::debug!("{} flows that had ended made room", ended.len());
        Ok(())
    }
}

fn is_expired_long(entry: &AddrEntry, now: u64) -> bool {
    entry
        .vpn_until
        .max(entry.direct_until)
        .saturating_add(EXPIRED_LONG)
        < now
}

/// Nanoseconds of the clock that `bpf_ktime_get_ns` reads.
pub(super) fn monotonic() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    time.map_or(0, |time| {
        std::time::Duration::from(time)
            .as_nanos()
            .try_into()
            .unwrap_or(u64::MAX)
    })
}

const fn ticks(seconds: u64) -> u32 {
    (seconds / TICK_SECONDS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_one_verdict_keeps_alive_stays() {
        let entry = AddrEntry {
            vpn_until: 10,
            direct_until: 20,
            ..AddrEntry::default()
        };
        assert!(!is_expired_long(&entry, 20 + EXPIRED_LONG));
        assert!(is_expired_long(&entry, 21 + EXPIRED_LONG));
    }
}
