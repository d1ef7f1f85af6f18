//! How much takes each path.

use aya_ebpf::{btf_maps::lpm_trie::Key, helpers::bpf_ktime_get_ns};
use steer_common::{
    stats::Outcome,
    types::Path,
    usage::{VOLUMES, Volume, Way},
};

use crate::{
    maps::{HOME, Slot, TRAFFIC, USAGE, add, config},
    skb::Skb,
    tables::{ADDRESS_BITS, NEW},
    turns::opaque,
};

/// Counts a packet that goes on, whose headers were read. What does not leave the host, or did not come from elsewhere, is
/// not counted.
#[inline(always)]
pub fn account(skb: Skb, slot: Slot, way: Way) {
    let size = skb.size();
    // Nothing is lost with a packet that could not be counted.
    let _ = counted(slot.0, way.bridge, way.path.number(), way.came, size);
}

/// Global, so that the verifier checks it once; zero if it is counted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn counted(slot: u32, bridge: u32, path: u32, came: u32, size: u32) -> u32 {
    let way = Way {
        bridge,
        path: Path::vpn(path),
        came,
    };
    u32::from(count(Slot(slot), way, size).is_err())
}

#[inline(always)]
fn count(slot: Slot, way: Way, size: u32) -> Result<(), Outcome> {
    let packet = &slot.scratch()?.packet;
    let remote = way.remote(packet);
    if !remote.is_steerable() || HOME.get(&Key::new(ADDRESS_BITS, *remote)).is_some() {
        return Ok(());
    }
    let traffic = TRAFFIC.get_ptr_mut(0).ok_or(Outcome::NoConfig)?;
    // The mask changes nothing, and tells the verifier so.
    let index = opaque(way.index()) & (VOLUMES as u64 - 1);
    // SAFETY: the entry is an array of so many.
    note(
        unsafe { traffic.cast::<Volume>().add(index as usize) },
        way,
        size,
    );

    let watched = config()?.watched;
    // SAFETY: the helper takes nothing.
    if watched == 0 || unsafe { bpf_ktime_get_ns() } >= watched {
        return Ok(());
    }
    let key = &way.key(packet);
    if USAGE.get_ptr_mut(key).is_none() {
        // Another CPU may have been first, which is as good.
        let _ = USAGE.insert(key, Volume::default(), NEW);
    }
    let volume = USAGE.get_ptr_mut(key).ok_or(Outcome::NoConfig)?;
    note(volume, way, size);
    Ok(())
}

#[inline(always)]
fn note(volume: *mut Volume, way: Way, size: u32) {
    // SAFETY: an element of a map stays readable and writable until the program ends. If it was forgotten a moment ago it
    // may be another's by now, which then has a packet too many.
    let (bytes, packets) = unsafe {
        if way.came != 0 {
            (&raw mut (*volume).bytes_in, &raw mut (*volume).packets_in)
        } else {
            (&raw mut (*volume).bytes_out, &raw mut (*volume).packets_out)
        }
    };
    add(bytes, i64::from(size));
    add(packets, 1);
}
