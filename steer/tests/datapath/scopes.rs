//! Containers in scopes: known ones and those that wait.

use std::net::IpAddr;

use steer::{datapath::Scopes, events::Event};
use steer_common::{
    stats::Outcome,
    types::{
        Address, Config, EMBEDDED, EmbeddedKey, Path, ScopeEntry, ScopeKey, Verdict, piece, relay,
    },
};

use crate::{
    CLIENT, RESOLVER, SERVER, flow,
    kernel::{DROP, Kernel, MARK, NEXT},
    message::question,
    packet::{ACK, SYN, Segment, tcp, udp},
};

const OTHER: &str = "172.17.0.3";
/// `lo`, which is what test runs are on.
const BRIDGE: u32 = 1;

fn key(address: Option<&str>) -> ScopeKey {
    let address = address.map(|it| it.parse::<IpAddr>().unwrap());
    ScopeKey {
        address: address.map(Address::from).unwrap_or_default(),
        ..ScopeKey::of_bridge(BRIDGE)
    }
}

fn entry(default: u32) -> ScopeEntry {
    ScopeEntry {
        default,
        dns: 1,
        scope: 3,
        path: Path::DIRECT,
    }
}

fn scoped(kernel: &mut Kernel, scopes: &[(Option<&str>, u32)]) -> Scopes {
    let scopes = scopes
        .iter()
        .map(|(who, default)| (key(*who), entry(*default)));
    let scopes = scopes.collect();
    kernel.datapath.set_scopes(&Scopes::new(), &scopes).unwrap();
    kernel.configured(|config| Config {
        scopes: 1,
        ..config
    });
    scopes
}

/// All of whose flows take the VPN.
pub fn isolated(kernel: &mut Kernel) {
    scoped(kernel, &[(None, ScopeEntry::VPN)]);
}

#[test]
fn who_is_not_known_waits_and_is_told_once() {
    let mut kernel = Kernel::new();
    scoped(&mut kernel, &[]);
    for (known, who) in [(false, key(None)), (true, key(Some(CLIENT)))] {
        if known {
            scoped(&mut kernel, &[(None, ScopeEntry::EACH)]);
        }
        for _ in 0..3 {
            let outcome = kernel.outcome(|kernel| {
                let packet = tcp(CLIENT, 1, SERVER, 443, SYN);
                assert_eq!(flow(kernel, &packet), (DROP, 0));
            });
            assert_eq!(outcome, Outcome::ScopeUnknown);
        }
        assert_eq!(kernel.events(), [Event::Waits(who)]);
    }
    kernel.datapath.forget_waiting(&key(Some(CLIENT))).unwrap();
    flow(&mut kernel, &tcp(CLIENT, 1, SERVER, 443, SYN));
    assert_eq!(kernel.events(), [Event::Waits(key(Some(CLIENT)))], "anew");
}

#[test]
fn a_network_is_isolated_as_a_whole() {
    for (client, server) in [(CLIENT, SERVER), ("fd00::2", "2001:db8:b10c::7")] {
        let mut kernel = Kernel::new();
        scoped(&mut kernel, &[(None, ScopeEntry::VPN)]);
        let sends = |kernel: &mut Kernel, frame: &[u8]| flow(kernel, frame);
        assert_eq!(
            sends(&mut kernel, &tcp(client, 1, server, 443, ACK)),
            (DROP, 0),
            "begun before"
        );
        for frame in [
            tcp(client, 2, server, 443, SYN),
            tcp(client, 2, server, 443, ACK),
            udp(client, 2, server, 443, b"x"),
        ] {
            assert_eq!(sends(&mut kernel, &frame), (NEXT, MARK));
        }
        kernel.knows(server, Verdict::DIRECT);
        assert_eq!(
            sends(&mut kernel, &tcp(client, 3, server, 443, SYN)),
            (NEXT, 0),
            "an exception"
        );
        let told = kernel.events();
        let scopes: Vec<_> = told
            .iter()
            .filter_map(|event| match event {
                Event::Steered(steered) => Some(steered.scope),
                _ => None,
            })
            .collect();
        assert_eq!(scopes, [Some(2); 2]);
    }
}

#[test]
fn each_container_has_its_own() {
    let mut kernel = Kernel::new();
    let scopes = scoped(
        &mut kernel,
        &[
            (None, ScopeEntry::EACH),
            (Some(CLIENT), ScopeEntry::BLOCK),
            (Some(OTHER), ScopeEntry::FREE),
        ],
    );
    let syn = |client, port| tcp(client, port, SERVER, 443, SYN);
    assert_eq!(flow(&mut kernel, &syn(CLIENT, 1)), (DROP, 0));
    assert_eq!(flow(&mut kernel, &syn(OTHER, 1)), (NEXT, 0));
    let asked = udp(CLIENT, 2, RESOLVER, 53, &question(7, "some.example"));
    assert_eq!(flow(&mut kernel, &asked), (NEXT, MARK));

    let now = Scopes::from([(key(None), entry(ScopeEntry::EACH))]);
    kernel.datapath.set_scopes(&scopes, &now).unwrap();
    let outcome = kernel.outcome(|kernel| {
        flow(kernel, &syn(OTHER, 2));
    });
    assert_eq!(outcome, Outcome::ScopeUnknown, "one that is no more");
}

#[test]
fn who_comes_from_outside_is_answered() {
    let mut kernel = Kernel::new();
    scoped(&mut kernel, &[(None, ScopeEntry::VPN)]);
    kernel.run("bridge_egress", &tcp(SERVER, 9, CLIENT, 80, SYN), 0);
    let answer = tcp(CLIENT, 80, SERVER, 9, SYN | ACK);
    assert_eq!(flow(&mut kernel, &answer), (NEXT, 0));
    kernel.datapath.forget_held(|_| true).unwrap();
    assert_eq!(flow(&mut kernel, &answer), (DROP, 0));
}

#[test]
fn what_dockers_resolver_asks_on_for_a_scope_is_relayed() {
    const LISTENER: u16 = 40_123;
    const FREE: u16 = 40_124;
    let mut kernel = Kernel::new();
    kernel.configured(|config| Config {
        relay: relay::EMBEDDED,
        ..config
    });
    let embedded = EMBEDDED.to_ip().to_string();
    let listeners = [(LISTENER, entry(ScopeEntry::VPN)), (FREE, ScopeEntry::NONE)];
    let listeners = listeners.map(|(port, entry)| {
        let key = EmbeddedKey {
            protocol: 17,
            port: port.into(),
        };
        (key, entry)
    });
    kernel.datapath.set_listeners(&listeners.into()).unwrap();
    let asks = |id, name| question(id, name);
    for (id, port) in [(1, LISTENER), (2, FREE), (3, 40_125)] {
        let asked = udp(
            "127.0.0.1",
            50_000,
            &embedded,
            port,
            &asks(id, "some.example"),
        );
        assert_eq!(kernel.run("cgroup_ingress", &asked, 0).0, 1);
    }
    for (id, name, wanted, scope) in [
        (1, "some.example", Outcome::Relayed, Some(3)),
        (1, "SOME.example", Outcome::Relayed, Some(3)),
        (2, "some.example", Outcome::Left, None),
        // Of whom user space has not said.
        (3, "some.example", Outcome::Relayed, Some(0)),
        (1, "other.example", Outcome::Left, None),
        (4, "some.example", Outcome::Left, None),
    ] {
        let message = asks(id, name);
        let packet = udp("192.0.2.1", 50_001, RESOLVER, 53, &message);
        let outcome = kernel.outcome(|kernel| {
            kernel.run("cgroup_egress", &packet, 0);
        });
        let pieces = kernel.pieces();
        assert!(
            outcome == wanted || outcome == Outcome::Asked && wanted == Outcome::Left,
            "{id} {name}: {outcome:?}"
        );
        let given: Vec<_> = pieces.iter().map(|(piece, _)| piece.first).collect();
        assert_eq!(given, Vec::from_iter(scope), "{id} {name}");
        for (piece, octets) in pieces {
            assert_eq!((piece.kind, octets), (piece::QUESTION, message.clone()));
        }
    }
    let not_whole = udp("127.0.0.1", 50_000, &embedded, LISTENER, b"no question");
    assert_eq!(kernel.run("cgroup_ingress", &not_whole, 0).0, 0);
    let half = Segment {
        source: "127.0.0.1",
        source_port: 50_000,
        destination: &embedded,
        destination_port: LISTENER,
        sequence: 1,
        flags: ACK,
        payload: &[0, 40, 1, 2, 3],
    };
    assert_eq!(kernel.run("cgroup_ingress", &half.frame(), 0).0, 0);
}

#[test]
fn a_question_for_a_name_of_the_vpn_is_relayed_while_somebody_listens() {
    let mut kernel = Kernel::new();
    kernel.blocks("blocked.example");
    for (heard, wanted) in [(u64::MAX / 2, DROP), (0, NEXT)] {
        kernel.configured(|config| Config {
            relay: relay::NAMES,
            heard,
            ..config
        });
        for (name, wanted) in [("blocked.example", wanted), ("other.example", NEXT)] {
            let asked = udp(CLIENT, 2, RESOLVER, 53, &question(7, name));
            assert_eq!(flow(&mut kernel, &asked).0, wanted, "{name}");
        }
    }
}
