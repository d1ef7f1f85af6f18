//! The programs in the kernel, with tables of their own.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    ops::{Deref, DerefMut},
    sync::Mutex,
};

use aya::{
    maps::{HashMap, LpmTrie, MapData, RingBuf},
    programs::{Program, ProgramError, TestRun as _, TestRunOptions, TestRunResult},
};
use steer::{
    datapath::{Datapath, Net, Room, programs},
    events::{Event, Name, segment},
    progress::Unseen,
};
use steer_common::{
    decide::Match,
    stats::{Outcome, Stats},
    suffix::{Key, hash_name},
    types::{
        AddrEntry, Address, AskedEntry, AskedKey, Config, EmbeddedKey, FlowEntry, FlowKey,
        HelloEntry, NameEntry, NameKey, NetEntry, PORTS, Path, Piece, Port, ProcessScope,
        QueryEntry, QueryKey, RuleEntry, ScopeEntry, ScopeKey, V4_PREFIX, VPNS, Verdict, Vpn,
    },
    usage::{UsageKey, Volume},
};

pub const NEXT: i32 = -1;
pub const DROP: i32 = 2;
pub const MARK: u32 = 0x1000;
/// `lo`, which is what test runs are on.
pub const VPN_IFINDEX: u32 = 1;

/// Of the second VPN, whose flows nothing goes out by in test runs.
pub const OTHER_MARK: u32 = 0x3000;
pub const OTHER_IFINDEX: u32 = 7_777;

/// Two VPNs with those interfaces.
pub fn vpns(first: u32, second: u32) -> [Vpn; VPNS] {
    let mut vpns = [Vpn::default(); VPNS];
    vpns[0] = Vpn {
        ifindex: first,
        v4: [10, 8, 0, 2],
        mark: MARK,
        ..Vpn::default()
    };
    vpns[1] = Vpn {
        ifindex: second,
        v4: [10, 9, 0, 2],
        mark: OTHER_MARK,
        ..Vpn::default()
    };
    vpns
}

const KEY: Key = Key([3, 4]);

pub struct Kernel {
    pub datapath: Datapath,
    config: Config,
    /// What was counted for others.
    counted: Stats,
    events: RingBuf<MapData>,
    segments: RingBuf<MapData>,
}

/// Programs that no test has now. Loading them takes the verifier long, in a guest without KVM above all.
static SPARE: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());

/// Programs and tables, lent to one test. Who fails does not give them back.
pub struct Lent(Option<Kernel>);

impl Deref for Lent {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Kernel {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut kernel) = self.0.take()
            && !std::thread::panicking()
        {
            kernel.clear();
            SPARE.lock().unwrap().push(kernel);
        }
    }
}

impl Kernel {
    /// With empty tables.
    #[expect(clippy::new_ret_no_self, reason = "what is lent goes back by itself")]
    pub fn new() -> Lent {
        let spare = SPARE.lock().unwrap().pop();
        Lent(Some(spare.unwrap_or_else(Self::load)))
    }

    fn load() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the kernel programs can only be run by root: run `cargo xtask test`, which asks for it"
        );
        let mut datapath = Datapath::load(
            None,
            Room {
                rules: 16,
                nets: 16,
                ..Room::default()
            },
        )
        .unwrap_or_else(|error| panic!("{}", steer::error::sentence(&error)));
        let config = Self::config();
        datapath.configure(&config).unwrap();
        let events = datapath.take_events().unwrap();
        let segments = datapath.take_segments().unwrap();
        Self {
            datapath,
            config,
            counted: Stats::default(),
            events,
            segments,
        }
    }

    fn config() -> Config {
        let only = |number| {
            let mut ports = [Port::default(); PORTS];
            ports[0] = Port::new(number);
            ports
        };
        Config {
            key: KEY,
            netns: 1,
            floor: 60_000_000_000,
            grace: 0,
            vpns: vpns(VPN_IFINDEX, OTHER_IFINDEX),
            default: Path::vpn(1),
            newest: u32::MAX,
            mask: 0x3000,
            reset: 1,
            tls_ports: only(443),
            http_ports: only(80),
            ..Config::default()
        }
    }

    fn clear(&mut self) {
        self.empty::<u64, RuleEntry>("RULES");
        self.empty::<Address, AddrEntry>("ADDRS");
        self.empty::<NameKey, NameEntry>("NAMES");
        self.empty::<FlowKey, FlowEntry>("FLOWS");
        self.empty::<FlowKey, FlowEntry>("DIRECT");
        self.empty::<QueryKey, QueryEntry>("QUERIES");
        self.empty::<FlowKey, HelloEntry>("HELLOS");
        self.empty::<UsageKey, Volume>("USAGE");
        self.empty::<ScopeKey, ScopeEntry>("SCOPES");
        self.empty::<EmbeddedKey, ScopeEntry>("EMBEDDED");
        self.empty::<AskedKey, AskedEntry>("ASKED");
        self.empty::<u64, ProcessScope>("CGROUPS");
        self.datapath.set_home(&BTreeSet::new()).unwrap();
        let nets = self.datapath.ebpf_mut().map_mut("NETS").unwrap();
        let mut nets = LpmTrie::<_, Address, NetEntry>::try_from(nets).unwrap();
        for key in nets.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            nets.remove(&key).unwrap();
        }
        self.configured(|_| Self::config());
        self.counted = self.datapath.stats().unwrap();
        self.events();
        self.pieces();
    }

    fn empty<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) {
        let map = self.datapath.ebpf_mut().map_mut(name).unwrap();
        let mut map = HashMap::<_, K, V>::try_from(map).unwrap();
        for key in map.keys().collect::<Result<Vec<_>, _>>().unwrap() {
            map.remove(&key).unwrap();
        }
    }

    /// Changes the configuration.
    pub fn configured(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(self.config);
        self.datapath.configure(&self.config).unwrap();
    }

    /// A rule for a network, whose prefix is as it is written.
    pub fn net(&mut self, address: &str, prefix: u32, verdict: Verdict) {
        let ip: IpAddr = address.parse().unwrap();
        let net = Net {
            address: ip.into(),
            prefix: if ip.is_ipv4() {
                V4_PREFIX + prefix
            } else {
                prefix
            },
            entry: NetEntry {
                rule: 1,
                verdict,
                zero: 0,
            },
        };
        self.datapath.set_nets(&[net]).unwrap();
        self.configured(|config| Config { nets: 1, ..config });
    }

    /// The pieces of connections that user space is given, since it was asked last.
    pub fn pieces(&mut self) -> Vec<(Piece, Vec<u8>)> {
        let mut pieces = Vec::new();
        while let Some(item) = self.segments.next() {
            let (piece, octets) = segment(&item).unwrap();
            pieces.push((piece, octets.to_vec()));
        }
        pieces
    }

    /// What was told since it was asked last.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(item) = self.events.next() {
            events.push(Event::read(&item).unwrap());
        }
        events
    }

    /// Runs a program once; returns its result and the packet's mark.
    pub fn run(&mut self, program: &str, frame: &[u8], came_by: u32) -> (i32, u32) {
        self.run_marked(program, frame, came_by, 0)
    }

    pub fn run_marked(
        &mut self,
        program: &str,
        frame: &[u8],
        came_by: u32,
        mark: u32,
    ) -> (i32, u32) {
        self.run_with(
            program,
            frame,
            Context {
                mark,
                ingress_ifindex: came_by,
                ifindex: 0,
            },
        )
    }

    pub fn run_on(&mut self, program: &str, packet: &[u8], ifindex: u32, mark: u32) -> (i32, u32) {
        self.run_with(
            program,
            packet,
            Context {
                mark,
                ingress_ifindex: 0,
                ifindex,
            },
        )
    }

    fn run_with(&mut self, program: &str, frame: &[u8], context: Context) -> (i32, u32) {
        let mut out = [0; Context::SIZE];
        let result = self.test_run(
            program,
            TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(&context.octets()),
                ctx_out: Some(&mut out),
                ..TestRunOptions::new()
            },
        );
        (result.return_value as i32, Context::mark_of(&out))
    }

    fn test_run(&self, program: &str, options: TestRunOptions<'_>) -> TestRunResult {
        self.try_run(program, options)
            .unwrap_or_else(|error| panic!("{program}: {}", steer::error::sentence(&error)))
    }

    fn try_run(
        &self,
        program: &str,
        options: TestRunOptions<'_>,
    ) -> Result<TestRunResult, ProgramError> {
        match self.datapath.program(program).unwrap() {
            Program::SchedClassifier(program) => program.test_run(options),
            Program::CgroupSkb(program) => program.test_run(options),
            other => panic!("{other:?} cannot be run by hand"),
        }
    }

    /// Whether a packet of a test run can be told to have come in by an interface; 5.10 refuses.
    pub fn takes_ingress(&self) -> bool {
        let frame = crate::packet::ethernet(0x0806, &[0; 28]);
        let context = Context {
            mark: 0,
            ingress_ifindex: VPN_IFINDEX,
            ifindex: 0,
        };
        let options = TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&context.octets()),
            ..TestRunOptions::new()
        };
        self.try_run("bridge_egress", options).is_ok()
    }

    /// The first outcome counted by what `work` does: a DNS message's comes before that of the packet around it.
    pub fn outcome(&mut self, work: impl FnOnce(&mut Self)) -> Outcome {
        let before = self.datapath.stats().unwrap();
        work(self);
        let after = self.datapath.stats().unwrap();
        let counted = |outcome: Outcome, stats: &Stats| stats.counter(outcome);
        let mut came: Vec<_> = Outcome::ALL
            .iter()
            .copied()
            .filter(|&outcome| counted(outcome, &after) != counted(outcome, &before))
            .collect();
        if came.len() > 1 {
            came.retain(|&outcome| {
                !matches!(
                    outcome,
                    Outcome::Left | Outcome::Contested | Outcome::NamesFull
                )
            });
        }
        assert_eq!(came.len(), 1, "one outcome: {came:?}");
        came[0]
    }

    pub fn rules(&mut self, rules: &[(&str, RuleEntry)]) {
        let rules: Vec<_> = rules
            .iter()
            .map(|(name, entry)| (hash_name(&KEY, name), *entry))
            .collect();
        self.datapath.set_rules(&rules, &Unseen).unwrap();
    }

    pub fn rule(&mut self, name: &str, verdict: Verdict) {
        self.rules(&[(
            name,
            RuleEntry {
                exact: verdict,
                below: verdict,
            },
        )]);
    }

    pub fn blocks(&mut self, name: &str) {
        self.rule(name, Verdict::VPN);
    }

    pub fn knows(&mut self, address: &str, verdict: Verdict) {
        let rule = if verdict.is_vpn() { 1 } else { 2 };
        let mut entry = AddrEntry::default();
        entry.begin(&Match { verdict, rule }, u64::MAX);
        self.knows_until(address, entry);
    }

    pub fn knows_until(&mut self, address: &str, entry: AddrEntry) {
        let address = Address::from(address.parse::<IpAddr>().unwrap());
        self.datapath
            .addresses()
            .unwrap()
            .insert(address, entry, 0)
            .unwrap();
    }

    pub fn forgets(&mut self, address: &str) {
        let address = Address::from(address.parse::<IpAddr>().unwrap());
        self.datapath.addresses().unwrap().remove(&address).unwrap();
    }

    pub fn verdict(&mut self, address: IpAddr) -> Verdict {
        let addresses = self.datapath.addresses().unwrap();
        match addresses.get(&Address::from(address), 0) {
            Ok(entry) => entry.at(1).verdict,
            Err(_) => Verdict::NONE,
        }
    }

    pub fn holds(&mut self, key: FlowKey, entry: FlowEntry) {
        self.datapath
            .flows()
            .unwrap()
            .insert(key, entry, 0)
            .unwrap();
    }

    pub fn forgets_hello(&mut self, key: &FlowKey) {
        self.datapath.forget_hello(key).unwrap();
    }

    pub fn forgets_direct(&mut self, key: &FlowKey) {
        self.datapath.forget_direct(key).unwrap();
    }

    pub fn fill_flows(&mut self) {
        let mut flows = self.datapath.flows().unwrap();
        let full = (0..).find(|&origin| {
            let key = FlowKey {
                origin: 1 << 40 | origin,
                ..FlowKey::default()
            };
            flows.insert(key, FlowEntry::default(), 0).is_err()
        });
        assert!(full.is_some());
    }

    pub fn fill_addresses(&mut self) {
        let mut addresses = self.datapath.addresses().unwrap();
        let full = (0u32..).find(|i| {
            let [a, b, c, d] = i.to_be_bytes();
            let address = Address::new([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]);
            addresses
                .insert(
                    address,
                    AddrEntry {
                        vpn_until: u64::MAX,
                        ..AddrEntry::default()
                    },
                    0,
                )
                .is_err()
        });
        assert!(full.is_some());
    }

    pub fn fill_names(&mut self) {
        let entry = NameEntry {
            until: u64::MAX,
            learned: 0,
            rule: 0,
            origin: 0,
            verdict: Verdict::VPN,
            source: 0,
            ttl: 0,
            size: 0,
            name: [0; 32],
        };
        let mut names = self.datapath.names().unwrap();
        let full = (0..).find(|&name| {
            let key = NameKey {
                name,
                ..NameKey::default()
            };
            names.insert(key, entry, 0).is_err()
        });
        assert!(full.is_some());
    }

    /// How often an outcome was counted.
    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.datapath.stats().unwrap().counter(outcome) - self.counted.counter(outcome)
    }

    /// The names that gave an address a verdict.
    pub fn names_of(&mut self, address: IpAddr) -> Vec<(String, Verdict)> {
        let names = self.datapath.names().unwrap();
        names
            .iter()
            .flatten()
            .filter(|(key, _)| key.address == Address::from(address))
            .map(|(_, entry)| (Name::of(&entry).to_string(), entry.verdict))
            .collect()
    }

    /// The names told as learned since it was asked last.
    pub fn learned_names(&mut self) -> Vec<String> {
        let learned = |event| match event {
            Event::Learned(learned) => Some(learned.name.to_string()),
            _ => None,
        };
        self.events().into_iter().filter_map(learned).collect()
    }

    /// How many instructions the verifier went through for each program; nothing before 5.16, which does not tell.
    pub fn verified(&self) -> Vec<(&'static str, Option<u32>)> {
        programs()
            .map(|name| {
                let info = self.datapath.program(name).unwrap().info().unwrap();
                let verified = info.verified_instruction_count();
                (name, verified.filter(|&count| count != 0))
            })
            .collect()
    }
}

/// The fields of `struct __sk_buff` that a test run takes.
struct Context {
    mark: u32,
    ingress_ifindex: u32,
    ifindex: u32,
}

impl Context {
    const SIZE: usize = 192;
    const MARK: usize = 8;
    const INGRESS_IFINDEX: usize = 36;
    const IFINDEX: usize = 40;

    fn octets(&self) -> [u8; Self::SIZE] {
        let mut octets = [0; Self::SIZE];
        for (at, value) in [
            (Self::MARK, self.mark),
            (Self::INGRESS_IFINDEX, self.ingress_ifindex),
            (Self::IFINDEX, self.ifindex),
        ] {
            octets[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        octets
    }

    fn mark_of(octets: &[u8; Self::SIZE]) -> u32 {
        u32::from_ne_bytes(*octets[Self::MARK..].first_chunk().unwrap())
    }
}
