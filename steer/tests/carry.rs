//! Tables of a killed run, carried over into some that have other room; needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use aya::maps::HashMap;
use nix::mount::{MsFlags, mount, umount};
use steer::datapath::{Datapath, Pins, Room, Tables};
use steer_common::types::{
    self, AddrEntry, Address, Config, FlowEntry, FlowKey, NameEntry, NameKey, Verdict,
};

/// Tells the killed run where to pin.
const FOLDER: &str = "STEER_TEST_CARRY";
/// What it leaves of each.
const ENTRIES: u32 = 3_000;

fn room(addresses: u32, flows: u32) -> Room {
    Room {
        tables: Tables { addresses, flows },
        ..Room::default()
    }
}

fn address(number: u32) -> Address {
    Address::v4((0x0b00_0000 | number).to_be_bytes())
}

fn flow(number: u32) -> FlowKey {
    FlowKey {
        origin: number.into(),
        protocol: 6,
        ..FlowKey::default()
    }
}

/// The higher its number, the longer it holds, and the later it was seen.
fn fill(datapath: &mut Datapath) {
    let mut addresses = datapath.addresses().unwrap();
    for number in 0..ENTRIES {
        let entry = AddrEntry {
            vpn_until: u64::MAX / 2 + u64::from(number),
            vpn: Verdict::VPN,
            ..AddrEntry::default()
        };
        addresses.insert(address(number), entry, 0).unwrap();
    }
    let mut names = datapath.names().unwrap();
    for number in 0..ENTRIES {
        let entry = NameEntry {
            until: u64::from(number),
            learned: 0,
            rule: 0,
            origin: 0,
            verdict: Verdict::VPN,
            source: types::source::ANSWER,
            ttl: 0,
            size: 0,
            name: [0; 32],
        };
        let key = NameKey {
            address: address(number),
            name: 1,
        };
        names.insert(key, entry, 0).unwrap();
    }
    for map in ["FLOWS", "DIRECT"] {
        let map = datapath.ebpf_mut().map_mut(map).unwrap();
        let mut flows = HashMap::<_, FlowKey, FlowEntry>::try_from(map).unwrap();
        for number in 0..ENTRIES {
            let entry = FlowEntry::new(number, types::Path::vpn(1));
            flows.insert(flow(number), entry, 0).unwrap();
        }
    }
}

/// Pins what it has learned, and is killed. The test below runs it.
#[test]
#[ignore = "the other test runs it, in a process of its own"]
fn a_run_that_is_killed() {
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let mut datapath = Datapath::load(None, room(4_096, 4_096)).unwrap();
    datapath.configure(&Config::default()).unwrap();
    datapath.pin(&Pins::new(&folder)).unwrap();
    fill(&mut datapath);
    // Nothing is put back.
    process::abort();
}

/// A BPF file system of the test's own.
struct Mounted(PathBuf);

impl Mounted {
    fn new() -> Self {
        let at = env::temp_dir().join(format!("steer-test-carry-{}", process::id()));
        fs::create_dir(&at).unwrap();
        let kind = Some("bpf");
        mount(kind, &at, kind, MsFlags::empty(), None::<&str>).unwrap();
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount(&self.0);
        let _ = fs::remove_dir(&self.0);
    }
}

fn leave_behind(folder: &Path) {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_run_that_is_killed", "--ignored"])
        .env(FOLDER, folder)
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), None, "the run was not killed");
}

#[test]
fn what_a_killed_run_learned_goes_on_in_tables_of_other_room() {
    let mounted = Mounted::new();
    let folder = mounted.0.join("steer");
    for (tables, kept) in [
        ((8_192, 65_536), [ENTRIES; 2]),
        ((1_024, 2_048), [1_024, 2_048]),
    ] {
        leave_behind(&folder);
        let pins = Pins::new(&folder);
        let (addresses, flows) = tables;
        let loaded = Datapath::load_over(&pins, None, None, room(addresses, flows));
        let (mut datapath, legacy) = loaded.unwrap();
        assert!(legacy.config().is_some(), "it is begun anew");
        datapath.configure(&Config::default()).unwrap();
        assert_eq!(datapath.pin_over(&pins, legacy).unwrap(), None);
        datapath.detach_others().unwrap();

        let stock = datapath.take_stock().unwrap();
        assert_eq!([stock.addresses as u32, stock.flows as u32], kept);
        let lost = 2 * (ENTRIES - kept[0]) + 2 * (ENTRIES - kept[1]);
        assert_eq!(stock.lost as u32, lost, "{stock}");
        let told = stock.to_string();
        assert_eq!(told.contains("find no room"), lost > 0, "{told}");
        // Those that count longest are there.
        let there = datapath.addresses().unwrap().get(&address(ENTRIES - 1), 0);
        assert!(there.is_ok());
        let there = datapath.flows().unwrap().get(&flow(ENTRIES - 1), 0);
        assert!(there.is_ok());
        let oldest = datapath.flows().unwrap().get(&flow(0), 0);
        assert_eq!(oldest.is_ok(), lost == 0);
        datapath.remove().unwrap();
        assert!(!folder.exists());
    }
}
