//! What keeps the tables fit: flows that ended and addresses that expired make room.

use steer_common::{
    packet::TCP,
    types::{AddrEntry, FlowEntry, FlowKey, TICK_SECONDS},
};

use super::{Engine, Error};

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds that an address lives at least: a client may take that long from the answer to the connection.
pub(super) const FLOOR: u64 = 60 * SECOND;
/// Nanoseconds beyond the TTL: clients cache answers, and dockerd connects again for each layer.
pub(super) const GRACE: u64 = 300 * SECOND;

/// Ticks after its last packet that a flow is forgotten: of TCP as long as the kernel's connection tracking waits
/// (`nf_conntrack_tcp_timeout_established`), once it is closing two minutes, and of UDP three minutes
/// (`nf_conntrack_udp_timeout_stream`).
const TCP_TICKS: u32 = ticks(432_000);
const CLOSING_TICKS: u32 = ticks(120);
const UDP_TICKS: u32 = ticks(180);
/// An address that expired is a miss already; it is only removed long after, when no answer refreshes it at that
/// moment.
const EXPIRED_LONG: u64 = 3600 * SECOND;
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
            .filter(|(key, entry)| is_over(key, entry, tick))
            .map(|(key, _)| key)
            .collect();
        for key in &ended {
            // Gone already is as good.
            let _ = flows.remove(key);
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
                let _ = addresses.remove(address);
            }
            tracing::debug!("{} addresses that had expired made room", expired.len());
        }
        tracing::debug!("{} flows that had ended made room", ended.len());
        Ok(())
    }
}

fn is_over(key: &FlowKey, entry: &FlowEntry, tick: u32) -> bool {
    let age = tick.wrapping_sub(entry.seen);
    // A packet may have been seen after the tick was read.
    if age > u32::MAX / 2 {
        return false;
    }
    age >= match (key.protocol, entry.closing) {
        (TCP, 0) => TCP_TICKS,
        (TCP, _) => CLOSING_TICKS,
        _ => UDP_TICKS,
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
fn monotonic() -> u64 {
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
    fn flows_are_over_by_protocol_and_state() {
        let key = |protocol| FlowKey {
            protocol,
            ..FlowKey::default()
        };
        let entry = |seen, closing| FlowEntry { seen, closing };
        for (protocol, seen, closing, tick, over) in [
            (17, 100, 0, 117, false),
            (17, 100, 0, 118, true),
            (6, 100, 0, 118, false),
            (6, 100, 0, 100 + TCP_TICKS, true),
            (6, 100, 1, 111, false),
            (6, 100, 1, 112, true),
            (17, 101, 0, 100, false),
            (17, u32::MAX - 1, 0, 16, true),
            (17, u32::MAX - 1, 0, 15, false),
        ] {
            assert_eq!(
                is_over(&key(protocol), &entry(seen, closing), tick),
                over,
                "{protocol} seen {seen} closing {closing} at {tick}"
            );
        }
    }

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
