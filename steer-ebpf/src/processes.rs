//! Scopes of processes: by the cgroups that they are in, as user space has said.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_skb_ancestor_cgroup_id},
};
use steer_common::{
    packet::{Packet, UDP},
    process::{self, isolates},
    scope::asks,
    stats::Outcome,
    types::{Address, Config, LedKey, Origin, ProcessScope},
};

use crate::{
    LOOPBACK,
    maps::{CGROUPS, ELSEWHERE, LED, Slot, YOUNG, config},
    skb::Skb,
    tables::{ANY, Maps},
    turns::turns,
};

/// Levels of the hierarchy that a scope's cgroup may be on; its processes may be deeper.
const LEVELS: u32 = 32;

/// The scope of the process that runs.
#[inline(always)]
pub fn current(config: &Config) -> Option<&'static ProcessScope> {
    // SAFETY: the helper takes a number.
    let ancestor = |level| unsafe { bpf_get_current_ancestor_cgroup_id(level) };
    (config.processes != 0).then(|| deepest(ancestor)).flatten()
}

/// The scope of the process whose socket sends or receives a packet.
#[inline(always)]
fn of(skb: *mut __sk_buff) -> Option<&'static ProcessScope> {
    // SAFETY: the kernel hands the program a valid context.
    deepest(|level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) })
}

/// Of the scopes that somebody is in, the one whose cgroup lies below the others'.
#[inline(always)]
fn deepest(ancestor: impl Fn(i32) -> u64) -> Option<&'static ProcessScope> {
    let mut found = None;
    for (level, ()) in (0..).zip(turns(LEVELS)) {
        let id = ancestor(level);
        if id == 0 {
            break;
        }
        // SAFETY: an element of a map stays readable until the program ends; user space replaces elements and does not write
        // into them.
        found = unsafe { CGROUPS.get(&id) }.or(found);
    }
    found
}

/// Whether the questions of the process that sends a packet are led to a resolver of its scope.
#[inline(always)]
pub fn leads(skb: Skb) -> bool {
    let scoped = config().is_ok_and(|config| config.processes != 0);
    scoped && is_led(skb.context()) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_led(skb: *mut __sk_buff) -> u32 {
    of(skb).map_or(0, |scope| scope.entry.dns)
}

/// The number of the VPN of the scope of the process that sends a packet; zero if it is in none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vpn_of(skb: *mut __sk_buff) -> u32 {
    let scoped = config().is_ok_and(|config| config.processes != 0);
    match scoped.then(|| of(skb)).flatten() {
        Some(scope) => scope.entry.path.number(),
        None => 0,
    }
}

/// A packet that a process sends; an error if it may not leave by the interface that it is on.
#[inline(always)]
pub fn leaves(skb: Skb, slot: Slot, config: &Config) -> Result<(), Outcome> {
    if config.processes == 0 {
        return Ok(());
    }
    slot.kept(judged(skb.context(), slot.0, skb.cookie()))
}

/// Zero, or what [`Slot::kept`] takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judged(skb: *mut __sk_buff, slot: u32, cookie: Origin) -> u32 {
    let slot = Slot(slot);
    slot.keep(Skb::at_hand(skb, slot).and_then(|skb| judge(skb, slot, cookie)))
}

#[inline(always)]
fn judge(skb: Skb, slot: Slot, cookie: Origin) -> Result<(), Outcome> {
    let Some(scope) = of(skb.context()) else {
        return Ok(());
    };
    let (scope, packet): (_, &Packet) = (&scope.entry, &slot.scratch()?.packet);
    let asks = asks(packet);
    let is_judged = isolates(scope) || asks && scope.dns != 0;
    if !is_judged || is_elsewhere(cookie) {
        return Ok(());
    }
    let out = skb.ifindex();
    if out == LOOPBACK {
        // Whoever is asked there asks on by the direct path.
        return if asks { Err(Outcome::Isolated) } else { Ok(()) };
    }
    let config = config()?;
    let marked = config.by_mark(skb.mark());
    let must = process::leaves(&Maps { config }, scope, cookie, packet, marked)?;
    let vpn = config.vpn(must);
    if must.is_vpn() && out != vpn.ifindex && vpn.open == 0 {
        return Err(Outcome::Isolated);
    }
    Ok(())
}

/// A packet that a process receives; an error if its sender could not be answered.
#[inline(always)]
pub fn comes(skb: Skb, slot: Slot, config: &Config) -> Result<(), Outcome> {
    if config.processes == 0 || skb.ifindex() == LOOPBACK {
        return Ok(());
    }
    slot.kept(noted(skb.context(), slot.0, skb.cookie()))
}

/// Zero, or what [`Slot::kept`] takes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn noted(skb: *mut __sk_buff, slot: u32, cookie: Origin) -> u32 {
    let slot = Slot(slot);
    slot.keep(Skb::at_hand(skb, slot).and_then(|skb| note(skb, slot, cookie)))
}

#[inline(always)]
fn note(skb: Skb, slot: Slot, cookie: Origin) -> Result<(), Outcome> {
    match of(skb.context()) {
        Some(scope) if isolates(&scope.entry) => {}
        _ => return Ok(()),
    }
    let packet = &slot.scratch()?.packet;
    // What comes to an older socket may be the answer to what it had sent on the direct path.
    if packet.protocol == UDP && YOUNG.get_ptr(&cookie).is_none() {
        return Ok(());
    }
    let config = config()?;
    match config.came_by(skb.ifindex()) {
        Some(path) => process::comes(&Maps { config }, cookie, packet, path),
        // It may be the VPN's, so that it must not be answered by the direct path.
        None => Ok(()),
    }
}

/// Remembers a datagram socket that is not older than its scope. The kernel makes room by forgetting one that nothing came to
/// for long; it then answers by the VPN.
#[inline(always)]
pub fn is_made(cookie: Origin) {
    let _ = YOUNG.insert(&cookie, 1, ANY);
}

/// Remembers a socket of another network namespace, whose packets pass a bridge.
#[inline(always)]
pub fn elsewhere(cookie: Origin) {
    // The kernel makes room by forgetting another, whose packets then go nowhere until it turns to somebody anew.
    let _ = ELSEWHERE.insert(&cookie, 1, ANY);
}

#[inline(always)]
fn is_elsewhere(cookie: Origin) -> bool {
    ELSEWHERE.get_ptr(&cookie).is_some()
}

/// Remembers whom a socket asked that asks a scope's resolver instead; of several, the last.
#[inline(always)]
pub fn led(socket: Origin, asked: &Address, resolver: Address) -> Result<(), Outcome> {
    let key = LedKey { socket, resolver };
    LED.insert(&key, *asked, ANY).map_err(|_| Outcome::Busy)
}

/// Whom a socket asked, to which somebody answers.
#[inline(always)]
pub fn asked(socket: Origin, resolver: Address) -> Option<Address> {
    let asked = LED.get_ptr(&LedKey { socket, resolver })?;
    // SAFETY: an element of a map stays readable until the program ends.
    Some(unsafe { *asked })
}
