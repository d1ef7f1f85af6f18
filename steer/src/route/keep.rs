//! What keeps steer's marks where others set marks as a whole: rules of its nft table.
//!
//! Who restores a packet's mark from its connection (`CONNMARK --restore-mark`; wg-quick does so with all UDP), or sets one
//! without a mask, wipes out what a program has set before. So the connection is given the mark right before the hooks where
//! such rules are, and the packet has it from there again right after them.

use std::borrow::Cow;

use nftables::{
    expr::{BinaryOperation, CT, Expression, Meta, MetaKey, NamedExpression},
    schema::Chain,
    stmt::{Mangle, Match, Operator, Statement},
    types::{NfChainType, NfFamily, NfHook},
};

use super::plan::Mark;

/// `mangle`: where others set marks.
const MANGLE: i32 = -150;

/// What a chain does.
#[derive(Clone, Copy)]
enum Task {
    /// From the packet to the connection.
    Note,
    /// Back.
    Restore,
}

/// The chains: name, what they do, where.
const CHAINS: [(&str, Task, NfChainType, NfHook); 4] = [
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
                Task::Note => MANGLE - 1,
                Task::Restore => MANGLE + 1,
            }),
            ..Chain::default()
        })
}

/// Their rules: in which chain, and what.
pub(super) fn rules(mark: Mark) -> impl Iterator<Item = (&'static str, Vec<Statement<'static>>)> {
    CHAINS.into_iter().flat_map(move |(name, task, ..)| {
        let rules = match task {
            Task::Note => note(mark),
            Task::Restore => restore(mark),
        };
        rules.into_iter().map(move |rule| (name, rule))
    })
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

/// What can be. Of who was asked from outside only that he answers past the VPN: what came by it is answered by its default
/// route.
fn notes(mark: Mark) -> Vec<Note> {
    let note = |direction, packet, connection| Note {
        direction,
        packet,
        connection,
    };
    let mut notes = vec![note(ORIGINAL, mark.value(), mark.value())];
    if let Some(bypass) = mark.bypass().map(Mark::value) {
        notes.push(note(ORIGINAL, bypass, bypass));
        notes.push(note(REPLY, bypass, mark.value() | bypass));
    }
    notes
}

fn note(mark: Mark) -> Vec<Vec<Statement<'static>>> {
    let is = |of, operator, value| matches(bits(of, mark.mask()), operator, value);
    let mut rules = vec![vec![is(packet, Operator::EQ, 0), Statement::Return(None)]];
    rules.extend(notes(mark).into_iter().map(|note| {
        vec![
            is(packet, Operator::EQ, note.packet),
            goes(note.direction),
            set(connection, mark.mask(), note.connection),
        ]
    }));
    rules
}

fn restore(mark: Mark) -> Vec<Vec<Statement<'static>>> {
    let is = |of, operator, value| matches(bits(of, mark.mask()), operator, value);
    let mut rules = vec![vec![
        is(connection, Operator::EQ, 0),
        Statement::Return(None),
    ]];
    for note in notes(mark) {
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

fn packet() -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Mark }))
}

fn connection() -> Expression<'static> {
    conntrack("mark")
}

fn conntrack(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT {
        key: key.into(),
        family: None,
        dir: None,
    }))
}

/// Packets of who began the connection (`original`), or of who answers (`reply`).
fn goes(direction: &'static str) -> Statement<'static> {
    Statement::Match(Match {
        left: conntrack("direction"),
        right: Expression::String(Cow::Borrowed(direction)),
        op: Operator::EQ,
    })
}

fn matches(left: Expression<'static>, op: Operator, value: u32) -> Statement<'static> {
    Statement::Match(Match {
        left,
        right: Expression::Number(value),
        op,
    })
}

fn bits(of: fn() -> Expression<'static>, mask: u32) -> Expression<'static> {
    let operation = BinaryOperation::AND(of(), Expression::Number(mask));
    Expression::BinaryOperation(Box::new(operation))
}

/// Sets the bits of the mask, and leaves those of others.
fn set(of: fn() -> Expression<'static>, mask: u32, value: u32) -> Statement<'static> {
    let kept = bits(of, !mask);
    let operation = BinaryOperation::OR(vec![kept, Expression::Number(value)]);
    Statement::Mangle(Mangle {
        key: of(),
        value: Expression::BinaryOperation(Box::new(operation)),
    })
}
