//! What keeps the tables fit: flows that ended and addresses that expired make room.

use steer_common::{
    stats::{Outcome, Stats},
    types::TICK_SECONDS,
};

use super::{
    Engine, Error,
    lifetimes::{EXPIRED, EXPIRED_LONG},
};

pub(super) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds that an address lives at least: a client may take that long from the answer to the connection.
pub(super) const FLOOR: u64 = 60 * SECOND;
/// Nanoseconds beyond the TTL: clients cache answers, and dockerd connects again for each layer.
pub(super) const GRACE: u64 = 300 * SECOND;

/// Nanoseconds for which it is counted who has to do with whom once somebody has asked for it.
const WATCHED: u64 = 15 * SECOND;

/// Ticks from one look at the addresses to the next.
const ADDRESS_TICKS: u32 = ticks(600);

impl Engine {
    /// Counts the tick on and makes room.
    pub(super) fn upkeep(&mut self) -> Result<(), Error> {
        self.config.tick = self.config.tick.wrapping_add(1);
        self.datapath.configure(&self.config)?;
        let tick = self.config.tick;

        let ended: Vec<_> = self
            .datapath
            .all_flows()?
            .into_iter()
            .filter(|(key, entry)| entry.is_over(key.protocol, tick))
            .map(|(key, _)| key)
            .collect();
        let mut flows = self.datapath.flows()?;
        for key in &ended {
            // A packet may have come since the table was read. Gone already is as good.
            if flows
                .get(key, 0)
                .is_ok_and(|entry| entry.is_over(key.protocol, tick))
            {
                let _ = flows.remove(key);
            }
        }
        tracing::debug!("{} flows that had ended made room", ended.len());
        self.keep_used()?;
        self.follow_names()?;
        if tick.is_multiple_of(ADDRESS_TICKS) {
            self.make_room(EXPIRED_LONG)?;
        }
        Ok(())
    }

    /// Tells the programs that what they hold is read.
    pub(super) fn is_here(&mut self) -> Result<(), Error> {
        self.config.heard = monotonic();
        if self.config.watched < self.config.heard {
            self.config.watched = 0;
        }
        Ok(self.datapath.configure(&self.config)?)
    }

    /// Has counted who has to do with whom, until nobody has asked for it for a while.
    pub(super) fn watched(&mut self) -> Result<(), Error> {
        self.config.watched = monotonic() + WATCHED;
        Ok(self.datapath.configure(&self.config)?)
    }

    /// Makes room at once where a table was full since `before`.
    pub(super) fn relieve(&mut self, before: &Stats, now: &Stats) -> Result<(), Error> {
        let full = [Outcome::AddrsFull, Outcome::NamesFull]
            .iter()
            .any(|&outcome| before.counter(outcome) != now.counter(outcome));
        if full {
            self.make_room(EXPIRED)?;
        }
        Ok(())
    }
}

/// Nanoseconds of the clock that `bpf_ktime_get_ns` reads.
pub(crate) fn monotonic() -> u64 {
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
