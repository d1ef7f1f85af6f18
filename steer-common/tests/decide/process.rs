//! What leaves a scope of processes, and by which path.

use steer_common::{
    packet::{Packet, Place, TCP, UDP},
    process,
    stats::Outcome as O,
    types::{Address, FlowKey, Path, Port, ScopeEntry, Verdict},
};

use super::{CONTAINER, HOST, Model, OTHER, SERVER, VPN, packet};

const SOCKET: u64 = 77;
const LOOPBACK: Address = Address::v4([127, 0, 0, 53]);
const MULTICAST: Address = Address::v4([224, 0, 0, 251]);

fn scope(default: u32, dns: u32) -> ScopeEntry {
    ScopeEntry {
        default,
        dns,
        scope: 7,
        path: VPN,
    }
}

fn leaves(model: &Model, scope: &ScopeEntry, packet: &Packet, marked: Path) -> Result<Path, O> {
    process::leaves(model, scope, SOCKET, packet, marked)
}

fn datagram(model: &Model, scope: &ScopeEntry, remote: Address, port: u16) -> (O, Path) {
    let key = FlowKey::of_datagrams(SOCKET, remote, Port::new(port));
    let course = process::datagram(model, scope, &key);
    (course.outcome, course.path)
}

#[test]
fn each_default_has_its_way() {
    let scopes = [ScopeEntry::VPN, ScopeEntry::BLOCK, ScopeEntry::FREE].map(|it| scope(it, 0));
    for (remote, port, verdict, wanted) in [
        (
            SERVER,
            443,
            Verdict::NONE,
            [O::Begun, O::Blocked, O::Unmatched],
        ),
        (SERVER, 443, Verdict::DIRECT, [O::Direct; 3]),
        (SERVER, 443, Verdict::VPN, [O::Begun; 3]),
        (SERVER, 443, Verdict::BLOCK, [O::Refused; 3]),
        (HOST, 80, Verdict::NONE, [O::Left, O::Left, O::Unmatched]),
        (
            HOST,
            53,
            Verdict::NONE,
            [O::Isolated, O::Isolated, O::Unmatched],
        ),
        (
            LOOPBACK,
            53,
            Verdict::NONE,
            [O::Isolated, O::Isolated, O::Unmatched],
        ),
        (
            MULTICAST,
            5353,
            Verdict::NONE,
            [O::Left, O::Left, O::Unmatched],
        ),
    ] {
        for (scope, wanted) in scopes.iter().zip(wanted) {
            let model = Model::default();
            model.say(verdict);
            let (_, course) = process::toward(&model, scope, &remote, Port::new(port));
            let said = format!("default {}, {remote:?}", scope.default);
            assert_eq!(course.outcome, wanted, "{said}");
            assert_eq!(course.path.is_vpn(), wanted == O::Begun, "{said}");
        }
    }
    let (_, course) = process::toward(
        &Model::default(),
        &scope(ScopeEntry::VPN, 1),
        &SERVER,
        Port::new(853),
    );
    assert_eq!(course.outcome, O::Isolated);
}

#[test]
fn what_a_rule_blocks_leaves_no_scope() {
    for default in [ScopeEntry::VPN, ScopeEntry::BLOCK, ScopeEntry::FREE] {
        let (model, scope) = (Model::default(), scope(default, 0));
        model.say(Verdict::BLOCK);
        assert_eq!(datagram(&model, &scope, SERVER, 1).0, O::Refused);
        assert_eq!(model.refused.borrow().len(), 1, "user space is told");
        let packet = packet(UDP, Place::Unknown, 1);
        assert_eq!(
            leaves(&model, &scope, &packet, Path::DIRECT),
            Err(O::Refused)
        );
    }
}

#[test]
fn datagrams_keep_their_path_and_leave_by_it() {
    let (model, scope) = (Model::default(), scope(ScopeEntry::VPN, 0));
    assert_eq!(datagram(&model, &scope, SERVER, 1), (O::Begun, VPN));
    model.say(Verdict::DIRECT);
    assert_eq!(datagram(&model, &scope, SERVER, 1), (O::Held, VPN));
    assert_eq!(
        datagram(&model, &scope, SERVER, 2),
        (O::Direct, Path::DIRECT)
    );
    model.say(Verdict::NONE);
    assert_eq!(datagram(&model, &scope, SERVER, 2).0, O::Left);
    for (port, path) in [(1, VPN), (2, Path::DIRECT), (3, VPN)] {
        let packet = packet(UDP, Place::Unknown, port);
        assert_eq!(leaves(&model, &scope, &packet, Path::DIRECT), Ok(path));
        assert_eq!(leaves(&model, &scope, &packet, OTHER), Ok(OTHER));
    }
    let full = Model {
        room: Some(0),
        ..Model::default()
    };
    assert_eq!(datagram(&full, &scope, SERVER, 1).0, O::FlowsFull);
}

#[test]
fn whoever_comes_is_answered_by_the_way_he_came() {
    let scope = scope(ScopeEntry::BLOCK, 1);
    for path in [Path::DIRECT, VPN, OTHER] {
        for (protocol, first, later) in [
            (TCP, Place::First, Place::Later),
            (UDP, Place::Unknown, Place::Unknown),
        ] {
            let model = Model::default();
            let answer = packet(protocol, later, 9);
            assert_eq!(
                leaves(&model, &scope, &answer, Path::DIRECT),
                Err(O::Blocked)
            );
            let comes = Packet {
                source_port: Port::new(9),
                place: first,
                ..Packet::new(SERVER, CONTAINER, protocol)
            };
            process::comes(&model, SOCKET, &comes, path).unwrap();
            assert_eq!(leaves(&model, &scope, &answer, Path::DIRECT), Ok(path));
            if protocol == UDP {
                assert_eq!(datagram(&model, &scope, SERVER, 9).1, path);
            }
            // By whatever way more comes.
            process::comes(
                &model,
                SOCKET,
                &Packet {
                    place: later,
                    ..comes
                },
                VPN,
            )
            .unwrap();
            assert_eq!(leaves(&model, &scope, &answer, Path::DIRECT), Ok(path));
        }
    }
}

#[test]
fn nobody_is_noted_who_is_no_stranger_or_only_answers() {
    for (source, port, protocol, place) in [
        (HOST, 9, TCP, Place::First),
        (HOST, 9, UDP, Place::Unknown),
        (SERVER, 53, UDP, Place::Unknown),
        (SERVER, 9, TCP, Place::Later),
        (SERVER, 9, TCP, Place::Last),
        (SERVER, 0, 1, Place::Stateless),
    ] {
        let model = Model::default();
        let comes = Packet {
            source_port: Port::new(port),
            place,
            ..Packet::new(source, CONTAINER, protocol)
        };
        process::comes(&model, SOCKET, &comes, Path::DIRECT).unwrap();
        assert!(model.flows.borrow().is_empty(), "{comes:?}");
    }
}

#[test]
fn questions_take_the_scopes_vpn_and_what_stays_stays() {
    for default in [ScopeEntry::VPN, ScopeEntry::BLOCK] {
        let model = Model::default();
        model.say(Verdict::DIRECT);
        let asks = packet(UDP, Place::Unknown, 53);
        let led = scope(default, 1);
        assert_eq!(leaves(&model, &led, &asks, Path::DIRECT), Ok(VPN));
        let to = |destination, port| Packet {
            destination,
            ..packet(UDP, Place::Unknown, port)
        };
        let own = scope(default, 0);
        for (packet, wanted) in [
            (to(HOST, 80), Ok(Path::DIRECT)),
            (to(HOST, 53), Err(O::Isolated)),
            (to(MULTICAST, 5353), Err(O::Isolated)),
        ] {
            assert_eq!(leaves(&model, &own, &packet, Path::DIRECT), wanted);
        }
    }
}
