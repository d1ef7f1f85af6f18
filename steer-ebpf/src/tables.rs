//! The maps as the decisions see them.

use aya_ebpf::{btf_maps::lpm_trie::Key, helpers::bpf_ktime_get_ns};
use steer_common::{
    decide::{Match, Tables},
    packet::Place,
    stats::Outcome,
    types::{
        Address, Config, FlowEntry, FlowKey, NetEntry, Origin, Path, ScopeEntry, ScopeKey, Steered,
        Verdict, event,
    },
};

use crate::{
    maps::{ADDRS, DIRECT, EVENTS, FLOWS, HOME, NETSETS, count},
    scopes,
};

/// Bits of a whole address.
pub const ADDRESS_BITS: u32 = 128;

/// `BPF_ANY`.
pub const ANY: u64 = 0;
/// `BPF_NOEXIST`.
pub const NEW: u64 = 1;

/// The maps, under the configuration of the moment.
pub struct Maps {
    pub config: &'static Config,
}

impl Maps {
    /// While a VPN is down and the user lets its flows go direct, they begin as direct ones and stay so.
    #[inline(always)]
    fn allowed(&self, mut matched: Match, vpn: Path) -> Match {
        if matched.verdict.is_vpn() {
            let vpn = self.config.meant(matched.verdict, vpn);
            matched.verdict = if self.config.vpn(vpn).open != 0 {
                Verdict::DIRECT
            } else {
                Verdict::by(vpn)
            };
        }
        matched
    }

    /// What a rule for networks says of an address.
    #[inline(always)]
    pub fn network(&self, address: &Address) -> Match {
        if self.config.nets != 0
            && address.is_steerable()
            && let Some(nets) = NETSETS.get(0)
            && let Some(net) = nets.get(&Key::new(ADDRESS_BITS, *address))
        {
            let NetEntry { rule, verdict, .. } = *net;
            return Match { verdict, rule };
        }
        Match::default()
    }

    /// Takes a packet into account. Writes only what changed: the entry is shared by all CPUs that carry the flow.
    #[inline(always)]
    fn touch(&self, entry: *mut FlowEntry, place: Place) -> FlowEntry {
        // SAFETY: an element of a map stays readable and writable until the program ends. If user space removed it a
        // moment ago it may be another flow's by now, which then counts as seen a packet too many.
        unsafe {
            let before = *entry;
            let after = before.after(place, self.config.tick);
            if after != before {
                *entry = after;
            }
            before
        }
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn held(&self, key: &FlowKey, place: Place) -> Option<FlowEntry> {
        FLOWS.get_ptr_mut(key).map(|entry| self.touch(entry, place))
    }

    #[inline(always)]
    fn left(&self, key: &FlowKey) -> bool {
        DIRECT.get_ptr_mut(key).is_some_and(|entry| {
            // SAFETY: an element of a map stays readable until the program ends.
            if unsafe { (*entry).state } == FlowEntry::REFUSED {
                return false;
            }
            let before = self.touch(entry, Place::Unknown);
            !before.is_over(key.protocol, self.config.tick)
        })
    }

    #[inline(always)]
    fn address(&self, address: &Address, vpn: Path) -> Match {
        let by_network = self.network(address);
        if by_network.verdict != Verdict::NONE {
            return self.allowed(by_network, vpn);
        }
        match ADDRS.get_ptr(address) {
            // SAFETY: an element of a map stays readable until the program ends; the time is taken only for an address that is known.
            Some(entry) => self.allowed(unsafe { (*entry).at(bpf_ktime_get_ns()) }, vpn),
            None => Match::default(),
        }
    }

    #[inline(always)]
    fn scope(&self, origin: Origin, address: &Address) -> ScopeEntry {
        let mut scope = if self.config.scopes == 0 {
            ScopeEntry::NONE
        } else {
            scopes::of(ScopeKey {
                bridge: origin as u32,
                zero: 0,
                address: *address,
            })
        };
        scope.path = scope.path.or(self.config.default);
        scope
    }

    #[inline(always)]
    fn has_scopes(&self) -> bool {
        self.config.scopes != 0
    }

    #[inline(always)]
    fn is_home(&self, address: &Address) -> bool {
        HOME.get(&Key::new(ADDRESS_BITS, *address)).is_some()
    }

    #[inline(always)]
    fn hold(&self, key: &FlowKey, path: Path) -> bool {
        FLOWS
            .insert(key, FlowEntry::new(self.config.tick, path), ANY)
            .is_ok()
    }

    #[inline(always)]
    fn leave(&self, key: &FlowKey) {
        // The kernel makes room by forgetting the flow that was silent longest, so this fails only under contention,
        // and then the next packet decides anew.
        let _ = DIRECT.insert(key, FlowEntry::new(self.config.tick, Path::DIRECT), ANY);
    }

    #[inline(always)]
    fn release(&self, key: &FlowKey) {
        // Gone already is as good.
        let _ = FLOWS.remove(key);
    }

    #[inline(always)]
    fn tell(&self, key: &FlowKey, matched: &Match, path: Path, scope: u32) {
        told(event::STEERED, key, matched.rule, path, scope, 0);
    }

    #[inline(always)]
    fn refuse(&self, key: &FlowKey, matched: &Match, sequence: u32) {
        if let Some(entry) = DIRECT.get_ptr(key) {
            // SAFETY: an element of a map stays readable until the program ends.
            let FlowEntry { seen, state, .. } = unsafe { *entry };
            if state == FlowEntry::REFUSED && seen == self.config.tick {
                return;
            }
        }
        let entry = FlowEntry {
            state: FlowEntry::REFUSED,
            ..FlowEntry::new(self.config.tick, Path::DIRECT)
        };
        // Without it the next packet is told of as well.
        let _ = DIRECT.insert(key, entry, ANY);
        let rule = matched.rule;
        told(event::REFUSED, key, rule, Path::DIRECT, 0, sequence);
    }
}

/// Tells user space of a flow that begins.
#[inline(always)]
fn told(kind: u32, key: &FlowKey, rule: u64, path: Path, scope: u32, sequence: u32) {
    let Some(mut event) = EVENTS.reserve_untyped::<Steered>(0) else {
        count(Outcome::EventLost);
        return;
    };
    event.write(Steered {
        kind,
        protocol: key.protocol,
        origin: key.origin,
        rule,
        local: key.local,
        remote: key.remote,
        local_port: key.local_port,
        remote_port: key.remote_port,
        scope,
        path,
        sequence,
    });
    event.submit(0);
}
