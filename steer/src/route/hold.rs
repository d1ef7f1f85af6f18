//! What keeps containers on a bridge waiting until steer has looked at it: a rule of its nft table.
//!
//! A container may send before the programs are on its bridge, and nobody attaches them while steer does not run. So what comes
//! from a bridge that is newer than all that steer has looked at is not forwarded; clients send again. Between bridges, and
//! to the host itself, packets go as ever.

use nftables::{
    expr::{Expression, Meta, MetaKey, NamedExpression, Range},
    schema::Chain,
    stmt::{Match, Operator, Statement},
    types::{NfChainType, NfFamily, NfHook},
};

use super::plan::IfIndex;

const CHAIN: &str = "hold";
/// Right before `filter`, where others decide.
const PRIORITY: i32 = -1;

/// The chain, of a table.
pub(super) fn chain(table: &'static str) -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: table.into(),
        name: CHAIN.into(),
        _type: Some(NfChainType::Filter),
        hook: Some(NfHook::Forward),
        prio: Some(PRIORITY),
        ..Chain::default()
    }
}

/// Its rule: in which chain, and what. Kernels number interfaces as they come, from 1 on; said as a range, for nftables 0.6
/// takes greater for less.
pub(super) fn rule(newest: IfIndex) -> (&'static str, Vec<Statement<'static>>) {
    let compared = |key, op, right| {
        Statement::Match(Match {
            left: Expression::Named(NamedExpression::Meta(Meta { key })),
            right,
            op,
        })
    };
    let bridge = || Expression::String("bridge".into());
    let looked_at = Expression::Range(Box::new(Range {
        range: [Expression::Number(0), Expression::Number(newest.0)],
    }));
    let rule = vec![
        compared(MetaKey::Iif, Operator::NEQ, looked_at),
        compared(MetaKey::Iifkind, Operator::EQ, bridge()),
        compared(MetaKey::Oifkind, Operator::NEQ, bridge()),
        Statement::Drop(None),
    ];
    (CHAIN, rule)
}
