//! In which scope a container is, as user space has said.

use steer_common::{
    stats::Outcome,
    types::{ScopeEntry, ScopeKey, Waits, event},
};

use crate::{
    maps::{EVENTS, SCOPES, count},
    tables::NEW,
};

/// The scope of a container; unknown where user space has not said, which is then told once.
#[inline(always)]
pub fn of(mut key: ScopeKey) -> ScopeEntry {
    let address = core::mem::take(&mut key.address);
    let Some(bridge) = SCOPES.get_ptr(&key) else {
        return waits(&key);
    };
    // SAFETY: an element of a map stays readable until the program ends.
    let bridge = unsafe { *bridge };
    if bridge.default != ScopeEntry::EACH {
        return bridge;
    }
    key.address = address;
    match SCOPES.get_ptr(&key) {
        // SAFETY: as above.
        Some(container) => unsafe { *container },
        None => waits(&key),
    }
}

/// Noted as unknown, so that it is told once; without room it is not even told.
#[inline(always)]
fn waits(key: &ScopeKey) -> ScopeEntry {
    let unknown = ScopeEntry::default();
    if SCOPES.insert(key, unknown, NEW).is_err() {
        return unknown;
    }
    let Some(mut event) = EVENTS.reserve_untyped::<Waits>(0) else {
        count(Outcome::EventLost);
        return unknown;
    };
    event.write(Waits {
        kind: event::WAITS,
        zero: 0,
        who: *key,
    });
    event.submit(0);
    unknown
}
