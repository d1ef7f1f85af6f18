//! What leaves a scope, and which way.

use proptest::prelude::*;
use steer_common::{
    packet::{Packet, Place, TCP, UDP},
    stats::{Action, Outcome},
    types::{Address, Path, ScopeEntry, Verdict},
};

use super::{BRIDGE, CONTAINER, HOST, Model, SERVER, incoming, outgoing, packet, reply};

const ICMP: u32 = 1;
/// What clouds tell their machines.
const METADATA: Address = Address::v4([169, 254, 169, 254]);
const MULTICAST: Address = Address::v4([224, 0, 0, 251]);

fn scoped(default: u32, dns: u32) -> Model {
    Model {
        scope: Some(ScopeEntry {
            default,
            dns,
            scope: 7,
            path: Path::DIRECT,
        }),
        ..Model::default()
    }
}

fn to(destination: Address, protocol: u32, place: Place, port: u16) -> Packet {
    Packet {
        destination,
        ..packet(protocol, place, port)
    }
}

#[test]
fn each_default_has_its_way() {
    use Outcome as O;
    let syn = |address, port| to(address, TCP, Place::First, port);
    let datagram = |address, port| to(address, UDP, Place::Unknown, port);
    let echo = |address| to(address, ICMP, Place::Stateless, 0);
    let rows = [
        // What,               unknown,        vpn,           block
        (syn(SERVER, 443), [O::ScopeUnknown, O::Begun, O::Blocked]),
        (
            datagram(SERVER, 443),
            [O::ScopeUnknown, O::Begun, O::Blocked],
        ),
        (echo(SERVER), [O::ScopeUnknown, O::Stateless, O::Blocked]),
        (
            to(SERVER, TCP, Place::Later, 443),
            [O::ScopeUnknown, O::Isolated, O::Isolated],
        ),
        (
            to(SERVER, TCP, Place::Last, 443),
            [O::ScopeUnknown, O::Isolated, O::Isolated],
        ),
        (syn(HOST, 80), [O::Left; 3]),
        (datagram(HOST, 80), [O::Left; 3]),
        (echo(HOST), [O::Left; 3]),
        (
            datagram(HOST, 53),
            [O::ScopeUnknown, O::Isolated, O::Isolated],
        ),
        (syn(HOST, 53), [O::ScopeUnknown, O::Isolated, O::Isolated]),
        (
            syn(METADATA, 80),
            [O::ScopeUnknown, O::Isolated, O::Isolated],
        ),
        (datagram(MULTICAST, 5353), [O::Left; 3]),
    ];
    let defaults = [ScopeEntry::UNKNOWN, ScopeEntry::VPN, ScopeEntry::BLOCK];
    for (packet, wanted) in rows {
        for (default, wanted) in defaults.into_iter().zip(wanted) {
            let model = scoped(default, 0);
            let outcome = outgoing(&model, BRIDGE, &packet);
            assert_eq!(outcome, wanted, "default {default}: {packet:?}");
        }
    }
}

#[test]
fn rules_win_over_a_default() {
    for default in [ScopeEntry::VPN, ScopeEntry::BLOCK] {
        for (verdict, wanted, scope) in [
            (Verdict::DIRECT, Outcome::Direct, None),
            (Verdict::VPN, Outcome::Begun, Some(0)),
            (Verdict::BLOCK, Outcome::Refused, None),
        ] {
            let model = scoped(default, 0);
            model.say(verdict);
            let syn = packet(TCP, Place::First, 443);
            assert_eq!(outgoing(&model, BRIDGE, &syn), wanted, "{default}");
            let is_refused = verdict == Verdict::BLOCK;
            assert_eq!(model.refused.borrow().len(), usize::from(is_refused));
            model.say(Verdict::NONE);
            let ack = packet(TCP, Place::Later, 443);
            let kept = outgoing(&model, BRIDGE, &ack).action();
            assert_eq!(kept, wanted.action(), "{default}: it keeps its path");
            let told: Vec<_> = model.told.borrow().iter().map(|(_, told)| *told).collect();
            assert_eq!(told, Vec::from_iter(scope));
        }
    }
    let model = scoped(ScopeEntry::VPN, 0);
    outgoing(&model, BRIDGE, &packet(TCP, Place::First, 443));
    assert_eq!(model.told.borrow()[0].1, 7, "which scope's default it is");
}

#[test]
fn questions_take_the_vpn_whomever_they_are_to() {
    for default in [ScopeEntry::VPN, ScopeEntry::BLOCK] {
        for address in [HOST, SERVER] {
            let model = scoped(default, 1);
            model.say(Verdict::DIRECT);
            let asked = to(address, UDP, Place::Unknown, 53);
            assert_eq!(outgoing(&model, BRIDGE, &asked), Outcome::Stateless);
            assert!(model.flows.borrow().is_empty(), "questions fill no table");
            let asked = to(address, TCP, Place::First, 53);
            assert_eq!(outgoing(&model, BRIDGE, &asked), Outcome::Begun);
        }
    }
}

#[test]
fn who_comes_from_outside_is_answered_that_way() {
    for default in [ScopeEntry::UNKNOWN, ScopeEntry::VPN, ScopeEntry::BLOCK] {
        for (protocol, place, later) in [
            (TCP, Place::First, Place::Later),
            (UDP, Place::Unknown, Place::Unknown),
        ] {
            for (by_vpn, wanted) in [(false, Action::Pass), (true, Action::Steer)] {
                let model = scoped(default, 0);
                incoming(&model, BRIDGE, &reply(protocol, place, 443), by_vpn);
                let answer = outgoing(&model, BRIDGE, &packet(protocol, later, 443));
                assert_eq!(answer.action(), wanted, "{default} {protocol} {by_vpn}");
            }
        }
    }
}

#[test]
fn a_full_table_lets_nothing_out() {
    for verdict in [Verdict::DIRECT, Verdict::NONE] {
        let model = Model {
            room: Some(0),
            ..scoped(ScopeEntry::VPN, 1)
        };
        model.say(verdict);
        for (protocol, place) in [(TCP, Place::First), (UDP, Place::Unknown)] {
            let outcome = outgoing(&model, BRIDGE, &packet(protocol, place, 443));
            assert_eq!(outcome, Outcome::FlowsFull);
        }
        let come = incoming(&model, BRIDGE, &reply(TCP, Place::First, 443), false);
        assert_eq!(come, Some(Outcome::FlowsFull));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Out(Packet),
    /// By the VPN.
    In(Packet),
    Say(Verdict),
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop::sample::select(vec![Verdict::NONE, Verdict::VPN, Verdict::BLOCK]);
    let place = prop::sample::select(vec![Place::First, Place::Later, Place::Last]);
    let address = prop::sample::select(vec![SERVER, HOST, METADATA]);
    let port = prop::sample::select(vec![53, 443]);
    let any = (address, place, port, 0..4u8, any::<bool>());
    let of_packets = any.prop_map(|(address, place, port, kind, is_out)| {
        let (protocol, place, quoted) = match kind {
            0 => (TCP, place, 0),
            1 => (UDP, Place::Unknown, 0),
            2 => (ICMP, Place::Stateless, 0),
            _ => (ICMP, Place::Unknown, UDP),
        };
        let packet = Packet {
            quoted,
            ..to(address, protocol, place, port)
        };
        if is_out {
            return Step::Out(packet);
        }
        Step::In(Packet {
            source: packet.destination,
            destination: CONTAINER,
            source_port: packet.destination_port,
            destination_port: packet.source_port,
            ..packet
        })
    });
    prop_oneof![8 => of_packets, 1 => verdict.prop_map(Step::Say)]
}

proptest! {
    /// While no rule sends it direct and nobody comes in that way, nothing of a scope leaves the host but by the VPN.
    #[test]
    fn nothing_leaks(
        steps in prop::collection::vec(step(), 1..60),
        default in prop::sample::select(vec![ScopeEntry::UNKNOWN, ScopeEntry::VPN, ScopeEntry::BLOCK]),
        dns in 0..2u32,
    ) {
        let model = scoped(default, dns);
        for step in steps {
            match step {
                Step::Say(verdict) => model.say(verdict),
                Step::In(packet) => {
                    incoming(&model, BRIDGE, &packet, true);
                }
                Step::Out(packet) => {
                    let outcome = outgoing(&model, BRIDGE, &packet);
                    let stays = packet.destination == HOST
                        && (packet.destination_port.number() != 53 || packet.quoted != 0 || packet.protocol == ICMP);
                    prop_assert!(
                        outcome.action() != Action::Pass || stays,
                        "{outcome:?}: {packet:?}"
                    );
                }
            }
        }
    }
}
