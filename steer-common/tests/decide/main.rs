//! Flows to paths, on tables made of standard collections.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use proptest::prelude::*;
use steer_common::{
    decide::{self, Course, Match, Tables},
    packet::{Packet, Place, TCP, UDP},
    stats::{Action, Outcome},
    types::{
        AddrEntry, Address, Config, FlowEntry, FlowKey, Origin, Path, Port, RuleEntry, ScopeEntry,
        VPNS, Verdict,
    },
};

mod process;
mod scope;

const SERVER: Address = Address::v4([203, 0, 113, 7]);
const CONTAINER: Address = Address::v4([172, 17, 0, 2]);
const HOST: Address = Address::v4([172, 17, 0, 1]);
const BRIDGE: u64 = 4;
const RULE: u64 = 99;
/// The default one.
const VPN: Path = Path::vpn(1);
const OTHER: Path = Path::vpn(VPNS as u32);

#[derive(Default)]
struct Model {
    flows: RefCell<HashMap<FlowKey, FlowEntry>>,
    direct: RefCell<HashSet<FlowKey>>,
    addresses: RefCell<HashMap<Address, Verdict>>,
    told: RefCell<Vec<(FlowKey, u32)>>,
    refused: RefCell<Vec<(FlowKey, u32)>>,
    room: Option<usize>,
    scope: Option<ScopeEntry>,
}

impl Tables for Model {
    fn held(&self, key: &FlowKey, place: Place) -> Option<FlowEntry> {
        let mut flows = self.flows.borrow_mut();
        let entry = flows.get_mut(key)?;
        let before = *entry;
        *entry = before.after(place, 0);
        Some(before)
    }
    fn left(&self, key: &FlowKey) -> bool {
        self.direct.borrow().contains(key)
    }
    fn address(&self, address: &Address, vpn: Path) -> Match {
        let verdict = self.addresses.borrow().get(address).copied();
        let verdict = verdict.unwrap_or_default();
        let config = Config {
            default: VPN,
            ..Config::default()
        };
        Match {
            verdict: if verdict.is_vpn() {
                Verdict::by(config.meant(verdict, vpn))
            } else {
                verdict
            },
            rule: RULE,
        }
    }
    fn scope(&self, origin: Origin, address: &Address) -> ScopeEntry {
        assert_eq!((origin, *address), (BRIDGE, CONTAINER));
        let scope = self.scope.unwrap_or(ScopeEntry::NONE);
        ScopeEntry {
            path: scope.path.or(VPN),
            ..scope
        }
    }
    fn has_scopes(&self) -> bool {
        self.scope.is_some()
    }
    fn is_home(&self, address: &Address) -> bool {
        *address == HOST
    }
    fn hold(&self, key: &FlowKey, path: Path) -> bool {
        let mut flows = self.flows.borrow_mut();
        if self.room.is_some_and(|room| flows.len() >= room) {
            return false;
        }
        flows.insert(*key, FlowEntry::new(0, path));
        true
    }
    fn leave(&self, key: &FlowKey) {
        self.direct.borrow_mut().insert(*key);
    }
    fn release(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }
    fn tell(&self, key: &FlowKey, matched: &Match, path: Path, scope: u32) {
        assert_eq!(matched.rule, RULE);
        assert_eq!(self.flows.borrow()[key].path, path);
        self.told.borrow_mut().push((*key, scope));
    }
    fn refuse(&self, key: &FlowKey, matched: &Match, sequence: u32) {
        assert_eq!((matched.verdict, matched.rule), (Verdict::BLOCK, RULE));
        self.refused.borrow_mut().push((*key, sequence));
    }
}

impl Model {
    fn say(&self, verdict: Verdict) {
        self.addresses.borrow_mut().insert(SERVER, verdict);
    }
}

fn packet(protocol: u32, place: Place, port: u16) -> Packet {
    Packet {
        source_port: Port::new(40_000),
        destination_port: Port::new(port),
        place,
        ..Packet::new(CONTAINER, SERVER, protocol)
    }
}

fn reply(protocol: u32, place: Place, port: u16) -> Packet {
    let packet = packet(protocol, place, port);
    Packet {
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        ..packet
    }
}

fn outgoing(model: &Model, origin: Origin, packet: &Packet) -> Outcome {
    let Course { outcome, path } = decide::outgoing(model, origin, packet);
    let steered = outcome.action() == Action::Steer;
    assert_eq!(path.is_vpn(), steered, "{outcome:?} {packet:?}");
    outcome
}

fn incoming(model: &Model, origin: Origin, packet: &Packet, by_vpn: bool) -> Option<Outcome> {
    let path = if by_vpn { VPN } else { Path::DIRECT };
    decide::incoming(model, origin, packet, Some(path))
}

fn out(model: &Model, protocol: u32, place: Place) -> Outcome {
    outgoing(model, BRIDGE, &packet(protocol, place, 443))
}

#[test]
fn tcp_keeps_the_path_it_began_on() {
    let model = Model::default();
    assert_eq!(out(&model, TCP, Place::First), Outcome::Unmatched);
    model.say(Verdict::VPN);
    assert_eq!(out(&model, TCP, Place::Later), Outcome::Left);
    assert_eq!(out(&model, TCP, Place::Last), Outcome::Left);

    assert_eq!(out(&model, TCP, Place::First), Outcome::Begun);
    model.say(Verdict::NONE);
    assert_eq!(out(&model, TCP, Place::Later), Outcome::Held);
    assert_eq!(
        out(&model, TCP, Place::First),
        Outcome::Held,
        "a SYN sent again"
    );
    assert_eq!(out(&model, TCP, Place::Last), Outcome::Held);
    assert_eq!(
        out(&model, TCP, Place::Later),
        Outcome::Held,
        "the last acknowledgement"
    );
    assert_eq!(
        out(&model, TCP, Place::First),
        Outcome::Unmatched,
        "a new connection on the same ports"
    );
    assert_eq!(out(&model, TCP, Place::Later), Outcome::Left);
}

#[test]
fn udp_keeps_the_path_it_began_on() {
    let model = Model::default();
    assert_eq!(out(&model, UDP, Place::Unknown), Outcome::Unmatched);
    model.say(Verdict::VPN);
    assert_eq!(out(&model, UDP, Place::Unknown), Outcome::Left);

    let model = Model::default();
    model.say(Verdict::VPN);
    assert_eq!(out(&model, UDP, Place::Unknown), Outcome::Begun);
    model.say(Verdict::DIRECT);
    assert_eq!(out(&model, UDP, Place::Unknown), Outcome::Held);
    assert_eq!(model.told.borrow().len(), 1);
}

#[test]
fn what_is_blocked_does_not_begin() {
    for (protocol, first, later) in [
        (TCP, Place::First, Place::Later),
        (UDP, Place::Unknown, Place::Unknown),
    ] {
        let model = Model::default();
        model.say(Verdict::BLOCK);
        let begins = Packet {
            sequence: 7,
            ..packet(protocol, first, 443)
        };
        for _ in 0..2 {
            assert_eq!(outgoing(&model, BRIDGE, &begins), Outcome::Refused);
        }
        let key = FlowKey::of(BRIDGE, &begins);
        assert_eq!(*model.refused.borrow(), [(key, 7), (key, 7)]);
        assert!(model.direct.borrow().is_empty() && model.flows.borrow().is_empty());
        model.say(Verdict::NONE);
        assert_eq!(
            outgoing(&model, BRIDGE, &begins),
            Outcome::Unmatched,
            "once no rule blocks it any more"
        );
        model.say(Verdict::BLOCK);
        assert_eq!(out(&model, protocol, later), Outcome::Left, "begun before");

        let model = Model::default();
        model.say(Verdict::BLOCK);
        for by_vpn in [true, false] {
            incoming(&model, BRIDGE, &reply(protocol, first, 443), by_vpn);
            let answer = out(&model, protocol, later);
            assert_ne!(answer, Outcome::Refused, "who comes in is answered");
        }
    }
    let model = Model::default();
    model.say(Verdict::BLOCK);
    let key = FlowKey::of_datagrams(5, SERVER, Port::new(443));
    assert_eq!(
        steer_common::process::datagram(&model, &ScopeEntry::NONE, &key).outcome,
        Outcome::Refused
    );
    let error = Packet {
        quoted: UDP,
        ..packet(1, Place::Later, 443)
    };
    assert_eq!(
        outgoing(&model, BRIDGE, &error),
        Outcome::Left,
        "an error about what came in"
    );
}

#[test]
fn what_tells_no_flow_goes_by_its_address() {
    let model = Model::default();
    assert_eq!(out(&model, 1, Place::Stateless), Outcome::Left);
    model.say(Verdict::BLOCK);
    assert_eq!(out(&model, 1, Place::Stateless), Outcome::Refused);
    assert!(model.refused.borrow().is_empty(), "nobody is told of it");
    model.say(Verdict::VPN);
    assert_eq!(out(&model, 1, Place::Stateless), Outcome::Stateless);
    assert_eq!(out(&model, 1, Place::Later), Outcome::Left, "an echo reply");
}

#[test]
fn a_connection_that_the_far_side_ends_is_ending() {
    let model = Model::default();
    model.say(Verdict::VPN);
    assert_eq!(out(&model, TCP, Place::First), Outcome::Begun);
    assert_eq!(
        incoming(&model, BRIDGE, &reply(TCP, Place::Last, 443), true),
        None
    );
    let states: Vec<_> = model.flows.borrow().values().map(|e| e.state).collect();
    assert_eq!(states, [FlowEntry::ENDS]);
}

#[test]
fn flows_are_over_by_protocol_and_state() {
    use FlowEntry as E;
    for (protocol, seen, state, tick, over) in [
        (UDP, 100, E::BEGUN, 117, false),
        (UDP, 100, E::BEGUN, 118, true),
        (TCP, 100, E::BEGUN, 111, false),
        (TCP, 100, E::BEGUN, 112, true),
        (TCP, 100, E::RUNS, 100 + 43_199, false),
        (TCP, 100, E::RUNS, 100 + 43_200, true),
        (TCP, 100, E::ENDS, 117, false),
        (TCP, 100, E::ENDS, 118, true),
        (UDP, 101, E::BEGUN, 100, false),
        (UDP, u32::MAX - 1, E::BEGUN, 16, true),
        (UDP, u32::MAX - 1, E::BEGUN, 15, false),
    ] {
        let entry = E {
            seen,
            state,
            ..E::new(0, VPN)
        };
        assert_eq!(
            entry.is_over(protocol, tick),
            over,
            "{protocol} {entry:?} at {tick}"
        );
    }
}

#[test]
fn questions_fill_no_table() {
    let model = Model::default();
    assert_eq!(
        outgoing(&model, BRIDGE, &packet(UDP, Place::Unknown, 53)),
        Outcome::Unmatched
    );
    assert!(model.direct.borrow().is_empty());
}

#[test]
fn a_full_table_stops_a_flow_rather_than_letting_it_go_half_way() {
    let model = Model {
        room: Some(0),
        ..Model::default()
    };
    model.say(Verdict::VPN);
    for (protocol, place) in [(TCP, Place::First), (UDP, Place::Unknown)] {
        assert_eq!(out(&model, protocol, place), Outcome::FlowsFull);
    }
    assert!(model.told.borrow().is_empty());
}

#[test]
fn replies_leave_the_way_the_request_came() {
    for (protocol, first, later) in [
        (TCP, Place::First, Place::Later),
        (UDP, Place::Unknown, Place::Unknown),
    ] {
        let model = Model::default();
        let came = incoming(&model, BRIDGE, &reply(protocol, first, 443), true);
        assert_eq!(came, Some(Outcome::CameByVpn));
        assert_eq!(out(&model, protocol, later), Outcome::Held);

        let model = Model::default();
        model.say(Verdict::VPN);
        assert_eq!(
            incoming(&model, BRIDGE, &reply(protocol, first, 443), false),
            None
        );
        assert_eq!(out(&model, protocol, later), Outcome::Left);
    }
}

#[test]
fn what_answers_a_forgotten_flow_leaves_the_way_that_it_came() {
    for place in [Place::Later, Place::Last] {
        let model = Model::default();
        model.say(Verdict::VPN);
        let came = incoming(&model, BRIDGE, &reply(TCP, place, 443), true);
        assert_eq!(came, Some(Outcome::CameByVpn));
        assert_eq!(out(&model, TCP, Place::Last), Outcome::Held);

        let model = Model::default();
        model.say(Verdict::VPN);
        let came = incoming(&model, BRIDGE, &reply(TCP, place, 443), false);
        assert_eq!(came, None);
        assert_eq!(out(&model, TCP, Place::Last), Outcome::Left);
    }
}

#[test]
fn an_answer_to_a_flow_is_no_request() {
    let model = Model::default();
    model.say(Verdict::VPN);
    assert_eq!(out(&model, UDP, Place::Unknown), Outcome::Begun);
    assert_eq!(
        incoming(&model, BRIDGE, &reply(UDP, Place::Unknown, 443), false),
        None
    );
    assert!(model.direct.borrow().is_empty());
    assert_eq!(out(&model, UDP, Place::Unknown), Outcome::Held);
}

#[test]
fn the_longest_suffix_wins_and_the_name_itself_over_what_is_below() {
    let entry = |exact, below| RuleEntry { exact, below };
    let mut matched = Match::default();
    matched.suffix(1, false, &entry(Verdict::DIRECT, Verdict::VPN));
    assert_eq!(
        matched,
        Match {
            verdict: Verdict::VPN,
            rule: 1
        }
    );
    matched.suffix(2, false, &entry(Verdict::DIRECT, Verdict::NONE));
    assert_eq!(matched.rule, 1, "a rule for another name alone");
    matched.suffix(3, true, &entry(Verdict::DIRECT, Verdict::VPN));
    assert_eq!(
        matched,
        Match {
            verdict: Verdict::DIRECT,
            rule: 3
        }
    );
    let mut below_alone = Match::default();
    below_alone.suffix(3, true, &entry(Verdict::NONE, Verdict::VPN));
    assert_eq!(
        below_alone,
        Match::default(),
        "*.name does not speak of the name"
    );
}

#[test]
fn a_flow_keeps_the_vpn_that_it_began_on() {
    let course = |model: &Model, protocol, place| {
        decide::outgoing(model, BRIDGE, &packet(protocol, place, 443)).path
    };
    for (verdict, vpn) in [(Verdict::VPN, VPN), (Verdict::by(OTHER), OTHER)] {
        for (protocol, first, later) in [
            (TCP, Place::First, Place::Later),
            (UDP, Place::Unknown, Place::Unknown),
        ] {
            let model = Model::default();
            model.say(verdict);
            assert_eq!(course(&model, protocol, first), vpn);
            for then in [
                Verdict::NONE,
                Verdict::DIRECT,
                Verdict::VPN,
                Verdict::by(OTHER),
            ] {
                model.say(then);
                assert_eq!(course(&model, protocol, later), vpn, "{then:?}");
            }
        }
    }
    let model = Model::default();
    let request = reply(TCP, Place::First, 443);
    decide::incoming(&model, BRIDGE, &request, Some(OTHER));
    assert_eq!(course(&model, TCP, Place::Later), OTHER);
}

#[test]
fn a_vpn_that_is_named_stands_against_none_but_another() {
    let by = |verdict, rule| Match { verdict, rule };
    let (any, first) = (by(Verdict::VPN, 1), by(Verdict::by(VPN), 2));
    let other = by(Verdict::by(OTHER), 3);
    let mut entry = AddrEntry::default();
    entry.begin(&any, 10);
    assert_eq!(entry.at(5), any);
    for (matched, holds) in [(first, first), (any, first), (other, other), (any, other)] {
        assert_eq!(
            entry.is_of_another(matched.verdict, 5),
            entry.at(5).verdict != matched.verdict
        );
        assert!(!entry.learn(&matched, 10, 5));
        assert_eq!(entry.at(5), holds);
    }
    // Longer than the one that is named: user space sees to it, for until then it must not go direct.
    let mut longer = entry;
    assert!(!longer.learn(&any, 15, 5));
    assert_eq!(longer.at(12), other);
    assert_eq!(entry.contested_by(first.verdict, 5), other.rule);
    assert_eq!(entry.contested_by(other.verdict, 5), 0);
    assert!(entry.learn(&any, 20, 10), "what has expired holds nothing");
    assert_eq!(entry.at(15), any);
}

#[test]
fn an_address_of_both_verdicts_takes_the_vpn_while_that_lives() {
    const SECOND: u64 = 1_000_000_000;
    let config = Config {
        floor: 60 * SECOND,
        grace: 10 * SECOND,
        ..Config::default()
    };
    let vpn = Match {
        verdict: Verdict::VPN,
        rule: 1,
    };
    let direct = Match {
        verdict: Verdict::DIRECT,
        rule: 2,
    };
    let mut entry = AddrEntry::default();
    let until = |ttl, now| decide::until(ttl, &config, now);
    assert!(entry.learn(&direct, until(300, 0), 0), "news");
    assert_eq!(entry.contested_by(Verdict::VPN, 1), direct.rule);
    assert_eq!(
        entry.contested_by(Verdict::DIRECT, 1),
        0,
        "no other verdict"
    );
    assert_eq!(entry.at(1), direct);
    assert!(entry.learn(&vpn, until(1, 0), 0), "news");
    assert!(!entry.learn(&vpn, until(1, SECOND), SECOND), "no news");
    assert_eq!(entry.at(71 * SECOND - 1), vpn, "the floor and the grace");
    assert_eq!(entry.at(71 * SECOND), direct);
    assert_eq!(entry.at(310 * SECOND), Match::default());
    let later = 400 * SECOND;
    assert!(entry.learn(&vpn, until(0, later), later), "news again");
    let before = entry;
    entry.learn(&vpn, until(3600, later), later);
    let long = entry;
    entry.learn(&vpn, until(1, later), later);
    assert!(before.vpn_until < long.vpn_until);
    assert_eq!(entry.vpn_until, long.vpn_until, "an answer never shortens");
}

proptest! {
    /// An address has each verdict as long as its longest grant of it lasts, and of those the one that has the most say.
    #[test]
    fn an_address_has_the_strongest_of_what_lasts(
        grants in prop::collection::vec((0usize..3, 1u64..50, 0u64..50), 1..20),
    ) {
        const SAY: [Verdict; 3] = [Verdict::VPN, Verdict::DIRECT, Verdict::BLOCK];
        let mut entry = AddrEntry::default();
        let mut lasts = [0; 3];
        let mut now = 0;
        for (place, (which, span, pause)) in grants.into_iter().enumerate() {
            now += pause;
            let matched = Match { verdict: SAY[which], rule: which as u64 + 1 };
            let others = |others: [usize; 2]| {
                let lasting = others.into_iter().find(|it| lasts[*it] > now);
                lasting.map_or(0, |it| it as u64 + 1)
            };
            let contested_by = others([[1, 2], [0, 2], [0, 1]][which]);
            prop_assert_eq!(entry.contested_by(matched.verdict, now), contested_by);
            if place == 0 {
                entry.begin(&matched, now + span);
            } else {
                prop_assert_eq!(entry.learn(&matched, now + span, now), lasts[which] <= now);
            }
            lasts[which] = lasts[which].max(now + span);
            for later in [now, now + 10, now + 40] {
                let holds = lasts.iter().position(|until| *until > later);
                let holds = holds.map_or(Match::default(), |it| Match {
                    verdict: SAY[it],
                    rule: it as u64 + 1,
                });
                prop_assert_eq!(entry.at(later), holds);
            }
        }
    }
}

/// What happens to one flow: packets in any order, and verdicts that change between them.
#[derive(Clone, Debug)]
enum Happening {
    Verdict(u8),
    Packet(Place),
}

const ANY: [Verdict; 4] = [Verdict::NONE, Verdict::DIRECT, Verdict::VPN, Verdict::BLOCK];

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0u8..4).prop_map(Happening::Verdict),
        prop::sample::select(vec![Place::First, Place::Later, Place::Last])
            .prop_map(Happening::Packet),
    ]
}

proptest! {
    /// Between one first packet of a connection and the next, its path never changes.
    #[test]
    fn no_tcp_connection_ever_changes_its_path(happenings in prop::collection::vec(happening(), 1..60)) {
        let model = Model::default();
        let mut path: Option<Action> = None;
        let mut closing = true;
        for happening in happenings {
            match happening {
                Happening::Verdict(v) => model.say(ANY[usize::from(v)]),
                Happening::Packet(place) => {
                    let outcome = out(&model, TCP, place);
                    let action = outcome.action();
                    let begins = place == Place::First && (closing || path == Some(Action::Pass));
                    if action == Action::Drop {
                        prop_assert!(begins && outcome == Outcome::Refused);
                        (path, closing) = (None, true);
                        continue;
                    }
                    if !begins {
                        prop_assert_eq!(action, path.unwrap_or(Action::Pass));
                    }
                    path = Some(action);
                    closing = match place {
                        Place::Last => true,
                        Place::First if begins => false,
                        _ => closing,
                    };
                }
            }
        }
    }

    #[test]
    fn no_udp_flow_ever_changes_its_path(verdicts in prop::collection::vec(0u8..4, 1..40)) {
        let model = Model::default();
        let mut path = None;
        for verdict in verdicts {
            model.say(ANY[usize::from(verdict)]);
            let action = out(&model, UDP, Place::Unknown).action();
            if action == Action::Drop {
                prop_assert_eq!((path, ANY[usize::from(verdict)]), (None, Verdict::BLOCK));
                continue;
            }
            prop_assert_eq!(action, *path.get_or_insert(action));
        }
    }
}
