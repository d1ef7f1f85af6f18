//! Random transitions: every state compared, every step between two states looked at.

use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::{
    kernel::{Kernel, Link, Way},
    *,
};

/// The VPN and the wishes, as they change.
#[derive(Debug, Clone)]
struct Host {
    kernel: Kernel,
    vpn: Option<Vpn>,
    sources: BTreeSet<IpAddr>,
    on_down: OnDown,
    networks: Vec<Net>,
    dns: Vec<DnsRule>,
    forwards: Vec<Forward>,
    taken: Taken,
    numbers: Numbers,
}

#[derive(Debug, Clone)]
enum Event {
    Up,
    Down,
    Address(Vec<Ipv4Addr>, Vec<Ipv6Addr>),
    Gone,
    /// Another interface takes the VPN's place, and the first one stays.
    Moved(String),
    Renamed(String),
    OnDown(OnDown),
    /// The run was killed, and the next one is configured otherwise.
    Numbers(Numbers),
    RpFilter(u8),
    /// The VPN has the default route of these families, and this is what others have.
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
        table: TableId(7350 + 2 * step),
        priority: Priority(7350 + 20 * step),
    }
}

fn event() -> impl Strategy<Value = Event> {
    let v4 = vec![Ipv4Addr::new(10, 8, 0, 2), Ipv4Addr::new(10, 8, 0, 3)];
    let v6 = vec!["fd00::2".parse().unwrap(), "fd00::3".parse().unwrap()];
    let nets = ["172.17.0.0/16", "172.18.0.0/16", "fd00:17::/64"].map(|net| net.parse().unwrap());
    let name = prop_oneof![Just("wg0".to_owned()), Just("tun0.7".to_owned())];
    prop_oneof![
        3 => Just(Event::Up),
        2 => Just(Event::Down),
        3 => (subsequence(v4, 0..=2), subsequence(v6, 0..=2)).prop_map(|(v4, v6)| Event::Address(v4, v6)),
        1 => Just(Event::Gone),
        2 => name.clone().prop_map(Event::Moved),
        1 => name.prop_map(Event::Renamed),
        2 => prop_oneof![Just(OnDown::Block), Just(OnDown::Direct)].prop_map(Event::OnDown),
        1 => (0..2u32).prop_map(|step| Event::Numbers(numbers(step))),
        1 => (0..2u8).prop_map(Event::RpFilter),
        2 => (subsequence(Family::BOTH.to_vec(), 0..=2), subsequence(Family::BOTH.to_vec(), 0..=2))
            .prop_map(|(families, others)| Event::Taken(families, others.into_iter().map(uplink).collect())),
        2 => subsequence(nets.to_vec(), 0..=3).prop_map(Event::Networks),
        2 => subsequence(questions(), 0..=3).prop_map(Event::Dns),
        2 => subsequence(forwards(), 0..=3).prop_map(Event::Forwards),
        2 => any::<bool>().prop_map(Event::Docker),
    ]
}

fn questions() -> Vec<DnsRule> {
    let of = |source: Option<&str>, servers: &[&str]| DnsRule {
        bridge: "docker0".into(),
        source: source.map(|source| source.parse().unwrap()),
        within: vec!["172.17.0.0/16".parse().unwrap()],
        servers: servers.iter().map(|it| it.parse().unwrap()).collect(),
    };
    vec![
        of(Some("172.17.0.2"), &["10.8.0.53"]),
        of(Some("172.17.0.3"), &["10.8.0.53"]),
        of(None, &["10.8.0.54", "fd00::53"]),
    ]
}

fn forwards() -> Vec<Forward> {
    let of = |port, to: &str| Forward {
        protocol: Protocol::Tcp,
        port,
        to: to.parse().unwrap(),
        to_port: 80,
        bridge: "docker0".into(),
    };
    vec![
        of(8080, "172.17.0.2"),
        of(8081, "172.17.0.2"),
        of(8080, "fd00:17::2"),
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
            vpn: None,
            sources: BTreeSet::new(),
            on_down: OnDown::Block,
            networks: Vec::new(),
            dns: Vec::new(),
            forwards: Vec::new(),
            taken: Taken::default(),
            numbers: Numbers::default(),
        }
    }

    fn plan(&mut self) -> Plan {
        self.sources = sources(&self.sources, self.vpn.as_ref(), &BTreeSet::new());
        plan(&Wanted {
            vpn: self.vpn.clone(),
            sources: self.sources.clone(),
            on_down: self.on_down,
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
        match (event, &mut self.vpn) {
            (Event::Up, Some(vpn)) => vpn.up = true,
            (Event::Down, Some(vpn)) => {
                vpn.up = false;
                self.kernel.flush(vpn.index.0);
            }
            (Event::Address(v4, v6), Some(vpn)) => (vpn.v4, vpn.v6) = (v4, v6),
            (Event::Gone, Some(vpn)) => {
                self.kernel.flush(vpn.index.0);
                self.kernel.links.remove(&vpn.index.0);
                self.vpn = None;
            }
            (Event::Renamed(name), Some(vpn)) => {
                vpn.name.clone_from(&name);
                if let Some(link) = self.kernel.links.get_mut(&vpn.index.0) {
                    link.name = name;
                }
            }
            (Event::RpFilter(value), Some(vpn)) => {
                if let Some(link) = self.kernel.links.get_mut(&vpn.index.0) {
                    (link.rp_filter, link.administrators) = (value, value);
                }
            }
            (Event::Moved(name), vpn) => {
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
                    v4: vec![Ipv4Addr::new(10, 8, 0, 2)],
                    v6: vec!["fd00::2".parse().unwrap()],
                });
            }
            (Event::OnDown(on_down), _) => self.on_down = on_down,
            (Event::Numbers(numbers), _) => self.numbers = numbers,
            (Event::Networks(networks), _) => self.networks = networks,
            (Event::Dns(dns), _) => self.dns = dns,
            (Event::Forwards(forwards), _) => self.forwards = forwards,
            (Event::Docker(true), _) => {
                for program in ["iptables", "ip6tables"] {
                    let rules = self.kernel.users.entry(program).or_default();
                    if !rules.contains(&users_own()) {
                        rules.push(users_own());
                    }
                }
            }
            (Event::Docker(false), _) => self.kernel.users.clear(),
            (Event::Taken(families, others), _) => {
                let families = families.into_iter().collect();
                self.taken = Taken { families, others };
            }
            (_, None) => {}
        }
    }
}

/// Whether a rule leads to the VPN and not past it.
fn is_for_the_vpn(rule: &Rule) -> bool {
    let of_a_run = (0..2).map(numbers);
    rule.table != TableId::MAIN
        && of_a_run
            .map(|run| run.table)
            .any(|table| table == rule.table)
}

/// What is wanted to hold from one state to the next.
struct Invariant {
    /// Neither the old plan nor the new one lets marked packets go direct.
    tight: bool,
    /// Both have these rules, so that they are never missing.
    lasting: Vec<(Family, Selector)>,
}

impl Invariant {
    fn between(old: &Plan, new: &Plan, tight: bool) -> Self {
        let selectors = |plan: &Plan| {
            plan.rules
                .iter()
                .filter(|rule| is_for_the_vpn(rule))
                .map(|r| (r.family, r.selector))
                .collect::<Vec<_>>()
        };
        let new = selectors(new);
        Self {
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
        let for_the_vpn = kernel.rules.iter().filter(|rule| is_for_the_vpn(rule));
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
        let mut old = (Plan::default(), OnDown::Block);
        for event in events {
            host.happens(event);
            let plan = host.plan();
            let tight = old.1 == OnDown::Block && host.on_down == OnDown::Block;
            let invariant = Invariant::between(&old.0, &plan, tight);
            let changes = diff(&plan, &host.kernel.state(&plan));

            let mut failing = host.kernel.clone();
            for change in changes.iter().take(fails_after) {
                failing.execute(change);
            }
            let done = &changes[..fails_after.min(changes.len())];
            for inverse in done.iter().rev().filter_map(Change::inverse) {
                failing.execute(&inverse);
                invariant.check(&failing);
            }
            if !done.iter().any(|change| matches!(change, Change::ForgetRpFilter { .. })) {
                let unordered = |kernel: &Kernel| Kernel { ledger: vec![], ..kernel.clone() }.text();
                prop_assert_eq!(unordered(&failing), unordered(&host.kernel));
            }

            for change in &changes {
                host.kernel.execute(change);
                invariant.check(&host.kernel);
            }
            prop_assert_eq!(diff(&plan, &host.kernel.state(&plan)), vec![]);
            if host.vpn.as_ref().is_some_and(|vpn| vpn.up && !vpn.v4.is_empty()) {
                let marked = Selector::Mark(host.numbers.mark);
                prop_assert_eq!(host.kernel.way(Family::V4, marked), Way::Vpn);
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
            old = (plan, host.on_down);
        }

        let nothing = Plan::default();
        let invariant = Invariant::between(&old.0, &nothing, old.1 == OnDown::Block);
        for change in diff(&nothing, &host.kernel.state(&nothing)) {
            host.kernel.execute(&change);
            invariant.check(&host.kernel);
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
