//! What is done with packets of containers as they are forwarded: rules of its nft table.
//!
//! **They wait** where steer has not looked at their bridge. A container may send before the programs are on it, and nobody
//! attaches them while steer does not run. So what comes from a bridge that is newer than all that steer has looked at is not
//! forwarded; clients send again. Between bridges, and to the host itself, packets go as ever.
//!
//! **They ask for segments that fit through their VPN**: servers learn of its smaller MTU by ICMP from its far end alone, which
//! many a VPN does not send.

use nftables::{
    expr::{Expression, MetaKey, NamedExpression, RT, RTKey, Range, TcpOption},
    schema::Chain,
    stmt::{Mangle, Operator, Statement},
    types::{NfChainType, NfFamily, NfHook},
};

use super::{
    expression::{and, compared, field, meta, of_interface, text},
    plan::{IfIndex, NftTable},
};

const CHAIN: &str = "forward";
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

/// Its rules: in which chain, and what.
pub(super) fn rules(
    table: &NftTable,
) -> impl Iterator<Item = (&'static str, Vec<Statement<'static>>)> + use<> {
    let mut rules = vec![hold(table.newest)];
    rules.extend(table.tunnels().map(|(_, vpn)| clamp(vpn)));
    rules.into_iter().map(|rule| (CHAIN, rule))
}

/// Kernels number interfaces as they come, from 1 on. Said as a range, for nftables 0.6 takes greater for less.
fn hold(newest: IfIndex) -> Vec<Statement<'static>> {
    let looked_at = Expression::Range(Box::new(Range {
        range: [Expression::Number(0), Expression::Number(newest.0)],
    }));
    let bridge = || text("bridge");
    vec![
        compared(meta(MetaKey::Iif), Operator::NEQ, looked_at),
        compared(meta(MetaKey::Iifkind), Operator::EQ, bridge()),
        compared(meta(MetaKey::Oifkind), Operator::NEQ, bridge()),
        Statement::Drop(None),
    ]
}

/// The kernel makes a segment size smaller by this, never larger.
fn clamp(vpn: &str) -> Vec<Statement<'static>> {
    let flags = field("tcp", "flags");
    let begin_or_end = Expression::List(vec![text("syn"), text("rst")]);
    let size = NamedExpression::TcpOption(TcpOption {
        name: "maxseg".into(),
        field: Some("size".into()),
    });
    let fits = NamedExpression::RT(RT {
        key: RTKey::MTU,
        family: None,
    });
    vec![
        of_interface(MetaKey::Oifname, vpn),
        compared(and(flags, begin_or_end), Operator::EQ, text("syn")),
        Statement::Mangle(Mangle {
            key: Expression::Named(size),
            value: Expression::Named(fits),
        }),
    ]
}
