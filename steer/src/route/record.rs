//! What the lists of steer's nft table are, as the table itself tells it: text in the comments of a chain that no packet comes to.
//!
//! nft lists sets and translations in a form that differs from version to version. So what was made is not told from the rules, but
//! from words beside them: `dns BRIDGE SOURCES NETWORKS SERVERS VPN` and `port PROTOCOL PORT ADDRESS PORT BRIDGE
//! VPN`, with commas in lists, `-` for an empty one, and VPNs by their places. Names of interfaces have no spaces in them.

use std::{collections::BTreeSet, fmt::Display, net::IpAddr, str::FromStr};

use super::{
    dns::{DnsRule, groups},
    plan::{NftTable, VpnId},
    ports::{Forward, Protocol},
};

/// The chain.
pub(super) const CHAIN: &str = "record";
/// What its comments begin with.
const PREFIX: &str = "steer: of ";
/// Comments have room for 128 octets, with the zero at their end.
const ROOM: usize = 127 - PREFIX.len();

/// The comments of the chain's rules, in their order.
pub(super) fn comments(table: &NftTable) -> Vec<String> {
    let text = text(table);
    let mut rest = text.as_str();
    let mut comments = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(ROOM));
        comments.push(format!("{PREFIX}{piece}"));
        rest = after;
    }
    comments
}

/// The inverse of [`comments`].
pub(super) fn read<'a>(
    comments: impl Iterator<Item = Option<&'a str>>,
) -> Option<(BTreeSet<DnsRule>, BTreeSet<Forward>)> {
    let mut text = String::new();
    for comment in comments {
        text.push_str(comment?.strip_prefix(PREFIX)?);
    }
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let (mut dns, mut forwards) = (BTreeSet::new(), BTreeSet::new());
    while let Some(word) = words.next() {
        match word {
            "dns" => dns.extend(read_dns(&mut words)?),
            "port" => {
                forwards.insert(read_forward(&mut words)?);
            }
            _ => return None,
        }
    }
    Some((dns, forwards))
}

fn text(table: &NftTable) -> String {
    let dns = groups(&table.dns).into_iter().map(|group| {
        let (bridge, sources) = (group.bridge, list(&group.sources));
        let (within, servers) = (list(group.within), list(group.servers));
        format!("dns {bridge} {sources} {within} {servers} {}", group.vpn.0)
    });
    let forwards = table.forwards.iter().map(|forward| {
        let Forward {
            protocol,
            port,
            to,
            to_port,
            bridge,
            vpn: VpnId(vpn),
        } = forward;
        format!("port {protocol} {port} {to} {to_port} {bridge} {vpn}")
    });
    dns.chain(forwards).collect::<Vec<_>>().join(" ")
}

fn read_dns<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Vec<DnsRule>> {
    let bridge = words.next()?;
    let sources: Vec<IpAddr> = read_list(words.next()?)?;
    let rule = DnsRule {
        bridge: bridge.to_owned(),
        source: None,
        within: read_list(words.next()?)?,
        servers: read_list(words.next()?)?,
        vpn: VpnId(words.next()?.parse().ok()?),
    };
    if sources.is_empty() {
        return Some(vec![rule]);
    }
    let of = |source| DnsRule {
        source: Some(source),
        ..rule.clone()
    };
    Some(sources.into_iter().map(of).collect())
}

fn read_forward<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Forward> {
    Some(Forward {
        protocol: match words.next()? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        },
        port: words.next()?.parse().ok()?,
        to: words.next()?.parse().ok()?,
        to_port: words.next()?.parse().ok()?,
        bridge: words.next()?.to_owned(),
        vpn: VpnId(words.next()?.parse().ok()?),
    })
}

const NONE: &str = "-";

fn list(items: &[impl Display]) -> String {
    if items.is_empty() {
        return NONE.into();
    }
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}

fn read_list<T: FromStr>(text: &str) -> Option<Vec<T>> {
    match text {
        NONE => Some(Vec::new()),
        _ => text.split(',').map(|item| item.parse().ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };

    use super::*;
    use crate::{
        route::plan::{IfIndex, Mark},
        rules::Net,
    };

    fn net() -> impl Strategy<Value = Net> {
        any::<(IpAddr, u8)>().prop_map(|(address, prefix)| {
            let bits = if address.is_ipv4() { 33 } else { 129 };
            // Written as it would be read: IPv4 is never in its mapped form.
            let net = Net::around(address, prefix % bits).unwrap();
            net.to_string()
                .parse()
                .unwrap_or_else(|_| Net::around(address, 0).unwrap())
        })
    }

    fn name() -> impl Strategy<Value = String> {
        "[!-.0-9;-~é]{1,7}"
    }

    fn dns() -> impl Strategy<Value = DnsRule> {
        let servers = vec(any::<IpAddr>(), 0..3);
        let source = any::<Option<IpAddr>>();
        (name(), source, vec(net(), 0..3), servers, 0..3usize).prop_map(
            |(bridge, source, within, servers, vpn)| {
                let rule = DnsRule {
                    bridge,
                    source,
                    within,
                    servers,
                    vpn: VpnId(vpn),
                };
                rule.sorted()
            },
        )
    }

    fn forward() -> impl Strategy<Value = Forward> {
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        (
            protocol,
            any::<u16>(),
            any::<IpAddr>(),
            any::<u16>(),
            name(),
            0..3usize,
        )
            .prop_map(|(protocol, port, to, to_port, bridge, vpn)| Forward {
                protocol,
                port,
                to,
                to_port,
                bridge,
                vpn: VpnId(vpn),
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(dns in btree_set(dns(), 0..20), forwards in btree_set(forward(), 0..5)) {
            let table = NftTable {
                interfaces: Vec::new(),
                uplinks: BTreeSet::new(),
                mark: Mark::DEFAULT,
                newest: IfIndex(0),
                dns: dns.clone(),
                forwards: forwards.clone(),
            };
            let comments = comments(&table);
            prop_assert!(comments.iter().all(|comment| comment.len() < 128), "{comments:?}");
            let read = read(comments.iter().map(|comment| Some(comment.as_str())));
            prop_assert_eq!(read, Some((dns, forwards)));
        }
    }
}
