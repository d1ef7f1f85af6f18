//! What the rules of the nft table are made of.

use std::{borrow::Cow, collections::HashSet, net::IpAddr};

use nftables::{
    expr::{
        BinaryOperation, CT, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression,
        Payload, PayloadField, Prefix, SetItem,
    },
    stmt::{Match, NAT, NATFamily, Operator, Statement},
};

use super::plan::Family;
use crate::rules::Net;

pub(super) fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

pub(super) fn conntrack(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT {
        key: key.into(),
        family: None,
        dir: None,
    }))
}

pub(super) fn text(text: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(text.into())
}

pub(super) fn and(left: Expression<'static>, right: Expression<'static>) -> Expression<'static> {
    Expression::BinaryOperation(Box::new(BinaryOperation::AND(left, right)))
}

pub(super) fn compared(
    left: Expression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

/// Packets of an interface of that name: one that they come by or leave by, as the key says.
pub(super) fn of_interface(key: MetaKey, name: &str) -> Statement<'static> {
    compared(meta(key), Operator::EQ, text(name.to_owned()))
}

/// The inverse of [`of_interface`]: the name in the first statement.
pub(super) fn named<'a>(rule: &'a [Statement<'_>]) -> Option<&'a str> {
    match rule.first()? {
        Statement::Match(Match {
            right: Expression::String(name),
            ..
        }) => Some(name),
        _ => None,
    }
}

/// A field of a packet's header.
pub(super) fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(
        PayloadField {
            protocol: protocol.into(),
            field: field.into(),
        },
    )))
}

/// Packets of which `left` is one of these.
pub(super) fn one_of(
    left: Expression<'static>,
    values: impl IntoIterator<Item = Expression<'static>>,
) -> Statement<'static> {
    let items = values.into_iter().map(SetItem::Element).collect();
    let set = Expression::Named(NamedExpression::Set(items));
    compared(left, Operator::EQ, set)
}

/// Packets of which an address (`saddr`, `daddr`) is one of these, all of that family.
pub(super) fn address(
    family: Family,
    which: &'static str,
    values: impl IntoIterator<Item = Expression<'static>>,
) -> Statement<'static> {
    one_of(field(family.nft(), which), values)
}

/// Packets to an address of the host's own, or not to one; with `iif` among the flags, of the interface that they came by.
pub(super) fn to_the_host(
    operator: Operator,
    flags: impl IntoIterator<Item = FibFlag>,
) -> Statement<'static> {
    let flags: HashSet<_> = flags.into_iter().collect();
    let kind = Expression::Named(NamedExpression::Fib(Fib {
        result: FibResult::Type,
        flags,
    }));
    compared(kind, operator, text("local"))
}

pub(super) fn prefix(net: &Net) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(text(net.address().to_string())),
        len: net.prefix().into(),
    }))
}

/// Gives the packets of a connection another destination; another port only to those whose protocol was asked for before.
pub(super) fn dnat(to: IpAddr, port: Option<u16>) -> Statement<'static> {
    Statement::DNAT(Some(NAT {
        addr: Some(text(to.to_string())),
        family: Some(match Family::of(to) {
            Family::V4 => NATFamily::IP,
            Family::V6 => NATFamily::IP6,
        }),
        port: port.map(|port| Expression::Number(port.into())),
        flags: None,
    }))
}
