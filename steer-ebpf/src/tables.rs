//! The maps as the decisions see them.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use steer_common::{
    decide::{Match, Tables},
    stats::Outcome,
    types::{Address, Config, FlowEntry, FlowKey, Steered, event},
};

use crate::maps::{ADDRS, DIRECT, EVENTS, FLOWS, count};

/// `BPF_ANY`.
pub const ANY: u64 = 0;

/// The maps, under the configuration of the moment.
pub struct Maps {
    pub config: &'static Config,
}

impl Maps {
    #[inline(always)]
    fn fresh(&self) -> FlowEntry {
        FlowEntry {
            seen: self.config.tick,
            closing: 0,
        }
    }

    /// Writes only what changed: the entry is shared by all CPUs that carry the flow.
    #[inline(always)]
    fn touch(&self, entry: *mut FlowEntry) -> FlowEntry {
        let tick = self.config.tick;
        // SAFETY: an entry of a map stays readable and writable until the program ends, deleted or not.
        unsafe {
            if (*entry).seen != tick {
                (*entry).seen = tick;
            }
            *entry
        }
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn held(&self, key: &FlowKey) -> Option<FlowEntry> {
        FLOWS.get_ptr_mut(key).map(|entry| self.touch(entry))
    }

    #[inline(always)]
    fn left(&self, key: &FlowKey) -> bool {
        DIRECT.get_ptr_mut(key).is_some()
    }

    #[inline(always)]
    fn address(&self, address: &Address) -> Match {
        match ADDRS.get_ptr(address) {
            // SAFETY: as above; the time is taken only for an address that is known.
            Some(entry) => unsafe { (*entry).at(bpf_ktime_get_ns()) },
            None => Match::default(),
        }
    }

    #[inline(always)]
    fn hold(&self, key: &FlowKey) -> bool {
        FLOWS.insert(key, self.fresh(), ANY).is_ok()
    }

    #[inline(always)]
    fn leave(&self, key: &FlowKey) {
        // The kernel makes room by forgetting the flow that was silent longest, so this fails only under contention,
        // and then the next packet decides anew.
        let _ = DIRECT.insert(key, self.fresh(), ANY);
    }

    #[inline(always)]
    fn close(&self, key: &FlowKey) {
        if let Some(entry) = FLOWS.get_ptr_mut(key) {
            // SAFETY: as above.
            unsafe { (*entry).closing = 1 };
        }
    }

    #[inline(always)]
    fn release(&self, key: &FlowKey) {
        // Gone already is as good.
        let _ = FLOWS.remove(key);
    }

    #[inline(always)]
    fn tell(&self, key: &FlowKey, matched: &Match) {
        let Some(mut event) = EVENTS.reserve_untyped::<Steered>(0) else {
            count(Outcome::EventLost);
            return;
        };
        event.write(Steered {
            kind: event::STEERED,
            protocol: key.protocol,
            origin: key.origin,
            rule: matched.rule,
            local: key.local,
            remote: key.remote,
            local_port: key.local_port,
            remote_port: key.remote_port,
            zero: 0,
        });
        event.submit(0);
    }
}
