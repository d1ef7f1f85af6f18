//! What the rules of the nft table are made of.

use std::borrow::Cow;

use nftables::{
    expr::{BinaryOperation, Expression, Meta, MetaKey, NamedExpression},
    stmt::{Match, Operator, Statement},
};

pub(super) fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
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
