//! Plan and diff, against tables of cases and against a kernel of text.

mod kernel;
mod random;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::*;
use crate::rules::Net;

fn vpn() -> Vpn {
    Vpn {
        name: "wg0".into(),
        index: IfIndex(7),
        up: true,
        v4: vec![Ipv4Addr::new(10, 8, 0, 2)],
        v6: vec![],
    }
}

fn tunnel(vpn: Option<Vpn>, on_down: OnDown) -> Tunnel {
    Tunnel {
        sources: vpn.iter().flat_map(Vpn::addresses).collect(),
        vpn,
        on_down,
    }
}

fn wanted(vpn: Option<Vpn>, on_down: OnDown) -> Wanted {
    Wanted {
        tunnels: vec![tunnel(vpn, on_down)],
        networks: Vec::new(),
        dns: Vec::new(),
        forwards: Vec::new(),
        taken: Taken::default(),
        newest: IfIndex(0),
        numbers: Numbers::default(),
    }
}

fn interface(name: &str, index: u32) -> Interface {
    Interface {
        name: name.into(),
        index: IfIndex(index),
    }
}

/// The default route by `eth0`, as DHCP makes it.
fn uplink(family: Family) -> Route {
    let (gateway, metric) = match family {
        Family::V4 => (Ipv4Addr::new(192, 0, 2, 1).into(), 100),
        Family::V6 => (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(), 1024),
    };
    Route {
        family,
        table: TableId::MAIN,
        metric,
        target: Target::Hop(Hop {
            interface: interface("eth0", 2),
            gateway: Some(gateway),
            onlink: false,
            source: None,
        }),
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
            "priority 7355 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
            "priority 7360 from 10.8.0.2 iif lo lookup main suppress_prefixlength 7 protocol 173",
            "priority 7361 from 10.8.0.2 iif lo lookup 7350 protocol 173",
            "priority 7355 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
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
    for vpn in [Some(down.clone()), None] {
        let mut wanted = wanted(vpn, OnDown::Block);
        wanted.tunnels[0].sources = down.addresses().collect();
        let plan = plan(&wanted);
        assert!(
            plan.routes
                .iter()
                .all(|route| route.target == Target::Unreachable)
        );
        assert_eq!(plan.routes.len(), 2);
        let of_the_address = plan
            .rules
            .iter()
            .filter(|rule| matches!(rule.selector, Selector::From(_)));
        assert_eq!(
            of_the_address.count(),
            2,
            "for the moment in which it comes back"
        );
    }
}

#[test]
fn the_addresses_of_a_vpn_that_is_away_stay_its_own() {
    let set = |addresses: &[&str]| -> BTreeSet<IpAddr> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        addresses.collect()
    };
    let with = |v4: &[Ipv4Addr], v6: &[Ipv6Addr]| Vpn {
        v4: v4.to_vec(),
        v6: v6.to_vec(),
        ..vpn()
    };
    let [none, both] = [set(&[]), set(&["10.8.0.2", "fd00::2"])];
    let (v4, v6) = (Ipv4Addr::new(10, 8, 0, 2), "fd00::2".parse().unwrap());
    assert_eq!(sources(&none, None, &none), none);
    assert_eq!(sources(&none, Some(&with(&[v4], &[v6])), &none), both);
    assert_eq!(sources(&both, None, &none), both);
    // A link that is down has lost those of IPv6.
    assert_eq!(sources(&both, Some(&with(&[v4], &[])), &none), both);
    let other = with(&[Ipv4Addr::new(10, 8, 0, 3)], &[]);
    let changed = set(&["10.8.0.3", "fd00::2"]);
    assert_eq!(sources(&both, Some(&other), &none), changed);
    let taken = set(&["10.8.0.2"]);
    assert_eq!(sources(&both, None, &taken), set(&["fd00::2"]));
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
        rp_filter: [(interface("wg0", 7), 1)].into(),
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
            "ip rule add priority 7355 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
            "ip rule add priority 7360 from 10.8.0.2 iif lo lookup main suppress_prefixlength 7 protocol 173",
            "ip rule add priority 7361 from 10.8.0.2 iif lo lookup 7350 protocol 173",
            "ip -6 rule add priority 7355 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
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
            rp_filter: [(interface("wg0", 7), own)].into(),
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
    let state = |now| State {
        loosened: vec![Loosened {
            interface: interface("wg0", 7),
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
fn what_is_not_the_vpns_goes_past_one_that_has_the_default_route() {
    let taken = |families: &[Family]| Wanted {
        taken: Taken {
            families: families.iter().copied().collect(),
            others: Family::BOTH.map(uplink).to_vec(),
            by: BTreeSet::new(),
        },
        ..wanted(Some(vpn()), OnDown::Block)
    };
    let nothing = plan(&taken(&[]));
    assert_eq!(nothing, plan(&wanted(Some(vpn()), OnDown::Block)));
    let both = plan(&taken(&Family::BOTH));
    let more = |family, items: Vec<(Family, String)>, known: Vec<String>| {
        let news = items
            .into_iter()
            .filter(|(of, text)| *of == family && !known.contains(text));
        news.map(|(_, text)| text).collect::<Vec<_>>()
    };
    let rules = |plan: &Plan| {
        let rules = plan.rules.iter();
        rules.map(|rule| (rule.family, rule.to_string())).collect()
    };
    let routes = |plan: &Plan| {
        let routes = plan.routes.iter();
        routes
            .map(|route| (route.family, route.to_string()))
            .collect()
    };
    for (family, length, route) in [
        (
            Family::V4,
            1,
            "default via 192.0.2.1 dev eth0 metric 100 table 7351 protocol 173",
        ),
        (
            Family::V6,
            4,
            "default via inet6 fe80::1 dev eth0 metric 1024 table 7351 protocol 173",
        ),
    ] {
        assert_eq!(
            more(family, rules(&both), lines(&nothing.rules)),
            [
                format!(
                    "priority 7365 fwmark 0x2000/0x3000 lookup main suppress_prefixlength {length} protocol 173"
                ),
                "priority 7366 fwmark 0x2000/0x3000 lookup 7351 protocol 173".to_owned(),
            ]
        );
        assert_eq!(more(family, routes(&both), lines(&nothing.routes)), [route]);
    }
    let loose: Vec<_> = both.loose_rp_filter.iter().map(|it| &it.name).collect();
    assert_eq!(loose, ["eth0", "wg0"]);
}

#[test]
fn the_way_back_to_a_container_does_not_go_by_the_mark_of_its_packets() {
    let nets = ["172.17.0.0/16", "fd00:17::/64"].map(|net| net.parse().unwrap());
    let plan = plan(&Wanted {
        networks: nets.to_vec(),
        ..wanted(None, OnDown::Block)
    });
    let rules: Vec<_> = plan
        .rules
        .iter()
        .map(|it| (it.family, it.to_string()))
        .collect();
    let back =
        |net| format!("priority 7350 to {net} fwmark 0x1000/0x3000 lookup main protocol 173");
    assert_eq!(rules[0], (Family::V4, back(nets[0])));
    assert_eq!(rules[2], (Family::V6, back(nets[1])));
}

#[test]
fn a_mask_without_another_bit_leaves_no_mark_to_go_past_the_vpn_by() {
    for (value, mask, bypass) in [
        (0x1000, 0x3000, Some(0x2000)),
        (0x3, 0xf0f, Some(0x4)),
        (0x1000, 0x1000, None),
        (u32::MAX, u32::MAX, None),
    ] {
        let found = Mark::new(value, mask).unwrap().bypass();
        assert_eq!(found.map(Mark::value), bypass, "{value:#x}/{mask:#x}");
    }
}

/// Of VPNs in so many.
fn several(count: usize) -> Wanted {
    let other = Vpn {
        name: "tun1".into(),
        index: IfIndex(8),
        v4: vec![Ipv4Addr::new(10, 9, 0, 2)],
        ..vpn()
    };
    let mut wanted = wanted(Some(vpn()), OnDown::Block);
    wanted.tunnels.push(tunnel(Some(other), OnDown::Direct));
    wanted.tunnels.resize(count, tunnel(None, OnDown::Block));
    wanted.numbers.vpns = count;
    wanted
}

#[test]
fn each_of_several_has_a_mark_and_a_table() {
    let wanted = Wanted {
        networks: vec!["172.17.0.0/16".parse().unwrap()],
        ..several(2)
    };
    let plan = plan(&wanted);
    let v4 = plan.rules.iter().filter(|rule| rule.family == Family::V4);
    assert_eq!(
        lines(&v4.collect::<Vec<_>>()),
        [
            "priority 7350 to 172.17.0.0/16 fwmark 0x1000/0x3000 lookup main protocol 173",
            "priority 7350 to 172.17.0.0/16 fwmark 0x3000/0x3000 lookup main protocol 173",
            "priority 7355 fwmark 0x1000/0x3000 lookup 7350 protocol 173",
            "priority 7355 fwmark 0x3000/0x3000 lookup 7352 protocol 173",
            "priority 7360 from 10.8.0.2 iif lo lookup main suppress_prefixlength 7 protocol 173",
            "priority 7360 from 10.9.0.2 iif lo lookup main suppress_prefixlength 7 protocol 173",
            "priority 7361 from 10.8.0.2 iif lo lookup 7350 protocol 173",
            "priority 7361 from 10.9.0.2 iif lo lookup 7352 protocol 173",
        ]
    );
    let v4 = plan
        .routes
        .iter()
        .filter(|route| route.family == Family::V4);
    assert_eq!(
        lines(&v4.collect::<Vec<_>>()),
        [
            "default dev wg0 table 7350 protocol 173",
            "unreachable default metric 4294967295 table 7350 protocol 173",
            "default dev tun1 table 7352 protocol 173",
        ]
    );
    let loose: Vec<_> = plan.loose_rp_filter.iter().map(|it| &it.name).collect();
    assert_eq!(loose, ["tun1", "wg0"]);
}

#[test]
fn a_mask_has_room_for_as_many_as_it_has_numbers() {
    for (value, mask, marks) in [
        (0x1000, 0x3000, &[0x1000, 0x3000][..]),
        (
            0x1000,
            0x7000,
            &[0x1000, 0x4000, 0x5000, 0x6000, 0x7000, 0x3000],
        ),
        (0x1000, 0x1000, &[0x1000]),
        (0x3, 0x3, &[0x3, 0x1, 0x2]),
        (0x80, 0x90, &[0x80, 0x90]),
    ] {
        let mark = Mark::new(value, mask).unwrap();
        let found: Vec<_> = mark.first(9).map(Mark::value).collect();
        assert_eq!(found, marks, "{value:#x}/{mask:#x}");
        let bypass = mark.bypass().map(Mark::value);
        assert!(bypass.is_none_or(|bypass| !found.contains(&bypass)));
        for vpns in 1..=9 {
            let numbers = Numbers {
                mark,
                vpns,
                ..Numbers::default()
            };
            assert_eq!(numbers.check().is_ok(), vpns <= marks.len());
            let wider = Mark::new(value, mark.wider(vpns)).unwrap();
            assert_eq!(wider.first(vpns).count(), vpns, "{value:#x}/{mask:#x}");
        }
    }
    let mark = Mark::DEFAULT;
    assert_eq!((mark.answers(1), mark.answers(2)), (Some(0x3000), None));
    let why = several(3).numbers.check().unwrap_err().to_string();
    assert!(why.ends_with("for example mask = 0x7000"), "{why}");
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    for (value, mask) in [(0, 0x3000), (0, 0), (0x4000, 0x3000)] {
        assert!(Mark::new(value, mask).is_err(), "{value:#x}/{mask:#x}");
    }
    let good = Numbers::default();
    // The one after it is steer's as well.
    for table in [0, 252, 253, 254, 255, u32::MAX] {
        let table = TableId(table);
        assert!(Numbers { table, ..good }.check().is_err(), "{table}");
    }
    for priority in [0, 32747, 32766, u32::MAX] {
        let priority = Priority(priority);
        assert!(Numbers { priority, ..good }.check().is_err(), "{priority}");
    }
    assert!(good.check().is_ok());
}
