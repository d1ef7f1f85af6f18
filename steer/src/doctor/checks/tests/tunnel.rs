//! VPNs, and what they do to a host.

use super::*;

#[test]
fn who_took_the_default_route_is_told_with_the_line_that_stops_it() {
    let taken = |others: bool| {
        let hop = Hop::out_of(Interface {
            name: "eth0".to_owned(),
            index: IfIndex(2),
        });
        let route = Route {
            family: Family::V4,
            table: TableId::MAIN,
            metric: 0,
            target: Target::Hop(hop),
        };
        Taken {
            families: [Family::V4].into(),
            others: if others {
                [route].into()
            } else {
                Default::default()
            },
            by: [IfIndex(3)].into(),
        }
    };
    let openvpn = with(|facts| {
        facts.taken = Ok(taken(true));
        routes(facts).push(route("0.0.0.0/1", 3, 254));
    });
    let found = finding(&openvpn, vpn::DEFAULT_ROUTE);
    assert_eq!(found.state, State::Advice);
    assert!(
        found
            .mend
            .unwrap()
            .starts_with("pull-filter ignore \"redirect-gateway\"")
    );

    let wg_quick = with(|facts| {
        facts.taken = Ok(taken(true));
        routes(facts).push(route("0.0.0.0/0", 3, 51820));
        let rule = rule(
            32764,
            "32764: not from all fwmark 0xca6c/0xffffffff lookup 51820",
        );
        facts.survey.as_mut().unwrap().rules.push(KnownRule {
            table: TableId(51820),
            inverted: true,
            ..rule
        });
    });
    let found = finding(&wg_quick, vpn::DEFAULT_ROUTE);
    assert!(found.mend.unwrap().starts_with("Table = off"));
    assert_eq!(
        state(vpn::DEFAULT_ROUTE, |facts| facts.taken = Ok(taken(false))),
        State::Broken
    );
}

#[test]
fn a_vpn_that_says_nothing_is_told() {
    let silent = |received| {
        state(vpn::ANSWERS, |facts| {
            let silent = Ok(Echo::Silent("10.8.0.1".parse().unwrap()));
            facts.echoes.insert(IfIndex(3), silent);
            facts.gauges.get_mut(&IfIndex(3)).unwrap().received = received;
        })
    };
    assert_eq!((silent(0), silent(5)), (State::Broken, State::Advice));
}

#[test]
fn of_several_vpns_what_is_wrong_with_one_is_told() {
    let text = "[[vpn]]\nname = \"us\"\ninterface = \"tun0\"\n[[vpn]]\nname = \"de\"\ninterface = \"wg1\"\n";
    let absent = with(|facts| facts.settings = configured(text));
    let found = finding(&absent, vpn::FOUND);
    assert_eq!(found.state, State::Broken);
    assert!(found.found.starts_with("de: "), "{}", found.found);
    assert_eq!(finding(&absent, vpn::UP).found, "tun0 is up");

    let down = with(|facts| {
        facts.settings = configured(text);
        let wg1 = Link {
            up: false,
            ..link(5, "wg1", Kind::Wireguard, "10.9.0.2/24")
        };
        facts.links.as_mut().unwrap().push(wg1);
        let silent = Ok(Echo::Silent("10.9.0.1".parse().unwrap()));
        facts.echoes.insert(IfIndex(5), silent);
    });
    assert_eq!(finding(&down, vpn::FOUND).state, State::Well);
    let found = finding(&down, vpn::UP);
    assert_eq!(
        (found.state, found.found),
        (State::Broken, "wg1 is down".to_owned())
    );
    let found = finding(&down, vpn::ANSWERS);
    assert_eq!(found.state, State::Broken);
    assert!(
        found.found.starts_with("10.9.0.1 does not answer"),
        "{}",
        found.found
    );
    let well = finding(&down, vpn::DEFAULT_ROUTE);
    assert_eq!(
        well.found,
        "not tun0 and wg1: what is not steered goes direct"
    );
}

#[test]
fn the_reverse_path_filter_is_steers_to_loosen() {
    let read_only = |facts: &mut Facts| facts.sysctls.writable = false;
    assert_eq!(state(vpn::RP_FILTER, read_only), State::Broken);
    let loose_anyway = |facts: &mut Facts| {
        facts.sysctls.writable = false;
        facts.sysctls.rp_filter.insert("all".to_owned(), 2);
    };
    assert_eq!(state(vpn::RP_FILTER, loose_anyway), State::Well);
}

#[test]
fn packets_that_do_not_fit_are_told() {
    let wireguard = |facts: &mut Facts| facts.links.as_mut().unwrap()[1].kind = Kind::Wireguard;
    assert_eq!(state(vpn::MTU, wireguard), State::Advice);
    assert_eq!(
        state(vpn::MTU, |facts| {
            wireguard(facts);
            facts.gauges.get_mut(&IfIndex(3)).unwrap().mtu = 1420;
        }),
        State::Well
    );
    let found = finding(
        &with(|facts| facts.gauges.get_mut(&IfIndex(2)).unwrap().mtu = 1450),
        docker::MTU,
    );
    assert_eq!(found.state, State::Advice);
    assert!(matches!(found.fix, Some(Fix::DaemonJson(_, keys)) if keys[0].1 == 1450));
}

#[test]
fn no_two_have_one_address() {
    const BOTH: &str = "[[vpn]]\nname = \"us\"\ninterface = \"tun0\"\n[[vpn]]\nname = \"de\"\ninterface = \"wg0\"\n";
    for (address, state) in [("10.8.0.2/32", State::Broken), ("10.8.0.3/32", State::Well)] {
        let facts = with(|facts| {
            facts.settings = configured(BOTH);
            let other = link(6, "wg0", Kind::Wireguard, address);
            facts.links.as_mut().unwrap().push(other);
        });
        let found = finding(&facts, vpn::ADDRESSES);
        assert_eq!(found.state, state, "{found:?}");
        let told = found.found == "tun0 and wg0 have 10.8.0.2";
        assert_eq!(told, state == State::Broken, "{found:?}");
    }
}
