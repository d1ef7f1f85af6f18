//! Plan and diff against a kernel of text: every state compared, every step between two states looked at.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    name: String,
    rp_filter: u8,
    /// What the administrator has set last, which is what must be there in the end.
    administrators: u8,
}

/// As strict as the kernel: what is there cannot be added, what is not there cannot be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Kernel {
    links: BTreeMap<u32, Link>,
    rp_filter_all: u8,
    rules: Vec<Rule>,
    routes: Vec<Route>,
    nat: Option<Nat>,
    ledger: Vec<(Interface, u8)>,
}

/// Where a packet goes.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Vpn,
    Refused,
    Direct,
}

impl Kernel {
    fn state(&self, plan: &Plan) -> State {
        let now = |interface: &Interface| {
            self.links
                .get(&interface.index.0)
                .map(|link| link.rp_filter)
        };
        State {
            rules: self.rules.clone(),
            routes: self.routes.clone(),
            nat: self.nat.clone(),
            nat_changed: false,
            ipv6: true,
            rp_filter_all: self.rp_filter_all,
            rp_filter: plan.loose_rp_filter.as_ref().and_then(now),
            loosened: self
                .ledger
                .iter()
                .map(|(interface, original)| Loosened {
                    interface: interface.clone(),
                    original: *original,
                    now: now(interface),
                })
                .collect(),
        }
    }

    fn execute(&mut self, change: &Change) {
        match change {
            Change::AddRule(rule) => {
                assert!(!self.rules.contains(rule), "EEXIST: {change}");
                self.rules.push(*rule);
            }
            Change::DelRule(rule) => {
                assert!(self.rules.contains(rule), "ENOENT: {change}");
                self.rules.retain(|other| other != rule);
            }
            Change::AddRoute(route) => {
                assert!(self.at(route).is_none(), "EEXIST: {change}");
                self.add_route(route);
            }
            Change::ReplaceRoute { old, new } => {
                let at = self
                    .at(new)
                    .unwrap_or_else(|| panic!("nothing to replace: {change}"));
                assert_eq!(self.routes.remove(at), *old, "{change}");
                self.add_route(new);
            }
            Change::DelRoute(route) => {
                let at = self.at(route).unwrap_or_else(|| panic!("ESRCH: {change}"));
                assert_eq!(self.routes.remove(at), *route, "{change}");
            }
            Change::SetNat { old, new } => {
                assert_eq!(self.nat, *old, "{change}");
                self.nat.clone_from(new);
            }
            Change::LoosenRpFilter {
                interface,
                original,
            } => {
                self.forget(interface);
                self.ledger.push((interface.clone(), *original));
                self.set_rp_filter(interface, LOOSE);
            }
            Change::RestoreRpFilter {
                interface,
                original,
            } => {
                self.set_rp_filter(interface, *original);
                self.forget(interface);
            }
            Change::ForgetRpFilter { interface, .. } => self.forget(interface),
        }
    }

    fn at(&self, route: &Route) -> Option<usize> {
        let key = |route: &Route| (route.family, route.table, route.metric);
        self.routes
            .iter()
            .position(|other| key(other) == key(route))
    }

    fn add_route(&mut self, route: &Route) {
        if let Target::Dev(interface) = &route.target {
            assert!(
                self.links.contains_key(&interface.index.0),
                "ENODEV: {route}"
            );
        }
        self.routes.push(route.clone());
    }

    fn forget(&mut self, interface: &Interface) {
        self.ledger
            .retain(|(other, _)| other.index != interface.index);
    }

    fn set_rp_filter(&mut self, interface: &Interface, value: u8) {
        if let Some(link) = self.links.get_mut(&interface.index.0) {
            link.rp_filter = value;
        }
    }

    /// Routes go with their interface, and when it goes down.
    fn flush(&mut self, index: u32) {
        self.routes.retain(
            |route| !matches!(&route.target, Target::Dev(interface) if interface.index.0 == index),
        );
    }

    fn way(&self, family: Family, selector: Selector) -> Way {
        let mut rules: Vec<_> = self
            .rules
            .iter()
            .filter(|r| (r.family, r.selector) == (family, selector))
            .collect();
        rules.sort_by_key(|rule| rule.priority);
        for rule in rules {
            let of_table = |route: &&Route| (route.family, route.table) == (family, rule.table);
            match self
                .routes
                .iter()
                .filter(of_table)
                .min_by_key(|route| route.metric)
            {
                Some(Route {
                    target: Target::Dev(_),
                    ..
                }) => return Way::Vpn,
                Some(_) => return Way::Refused,
                None => {}
            }
        }
        Way::Direct
    }

    fn has_rule(&self, family: Family, selector: Selector) -> bool {
        self.rules
            .iter()
            .any(|rule| (rule.family, rule.selector) == (family, selector))
    }

    /// As the administrator sees it.
    fn text(&self) -> String {
        let mut lines: Vec<_> = self
            .rules
            .iter()
            .map(|rule| format!("{:?} {rule}", rule.family))
            .collect();
        lines.extend(
            self.routes
                .iter()
                .map(|route| format!("{:?} {route}", route.family)),
        );
        lines.sort();
        for (index, link) in &self.links {
            lines.push(format!(
                "{index} {} rp_filter {}",
                link.name, link.rp_filter
            ));
        }
        let mut text = lines.join("\n");
        write!(text, "\n{:?}\n{:?}", self.nat, self.ledger).unwrap();
        text
    }
}

/// The VPN and the wishes, as they change.
#[derive(Debug, Clone)]
struct Host {
    kernel: Kernel,
    vpn: Option<Vpn>,
    on_down: OnDown,
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
}

fn numbers(step: u32) -> Numbers {
    Numbers {
        mark: Mark::new(0x1000 << step, 0x3000 << step).unwrap(),
        table: TableId(7350 + step),
        priority: Priority(7350 + 20 * step),
    }
}

fn event() -> impl Strategy<Value = Event> {
    let v4 = vec![Ipv4Addr::new(10, 8, 0, 2), Ipv4Addr::new(10, 8, 0, 3)];
    let v6 = vec!["fd00::2".parse().unwrap(), "fd00::3".parse().unwrap()];
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
    ]
}

impl Host {
    fn new(rp_filter_all: u8) -> Self {
        Self {
            kernel: Kernel {
                rp_filter_all,
                ..Kernel::default()
            },
            vpn: None,
            on_down: OnDown::Block,
            numbers: Numbers::default(),
        }
    }

    fn plan(&self) -> Plan {
        plan(&Wanted {
            vpn: self.vpn.clone(),
            on_down: self.on_down,
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
            (_, None) => {}
        }
    }
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
        for rule in &kernel.rules {
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

fn vpn() -> Vpn {
    Vpn {
        name: "wg0".into(),
        index: IfIndex(7),
        up: true,
        v4: vec![Ipv4Addr::new(10, 8, 0, 2)],
        v6: vec![],
    }
}

fn wanted(vpn: Option<Vpn>, on_down: OnDown) -> Wanted {
    Wanted {
        vpn,
        on_down,
        numbers: Numbers::default(),
    }
}

fn lines(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn a_vpn_with_ipv4_alone() {
    let plan = plan(&wanted(Some(vpn()), OnDown::Block));
    assert_eq!(
        lines(&plan.rules),
        [
            "priority 7350 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
            "priority 7360 from 10.8.0.2 iif lo ipproto udp lookup 7350 protocol 173",
            "priority 7350 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
        ]
    );
    assert_eq!(
        lines(&plan.routes),
        [
            "default dev wg0 table 7350 protocol 173",
            "unreachable default metric 4294967295 table 7350 protocol 173",
            "unreachable default metric 4294967295 table 7350 protocol 173",
        ]
    );
}

#[test]
fn a_vpn_that_is_down_or_absent_blocks() {
    let down = Vpn { up: false, ..vpn() };
    for vpn in [Some(down), None] {
        let plan = plan(&wanted(vpn, OnDown::Block));
        assert!(
            plan.routes
                .iter()
                .all(|route| route.target == Target::Unreachable)
        );
        assert_eq!(plan.routes.len(), 2);
    }
}

#[test]
fn a_vpn_that_is_down_lets_through_when_asked_to() {
    let down = Vpn { up: false, ..vpn() };
    assert_eq!(plan(&wanted(Some(down), OnDown::Direct)).routes, []);
}

#[test]
fn the_family_that_an_up_vpn_lacks_is_refused_even_so() {
    let plan = plan(&wanted(Some(vpn()), OnDown::Direct));
    let ways: Vec<_> = plan
        .routes
        .iter()
        .map(|route| (route.family, route.target == Target::Unreachable))
        .collect();
    assert_eq!(ways, [(Family::V4, false), (Family::V6, true)]);
}

#[test]
fn the_commands_of_a_start_block_before_they_lead() {
    let state = State {
        ipv6: true,
        rp_filter: Some(1),
        ..State::default()
    };
    let changes = diff(&plan(&wanted(Some(vpn()), OnDown::Block)), &state);
    assert_eq!(
        lines(&changes),
        [
            "ip route add unreachable default metric 4294967295 table 7350 protocol 173",
            "ip -6 route add unreachable default metric 4294967295 table 7350 protocol 173",
            "ip route add default dev wg0 table 7350 protocol 173",
            "sysctl -w net.ipv4.conf.wg0.rp_filter=2",
            "nft add rule inet steer postrouting meta mark and 0x3000 == 0x1000 oifname \"wg0\" masquerade",
            "ip rule add priority 7350 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
            "ip rule add priority 7360 from 10.8.0.2 iif lo ipproto udp lookup 7350 protocol 173",
            "ip -6 rule add priority 7350 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
        ]
    );
}

#[test]
fn a_kernel_without_ipv6_is_asked_for_nothing_of_it() {
    let changes = diff(
        &plan(&wanted(Some(vpn()), OnDown::Block)),
        &State::default(),
    );
    assert!(!changes.is_empty());
    assert!(
        changes
            .iter()
            .all(|change| !change.to_string().starts_with("ip -6"))
    );
}

#[test]
fn a_filter_that_is_not_strict_is_left() {
    let plan = plan(&wanted(Some(vpn()), OnDown::Block));
    let strict = |all, own| {
        let state = State {
            rp_filter_all: all,
            rp_filter: Some(own),
            ..State::default()
        };
        diff(&plan, &state)
            .iter()
            .any(|change| matches!(change, Change::LoosenRpFilter { .. }))
    };
    // conf/all and the interface's own: the larger one counts (Documentation/networking/ip-sysctl.rst).
    let table: Vec<_> = (0..3)
        .flat_map(|all| (0..3).map(move |own| (all, own)))
        .collect();
    let expected = [(0, 1), (1, 0), (1, 1)];
    for (all, own) in table {
        assert_eq!(
            strict(all, own),
            expected.contains(&(all, own)),
            "all {all}, own {own}"
        );
    }
}

#[test]
fn a_value_that_somebody_else_set_is_theirs() {
    let interface = Interface {
        name: "wg0".into(),
        index: IfIndex(7),
    };
    let state = |now| State {
        loosened: vec![Loosened {
            interface: interface.clone(),
            original: 1,
            now,
        }],
        ..State::default()
    };
    let removal = |now| lines(&diff(&Plan::default(), &state(now)));
    assert_eq!(
        removal(Some(2)),
        ["sysctl -w net.ipv4.conf.wg0.rp_filter=1"]
    );
    assert_eq!(
        removal(Some(0)),
        ["leave net.ipv4.conf.wg0.rp_filter=0, set by somebody else since steer changed it from 1"]
    );
    assert_eq!(
        removal(None),
        ["leave net.ipv4.conf.wg0.rp_filter, which is gone with its interface"]
    );
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    for (value, mask) in [(0, 0x3000), (0, 0), (0x4000, 0x3000)] {
        assert!(Mark::new(value, mask).is_err(), "{value:#x}/{mask:#x}");
    }
    let good = Numbers::default();
    for table in [0, 253, 254, 255] {
        let table = TableId(table);
        assert!(Numbers { table, ..good }.check().is_err(), "{table}");
    }
    for priority in [0, 32747, 32766, u32::MAX] {
        let priority = Priority(priority);
        assert!(Numbers { priority, ..good }.check().is_err(), "{priority}");
    }
    assert!(good.check().is_ok());
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
            old = (plan, host.on_down);
        }

        let nothing = Plan::default();
        let invariant = Invariant::between(&old.0, &nothing, old.1 == OnDown::Block);
        for change in diff(&nothing, &host.kernel.state(&nothing)) {
            host.kernel.execute(&change);
            invariant.check(&host.kernel);
        }
        let kernel = host.kernel;
        prop_assert_eq!((kernel.rules, kernel.routes, kernel.nat, kernel.ledger), (vec![], vec![], None, vec![]));
        for link in kernel.links.values() {
            prop_assert_eq!(link.rp_filter, link.administrators, "{}", link.name);
        }
    }
}
