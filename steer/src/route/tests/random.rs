//! Random transitions: every state compared, every step between two states looked at.

use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::{
    kernel::{Kernel, Link, Way},
    *,
};

/// How many VPNs there are.
const VPNS: usize = 2;

/// The VPNs and the wishes, as they change.
#[derive(Debug, Clone)]
struct Host {
    kernel: Kernel,
    tunnels: [Tunnel; VPNS],
    networks: Vec<Net>,
    dns: Vec<DnsRule>,
    forwards: Vec<Forward>,
    taken: Taken,
    numbers: Numbers,
}

/// What happens to a VPN.
#[derive(Debug, Clone)]
enum Turn {
    Up,
    Down,
    Address(Vec<Ipv4Addr>, Vec<Ipv6Addr>),
    Gone,
    /// Another interface takes the VPN's place, and the first one stays.
    Moved(String),
    Renamed(String),
    OnDown(OnDown),
    RpFilter(u8),
}

#[derive(Debug, Clone)]
enum Event {
    To(usize, Turn),
    /// The run was killed, and the next one is configured otherwise.
    Numbers(Numbers),
    /// A VPN has the default route of these families, and this is what others have.
    Taken(Vec<Family>, Vec<Route>),
    /// Containers have these networks.
    Networks(Vec<Net>),
    /// These questions go elsewhere.
    Dns(Vec<DnsRule>),
    /// These ports are forwarded.
    Forwards(Vec<Forward>),
    /// Docker comes, with a user's rule in its chains, or goes.
    Docker(bool),
}

/// The uplink, which is always there.
const UPLINK: u32 = 2;

fn numbers(step: u32) -> Numbers {
    Numbers {
        mark: Mark::new(0x1000 << step, 0x3000 << step).unwrap(),
        table: TableId(7350 + 4 * step),
        priority: Priority(7350 + 20 * step),
        vpns: VPNS,
    }
}

fn v4(vpn: usize, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 8, vpn as u8, last)
}

fn v6(vpn: usize, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, vpn as u16, 0, 0, 0, 0, 0, last)
}

fn change(vpn: usize) -> impl Strategy<Value = Event> {
    let names = [["wg0", "tun0.7"], ["wg1", "tun1.7"]][vpn];
    let name = prop::sample::select(names.map(str::to_owned).to_vec());
    let v4 = [2, 3].map(|last| v4(vpn, last)).to_vec();
    let v6 = [2, 3].map(|last| v6(vpn, last)).to_vec();
    let change = prop_oneof![
        3 => Just(Turn::Up),
        2 => Just(Turn::Down),
        3 => (subsequence(v4, 0..=2), subsequence(v6, 0..=2)).prop_map(|(v4, v6)| Turn::Address(v4, v6)),
        1 => Just(Turn::Gone),
        2 => name.clone().prop_map(Turn::Moved),
        1 => name.prop_map(Turn::Renamed),
        2 => prop_oneof![Just(OnDown::Block), Just(OnDown::Direct)].prop_map(Turn::OnDown),
        1 => (0..2u8).prop_map(Turn::RpFilter),
    ];
    change.prop_map(move |change| Event::To(vpn, change))
}

fn event() -> impl Strategy<Value = Event> {
    let nets = ["172.17.0.0/16", "172.18.0.0/16", "fd00:17::/64"].map(|net| net.parse().unwrap());
    prop_oneof![
        12 => change(0),
        6 => change(1),
        1 => (0..2u32).prop_map(|step| Event::Numbers(numbers(step))),
        2 => (subsequence(Family::BOTH.to_vec(), 0..=2), subsequence(Family::BOTH.to_vec(), 0..=2))
            .prop_map(|(families, others)| Event::Taken(families, others.into_iter().map(uplink).collect())),
        2 => subsequence(nets.to_vec(), 0..=3).prop_map(Event::Networks),
        2 => subsequence(questions(), 0..=3).prop_map(Event::Dns),
        2 => subsequence(forwards(), 0..=3).prop_map(Event::Forwards),
        2 => any::<bool>().prop_map(Event::Docker),
    ]
}

fn questions() -> Vec<DnsRule> {
    let of = |source: Option<&str>, servers: &[&str], vpn| DnsRule {
        bridge: "docker0".into(),
        source: source.map(|source| source.parse().unwrap()),
        within: vec!["172.17.0.0/16".parse().unwrap()],
        servers: servers.iter().map(|it| it.parse().unwrap()).collect(),
        vpn: VpnId(vpn),
    };
    vec![
        of(Some("172.17.0.2"), &["10.8.0.53"], 0),
        of(Some("172.17.0.3"), &["10.8.0.53"], 1),
        of(None, &["10.8.0.54", "fd00::53"], 0),
    ]
}

fn forwards() -> Vec<Forward> {
    let of = |port, to: &str, vpn| Forward {
        protocol: Protocol::Tcp,
        port,
        to: to.parse().unwrap(),
        to_port: 80,
        bridge: "docker0".into(),
        vpn: VpnId(vpn),
    };
    vec![
        of(8080, "172.17.0.2", 0),
        of(8081, "172.17.0.2", 1),
        of(8080, "fd00:17::2", 1),
    ]
}

/// What a user of Docker has in its chain.
fn users_own() -> Vec<String> {
    ["-s", "192.0.2.77", "-j", "DROP"]
        .map(str::to_owned)
        .to_vec()
}

impl Host {
    fn new(rp_filter_all: u8) -> Self {
        Self {
            kernel: Kernel {
                rp_filter_all,
                links: [(
                    UPLINK,
                    Link {
                        name: "eth0".into(),
                        rp_filter: 1,
                        administrators: 1,
                    },
                )]
                .into(),
                ..Kernel::default()
            },
            tunnels: Default::default(),
            networks: Vec::new(),
            dns: Vec::new(),
            forwards: Vec::new(),
            taken: Taken::default(),
            numbers: numbers(0),
        }
    }

    fn plan(&mut self) -> Plan {
        for tunnel in &mut self.tunnels {
            let (before, vpn) = (&tunnel.sources, tunnel.vpn.as_ref());
            tunnel.sources = sources(before, vpn, &BTreeSet::new());
        }
        plan(&Wanted {
            tunnels: self.tunnels.to_vec(),
            networks: self.networks.clone(),
            dns: self.dns.clone(),
            forwards: self.forwards.clone(),
            taken: self.taken.clone(),
            // They come with their bridges.
            newest: IfIndex(self.networks.len() as u32),
            numbers: self.numbers,
        })
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::To(vpn, change) => self.changes(vpn, change),
            Event::Numbers(numbers) => self.numbers = numbers,
            Event::Networks(networks) => self.networks = networks,
            Event::Dns(dns) => self.dns = dns,
            Event::Forwards(forwards) => self.forwards = forwards,
            Event::Docker(true) => {
                for program in ["iptables", "ip6tables"] {
                    let rules = self.kernel.users.entry(program).or_default();
                    if !rules.contains(&users_own()) {
                        rules.push(users_own());
                    }
                }
            }
            Event::Docker(false) => self.kernel.users.clear(),
            Event::Taken(families, others) => {
                let families = families.into_iter().collect();
                self.taken = Taken {
                    families,
                    others,
                    by: BTreeSet::new(),
                };
            }
        }
    }

    fn changes(&mut self, number: usize, change: Turn) {
        let tunnel = &mut self.tunnels[number];
        match (change, &mut tunnel.vpn) {
            (Turn::Up, Some(vpn)) => vpn.up = true,
            (Turn::Down, Some(vpn)) => {
                vpn.up = false;
                self.kernel.flush(vpn.index.0);
            }
            (Turn::Address(v4, v6), Some(vpn)) => (vpn.v4, vpn.v6) = (v4, v6),
            (Turn::Gone, Some(vpn)) => {
                self.kernel.flush(vpn.index.0);
                self.kernel.links.remove(&vpn.index.0);
                tunnel.vpn = None;
            }
            (Turn::Renamed(name), Some(vpn)) => {
                vpn.name.clone_from(&name);
                if let Some(link) = self.kernel.links.get_mut(&vpn.index.0) {
                    link.name = name;
                }
            }
            (Turn::RpFilter(value), Some(vpn)) => {
                if let Some(link) = self.kernel.links.get_mut(&vpn.index.0) {
                    (link.rp_filter, link.administrators) = (value, value);
                }
            }
            (Turn::Moved(name), vpn) => {
                let index = self.kernel.links.keys().max().map_or(3, |last| last + 1);
                let link = Link {
                    name: name.clone(),
                    rp_filter: 1,
                    administrators: 1,
                };
                self.kernel.links.insert(index, link);
                *vpn = Some(Vpn {
                    name,
                    index: IfIndex(index),
                    up: true,
                    v4: vec![v4(number, 2)],
                    v6: vec![v6(number, 2)],
                });
            }
            (Turn::OnDown(on_down), _) => tunnel.on_down = on_down,
            (_, None) => {}
        }
    }
}

/// Which VPN a rule leads to, if not past them.
fn leads_to(rule: &Rule) -> Option<usize> {
    let is_to = |vpn: &usize| {
        let mut runs = (0..2).map(numbers);
        runs.any(|run| run.table_of(VpnId(*vpn)) == rule.table)
    };
    (0..VPNS).find(is_to)
}

/// What is wanted to hold of a VPN from one state to the next.
struct Invariant {
    vpn: usize,
    /// Neither the old plan nor the new one lets marked packets go direct.
    tight: bool,
    /// Both have these rules, so that they are never missing.
    lasting: Vec<(Family, Selector)>,
}

/// Of all of them; `tight` says it of each.
fn invariants(old: &Plan, new: &Plan, tight: [bool; VPNS]) -> Vec<Invariant> {
    let of = |(vpn, tight)| Invariant::between(old, new, vpn, tight);
    tight.into_iter().enumerate().map(of).collect()
}

impl Invariant {
    fn between(old: &Plan, new: &Plan, vpn: usize, tight: bool) -> Self {
        let selectors = |plan: &Plan| {
            plan.rules
                .iter()
                .filter(|rule| leads_to(rule) == Some(vpn))
                .map(|r| (r.family, r.selector))
                .collect::<Vec<_>>()
        };
        let new = selectors(new);
        Self {
            vpn,
            tight,
            lasting: selectors(old)
                .into_iter()
                .filter(|rule| new.contains(rule))
                .collect(),
        }
    }

    fn check(&self, kernel: &Kernel) {
        if !self.tight {
            return;
        }
        let rules = kernel.rules.iter();
        let for_the_vpn = rules.filter(|rule| leads_to(rule) == Some(self.vpn));
        for rule in for_the_vpn {
            assert_ne!(
                kernel.way(rule.family, rule.selector),
                Way::Direct,
                "{rule} leaks"
            );
        }
        for &(family, selector) in &self.lasting {
            assert!(
                kernel.has_rule(family, selector),
                "{family:?} {selector:?} is missing"
            );
            assert_ne!(kernel.way(family, selector), Way::Direct);
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_leaks_and_all_is_put_back(
        events in vec(event(), 1..40),
        rp_filter_all in 0..3u8,
        fails_after in 0..8usize,
    ) {
        let mut host = Host::new(rp_filter_all);
        let mut old = (Plan::default(), [true; VPNS]);
        for event in events {
            host.happens(event);
            let plan = host.plan();
            let blocks = host.tunnels.each_ref().map(|tunnel| tunnel.on_down == OnDown::Block);
            let tight = std::array::from_fn(|vpn| old.1[vpn] && blocks[vpn]);
            let invariants = invariants(&old.0, &plan, tight);
            let changes = diff(&plan, &host.kernel.state(&plan));

            let mut failing = host.kernel.clone();
            for change in changes.iter().take(fails_after) {
                failing.execute(change);
            }
            let done = &changes[..fails_after.min(changes.len())];
            for inverse in done.iter().rev().filter_map(Change::inverse) {
                failing.execute(&inverse);
                invariants.iter().for_each(|it| it.check(&failing));
            }
            if !done.iter().any(|change| matches!(change, Change::ForgetRpFilter { .. })) {
                let unordered = |kernel: &Kernel| Kernel { ledger: vec![], ..kernel.clone() }.text();
                prop_assert_eq!(unordered(&failing), unordered(&host.kernel));
            }

            for change in &changes {
                host.kernel.execute(change);
                invariants.iter().for_each(|it| it.check(&host.kernel));
            }
            prop_assert_eq!(diff(&plan, &host.kernel.state(&plan)), vec![]);
            for (vpn, tunnel) in host.tunnels.iter().enumerate() {
                let usable = |vpn: &&Vpn| vpn.up && !vpn.v4.is_empty();
                if let Some(there) = tunnel.vpn.as_ref().filter(usable) {
                    let mark = host.numbers.mark.of(VpnId(vpn)).unwrap();
                    let way = host.kernel.way(Family::V4, Selector::Mark(mark));
                    prop_assert_eq!(way, Way::Vpn(there.index));
                }
            }
            let past = Selector::Mark(host.numbers.mark.bypass().unwrap());
            for family in Family::BOTH {
                let expected = if host.taken.past().any(|route| route.family == family) {
                    Way::Past
                } else {
                    Way::Direct
                };
                prop_assert_eq!(host.kernel.way(family, past), expected);
            }
            old = (plan, blocks);
        }

        let nothing = Plan::default();
        let invariants = invariants(&old.0, &nothing, old.1);
        for change in diff(&nothing, &host.kernel.state(&nothing)) {
            host.kernel.execute(&change);
            invariants.iter().for_each(|it| it.check(&host.kernel));
        }
        let kernel = host.kernel;
        prop_assert_eq!((kernel.rules, kernel.routes, kernel.nft, kernel.ledger), (vec![], vec![], None, vec![]));
        for rules in kernel.users.values() {
            prop_assert_eq!(rules, &vec![users_own()]);
        }
        for link in kernel.links.values() {
            prop_assert_eq!(link.rp_filter, link.administrators, "{}", link.name);
        }
    }
}
