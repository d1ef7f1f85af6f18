//! The kernel programs with tables of their own, attached to nothing, and how long they take.

pub mod bpf;
mod code;
pub mod frame;
mod lesson;
pub mod message;
mod namespace;
mod tape;
mod timed;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    maps::{HashMap, LpmTrie, MapData, RingBuf},
    programs::Program,
};
use steer::datapath::{Datapath, Room};
use steer_common::{
    decide::Match,
    suffix::{Key, hash_name},
    types::{
        AddrEntry, Address, Config, FlowEntry, FlowKey, NameEntry, NameKey, NetEntry, PORTS, Path,
        Port, RuleEntry, Verdict,
    },
};

pub use lesson::{CLIENT, Lesson, RESOLVER, address};
pub use namespace::{DEVICE, within};
pub use tape::Tape;
pub use timed::{Clock, Time, Timed};

/// The key of the hashes.
const KEY: Key = Key([3, 4]);
/// What a packet for the VPN is marked with.
const MARK: u32 = 0x1000;
/// The bridge of test runs, which are on `lo`.
pub const BRIDGE: u32 = 1;

/// Which program runs, and so which empty one it is compared to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On a bridge.
    Bridge,
    /// On a cgroup, for what is sent.
    Sent,
    /// On a cgroup, for what is received.
    Received,
}

/// The programs and their tables.
pub struct Kernel {
    datapath: Datapath,
    config: Config,
    events: RingBuf<MapData>,
    segments: RingBuf<MapData>,
}

impl Kernel {
    /// With empty tables, which have that room.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(room: Room) -> Result<Self> {
        let mut datapath = Datapath::load(None, room)?;
        let config = config();
        datapath.configure(&config)?;
        let events = datapath.take_events()?;
        let segments = datapath.take_segments()?;
        Ok(Self {
            datapath,
            config,
            events,
            segments,
        })
    }

    /// The programs, for what this has no call for.
    pub fn datapath(&mut self) -> &mut Datapath {
        &mut self.datapath
    }

    /// Changes the configuration.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn configured(&mut self, change: impl FnOnce(&mut Config)) -> Result<()> {
        change(&mut self.config);
        Ok(self.datapath.configure(&self.config)?)
    }

    /// A file of one of the programs.
    ///
    /// # Errors
    /// When there is none of that name that test runs take.
    pub fn program(&self, name: &str) -> Result<OwnedFd> {
        let fd = match self.datapath.program(name) {
            Some(Program::SchedClassifier(program)) => program.fd(),
            Some(Program::CgroupSkb(program)) => program.fd(),
            Some(Program::CgroupSockAddr(program)) => program.fd(),
            _ => bail!("there is no program {name} that can be timed"),
        }?;
        fd.as_fd()
            .try_clone_to_owned()
            .with_context(|| format!("the file of {name} cannot be opened again"))
    }

    /// Puts rules in force: for each name and all below it, the VPN.
    ///
    /// # Errors
    /// When there is no room for so many.
    pub fn steers<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let entry = RuleEntry {
            exact: Verdict::VPN,
            below: Verdict::VPN,
        };
        let rules: Vec<_> = names.map(|name| (hash_name(&KEY, name), entry)).collect();
        self.put_rules(&rules)
    }

    /// Puts rules in force by the hashes of their names.
    ///
    /// # Errors
    /// As above.
    pub fn put_rules(&mut self, rules: &[(u64, RuleEntry)]) -> Result<()> {
        Ok(self.datapath.set_rules(rules, &steer::progress::Unseen)?)
    }

    /// Learns addresses for the VPN.
    ///
    /// # Errors
    /// When there is no room for so many.
    pub fn knows(&mut self, addresses: impl Iterator<Item = IpAddr>) -> Result<()> {
        let mut entry = AddrEntry::default();
        let matched = Match {
            verdict: Verdict::VPN,
            rule: 1,
        };
        entry.begin(&matched, u64::MAX);
        let mut map = self.datapath.addresses()?;
        for address in addresses {
            map.insert(Address::from(address), entry, 0)?;
        }
        Ok(())
    }

    /// Holds TCP flows on the VPN, by their ends.
    ///
    /// # Errors
    /// When there is no room for so many.
    pub fn holds(&mut self, flows: impl Iterator<Item = frame::Ends>) -> Result<()> {
        let mut map = self.datapath.flows()?;
        for ends in flows {
            let key = FlowKey {
                origin: u64::from(BRIDGE),
                local: ends.near.into(),
                remote: ends.far.into(),
                local_port: Port::new(ends.near_port),
                remote_port: Port::new(ends.far_port),
                protocol: 6,
            };
            map.insert(key, FlowEntry::new(0, Path::vpn(1)), 0)?;
        }
        Ok(())
    }

    /// So many networks of bridges and addresses of the host.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn homes(&mut self, count: u8) -> Result<()> {
        let nets = (0..count).map(|number| match number % 2 {
            0 => format!("172.{}.0.0/16", 17 + number / 2),
            _ => format!("fd00:{number:x}::/64"),
        });
        let nets: Result<BTreeSet<_>, _> = nets.map(|net| net.parse()).collect();
        Ok(self.datapath.set_home(&nets?)?)
    }

    /// A rule for a network of addresses, which nothing here goes to.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn has_networks(&mut self) -> Result<()> {
        let map = self.datapath.ebpf_mut().map_mut("NETS");
        let mut map: LpmTrie<_, Address, NetEntry> =
            LpmTrie::try_from(map.context("there is no map NETS")?)?;
        let net = NetEntry {
            rule: 1,
            verdict: Verdict::VPN,
            zero: 0,
        };
        let key = aya::maps::lpm_trie::Key::new(32, Address::from(IpAddr::from([32, 1, 13, 184])));
        map.insert(&key, net, 0)?;
        self.configured(|config| config.nets = 1)
    }

    /// Forgets what was learned from answers.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn forget_learned(&mut self) -> Result<()> {
        let mut addresses = self.datapath.addresses()?;
        let keys: Vec<_> = addresses.keys().flatten().collect();
        for key in keys {
            addresses.remove(&key)?;
        }
        let mut names: HashMap<_, NameKey, NameEntry> = self.datapath.names()?;
        let keys: Vec<_> = names.keys().flatten().collect();
        for key in keys {
            names.remove(&key)?;
        }
        Ok(())
    }

    /// Takes what the programs told, as the daemon does: without room for events their way is shorter.
    pub fn drain(&mut self) {
        while self.events.next().is_some() {}
        while self.segments.next().is_some() {}
    }
}

fn config() -> Config {
    let only = |number| {
        let mut ports = [Port::default(); PORTS];
        ports[0] = Port::new(number);
        ports
    };
    let mut config = Config {
        key: KEY,
        netns: steer::host::netns::cookie().map_or(0, |cookie| cookie.0),
        floor: 60_000_000_000,
        grace: 300_000_000_000,
        default: Path::vpn(1),
        newest: u32::MAX,
        mask: 0x3000,
        reset: 1,
        tls_ports: only(443),
        http_ports: only(80),
        ..Config::default()
    };
    // By no interface that test runs are on.
    config.vpns[0].ifindex = 7_777;
    config.vpns[0].v4 = [10, 8, 0, 2];
    config.vpns[0].mark = MARK;
    config
}
