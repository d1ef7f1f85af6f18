//! How much takes each path.

use aya_ebpf::{btf_maps::lpm_trie::Key, helpers::bpf_ktime_get_ns};
use steer_common::{
    stats::Outcome,
    types::{Address, Config, Path},
    usage::{VOLUMES, Volume, Way},
};

use crate::{
    maps::{HOME, HOMES, Home, Scratch, Slot, TRAFFIC, USAGE, add, config},
    skb::Skb,
    tables::{ADDRESS_BITS, NEW},
    turns::opaque,
};

/// Counts a packet that goes on, whose headers were read. What does not leave the host, or did not come from elsewhere, is
/// not counted.
#[inline(always)]
pub fn account(skb: Skb, slot: Slot, scratch: &Scratch, config: &Config, way: Way) {
    // Nothing is lost with a packet that could not be counted.
    let _ = count(skb, slot, scratch, config, way);
}

#[inline(always)]
fn count(
    skb: Skb,
    slot: Slot,
    scratch: &Scratch,
    config: &Config,
    way: Way,
) -> Result<(), Outcome> {
    let Scratch { packet, homes, .. } = scratch;
    let remote = way.remote(packet);
    let index = number_of(remote);
    // The mask changes nothing, and tells the verifier so.
    let known = &homes[opaque(index.into()) as usize & (HOMES - 1)];
    let is_home = if known.since == config.home && known.address == *remote {
        known.is_home
    } else {
        look_up(slot.0, index, way.came)
    };
    if is_home != 0 {
        return Ok(());
    }
    let traffic = TRAFFIC.get_ptr_mut(0).ok_or(Outcome::NoConfig)?;
    let index = opaque(way.index()) & (VOLUMES as u64 - 1);
    // SAFETY: the entry is an array of so many.
    let volume = unsafe { traffic.cast::<Volume>().add(index as usize) };
    let size = skb.size();
    if way.bridge == 0 {
        note(volume, way, size);
    } else {
        // SAFETY: the entry is this CPU's own, and programs on bridges, to which alone this volume belongs, run one at a time.
        unsafe {
            let (bytes, packets) = sums(volume, way);
            *bytes += u64::from(size);
            *packets += 1;
        }
    }
    if config.watched != 0 {
        watched(slot.0, way.bridge, way.path.number(), way.came, size);
    }
    Ok(())
}

/// Which of [`HOMES`] is an address's.
#[inline(always)]
fn number_of(address: &Address) -> u32 {
    let [first, second, third, fourth] = address.words();
    let mixed = first ^ second ^ third ^ fourth;
    let mixed = mixed ^ mixed >> 16;
    (mixed ^ mixed >> 8) & (HOMES as u32 - 1)
}

/// Whether the far side of the packet at hand is no other host's, which is noted for the next packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_up(slot: u32, index: u32, came: u32) -> u32 {
    let (Ok(config), Ok(scratch)) = (config(), Slot(slot).scratch()) else {
        return 1;
    };
    let Scratch { packet, homes, .. } = scratch;
    let way = Way {
        came,
        ..Way::default()
    };
    let remote = way.remote(packet);
    let known = &mut homes[opaque(index.into()) as usize & (HOMES - 1)];
    let stays = !remote.is_steerable() || HOME.get(&Key::new(ADDRESS_BITS, *remote)).is_some();
    *known = Home {
        address: *remote,
        since: config.home,
        is_home: stays.into(),
    };
    stays.into()
}

/// Counts a packet by who had to do with whom, if somebody watches. Global, so that the verifier checks it once; zero if it is
/// counted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn watched(slot: u32, bridge: u32, path: u32, came: u32, size: u32) -> u32 {
    let way = Way {
        bridge,
        path: Path::vpn(path),
        came,
    };
    u32::from(count_watched(Slot(slot), way, size).is_err())
}

#[inline(always)]
fn count_watched(slot: Slot, way: Way, size: u32) -> Result<(), Outcome> {
    // SAFETY: the helper takes nothing.
    if unsafe { bpf_ktime_get_ns() } >= config()?.watched {
        return Ok(());
    }
    let packet = &slot.scratch()?.packet;
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
    let (bytes, packets) = unsafe { sums(volume, way) };
    add(bytes, i64::from(size));
    add(packets, 1);
}

/// What a packet is added to: octets, and packets.
#[inline(always)]
unsafe fn sums(volume: *mut Volume, way: Way) -> (*mut u64, *mut u64) {
    // SAFETY: the caller's pointer is to a volume.
    unsafe {
        if way.came != 0 {
            (&raw mut (*volume).bytes_in, &raw mut (*volume).packets_in)
        } else {
            (&raw mut (*volume).bytes_out, &raw mut (*volume).packets_out)
        }
    }
}
