//! What keeps steer's marks where others set marks as a whole: rules of its nft table.
//!
//! Who restores a packet's mark from its connection (`CONNMARK --restore-mark`; wg-quick does so with all UDP), or sets one
//! without a mask, wipes out what a program has set before. So the connection is given the mark right before the hooks where
//! such rules are, and the packet has it from there again right after them.
//!
//! Firewalls look whether the way back to a packet's source is the interface that it came by (`fib saddr . mark . iif`,
//! firewalld's `IPv6_rpfilter`), which for answers is told by the mark that the questions had. So what comes by the VPN, or by
//! an uplink past it, has that mark meanwhile, from before `raw` until it is routed.

use nftables::{
    expr::{BinaryOperation, Expression, MetaKey},
    schema::Chain,
    stmt::{Mangle, Operator, Statement},
    types::{NfChainType, NfFamily, NfHook},
};

use super::{
    expression::{and, compared, conntrack, meta, of_interface, text},
    plan::{Mark, NftTable},
};

/// `raw`: where others look at the way back, or later.
const RAW: i32 = -300;
/// `mangle`: where others set marks.
const MANGLE: i32 = -150;
/// Behind all others.
const LAST: i32 = 300;

/// The chain that says by which interfaces steer has packets leave.
pub(super) const LOOK_BACK: &str = "look-back";

/// What a chain does.
#[derive(Clone, Copy)]
enum Task {
    /// To the packet, by where it came from.
    LookBack,
    /// Away again.
    Forget,
    /// From the packet to the connection.
    Note,
    /// Back.
    Restore,
}

/// The chains: name, what they do, where.
const CHAINS: [(&str, Task, NfChainType, NfHook); 6] = [
    (
        LOOK_BACK,
        Task::LookBack,
        NfChainType::Filter,
        NfHook::Prerouting,
    ),
    (
        "forget",
        Task::Forget,
        NfChainType::Filter,
        NfHook::Prerouting,
    ),
    (
        "note-in",
        Task::Note,
        NfChainType::Filter,
        NfHook::Prerouting,
    ),
    ("note-out", Task::Note, NfChainType::Filter, NfHook::Output),
    (
        "restore-in",
        Task::Restore,
        NfChainType::Filter,
        NfHook::Prerouting,
    ),
    // Has the kernel look up the route again.
    (
        "restore-out",
        Task::Restore,
        NfChainType::Route,
        NfHook::Output,
    ),
];

/// The chains, of a table.
pub(super) fn chains(table: &'static str) -> impl Iterator<Item = Chain<'static>> {
    CHAINS
        .into_iter()
        .map(move |(name, task, kind, hook)| Chain {
            family: NfFamily::INet,
            table: table.into(),
            name: name.into(),
            _type: Some(kind),
            hook: Some(hook),
            prio: Some(match task {
                Task::LookBack => RAW - 1,
                Task::Forget => LAST,
                Task::Note => MANGLE - 1,
                Task::Restore => MANGLE + 1,
            }),
            ..Chain::default()
        })
}

/// Their rules: in which chain, and what.
pub(super) fn rules(
    table: &NftTable,
) -> impl Iterator<Item = (&'static str, Vec<Statement<'static>>)> + use<> {
    let (mark, arrivals) = (table.mark, arrivals(table));
    let notes = notes(mark, table.interfaces.len());
    CHAINS.into_iter().flat_map(move |(name, task, _, hook)| {
        let arrivals = match hook {
            NfHook::Prerouting => &arrivals[..],
            _ => &[],
        };
        let rules = match task {
            Task::LookBack => arrivals.iter().map(|it| it.look_back(mark)).collect(),
            Task::Forget => arrivals.iter().map(|it| it.forget(mark)).collect(),
            Task::Note => passed(arrivals, note(mark, &notes)),
            Task::Restore => passed(arrivals, restore(mark, &notes)),
        };
        rules.into_iter().map(move |rule| (name, rule))
    })
}

/// An interface that steer has packets leave by, and the mark of those.
struct Arrival {
    interface: String,
    mark: u32,
}

fn arrivals(table: &NftTable) -> Vec<Arrival> {
    let arrival = |interface: &str, mark: Mark| Arrival {
        interface: interface.to_owned(),
        mark: mark.value(),
    };
    let vpns = table.tunnels().map(|(mark, it)| arrival(it, mark));
    let bypass = table.mark.bypass();
    let uplinks = table.uplinks.iter();
    let past = uplinks.filter_map(|it| Some(arrival(it, bypass?)));
    vpns.chain(past).collect()
}

impl Arrival {
    fn comes_by(&self) -> Statement<'static> {
        of_interface(MetaKey::Iifname, &self.interface)
    }

    fn look_back(&self, mark: Mark) -> Vec<Statement<'static>> {
        vec![self.comes_by(), set(packet, mark.mask(), self.mark)]
    }

    fn forget(&self, mark: Mark) -> Vec<Statement<'static>> {
        vec![self.comes_by(), set(packet, mark.mask(), 0)]
    }
}

/// Rules for all but what comes by one of those.
fn passed(
    arrivals: &[Arrival],
    rules: Vec<Vec<Statement<'static>>>,
) -> Vec<Vec<Statement<'static>>> {
    let pass = |it: &Arrival| vec![it.comes_by(), Statement::Return(None)];
    arrivals.iter().map(pass).chain(rules).collect()
}

const ORIGINAL: &str = "original";
const REPLY: &str = "reply";

fn other(direction: &str) -> &'static str {
    if direction == REPLY { ORIGINAL } else { REPLY }
}

/// How a connection says what mark the packets of a direction have.
struct Note {
    direction: &'static str,
    /// The packets' mark.
    packet: u32,
    /// The connection's.
    connection: u32,
}

/// What can be, with so many VPNs. Of who was asked from outside only that he answers past a VPN: what came by one is answered
/// by its default route. That is not noted where the mask has a VPN's mark in the place of the note's.
fn notes(mark: Mark, vpns: usize) -> Vec<Note> {
    let note = |direction, packet, connection| Note {
        direction,
        packet,
        connection,
    };
    let marks = mark.first(vpns).chain(mark.bypass()).map(Mark::value);
    let mut notes: Vec<_> = marks.map(|mark| note(ORIGINAL, mark, mark)).collect();
    if let (Some(bypass), Some(answers)) = (mark.bypass(), mark.answers(vpns)) {
        notes.push(note(REPLY, bypass.value(), answers));
    }
    notes
}

fn note(mark: Mark, notes: &[Note]) -> Vec<Vec<Statement<'static>>> {
    let is =
        |of, operator, value| compared(bits(of, mark.mask()), operator, Expression::Number(value));
    let mut rules = vec![vec![is(packet, Operator::EQ, 0), Statement::Return(None)]];
    rules.extend(notes.iter().map(|note| {
        vec![
            is(packet, Operator::EQ, note.packet),
            goes(note.direction),
            set(connection, mark.mask(), note.connection),
        ]
    }));
    rules
}

fn restore(mark: Mark, notes: &[Note]) -> Vec<Vec<Statement<'static>>> {
    let is =
        |of, operator, value| compared(bits(of, mark.mask()), operator, Expression::Number(value));
    let mut rules = vec![vec![
        is(connection, Operator::EQ, 0),
        Statement::Return(None),
    ]];
    for note in notes {
        let noted = is(connection, Operator::EQ, note.connection);
        rules.push(vec![
            noted.clone(),
            goes(note.direction),
            is(packet, Operator::NEQ, note.packet),
            set(packet, mark.mask(), note.packet),
        ]);
        // The packets of the other direction had none, and have the connection's by who restores it.
        rules.push(vec![
            noted,
            goes(other(note.direction)),
            is(packet, Operator::EQ, note.connection),
            set(packet, mark.mask(), 0),
        ]);
    }
    rules
}

pub(super) fn packet() -> Expression<'static> {
    meta(MetaKey::Mark)
}

pub(super) fn connection() -> Expression<'static> {
    conntrack("mark")
}

/// Packets of who began the connection (`original`), or of who answers (`reply`).
fn goes(direction: &'static str) -> Statement<'static> {
    compared(conntrack("direction"), Operator::EQ, text(direction))
}

fn bits(of: fn() -> Expression<'static>, mask: u32) -> Expression<'static> {
    and(of(), Expression::Number(mask))
}

/// Sets the bits of the mask, and leaves those of others.
pub(super) fn set(of: fn() -> Expression<'static>, mask: u32, value: u32) -> Statement<'static> {
    let kept = bits(of, !mask);
    let operation = BinaryOperation::OR(vec![kept, Expression::Number(value)]);
    Statement::Mangle(Mangle {
        key: of(),
        value: Expression::BinaryOperation(Box::new(operation)),
    })
}
