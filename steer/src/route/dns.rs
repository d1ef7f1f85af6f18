//! Has questions of DNS go to the servers that are to answer them, whomever they ask: rules of steer's nft table.
//!
//! Base chains of its own see what comes from the bridges that are concerned:
//!
//! - `translate`, before everybody else's translations (the first has the connection): questions go to the first server of
//!   their family, or to the one asked, if that is a server. Answers come from whom was asked.
//! - `refuse-forward` and `refuse-in`: what goes to port 53 all the same is refused at once, as there is no server of its family or its
//!   connection is older than the rules; and so is DNS over TLS and over QUIC (RFC 7858, RFC 9250), which nobody could send on.
//!
//! Where a server is a container of the network itself, `hairpin` has it answer to the host, whose address the question then has:
//! else its answer would go straight to who asked, who has not asked that one.
//!
//! What goes to another container of the network is none of theirs: with `bridge-nf-call-iptables`, which Docker sets, such
//! packets come by these chains, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use nftables::{
    expr::{Expression, FibFlag, MetaKey},
    schema::Chain,
    stmt::{JumpTarget, Operator, Reject, RejectType, Statement},
    types::{NfChainType, NfFamily, NfHook, RejectCode},
};

use super::{
    expression::{
        address, compared, conntrack, dnat, field, meta, of_interface, one_of, prefix, text,
        to_the_host,
    },
    keep,
    plan::{Family, Mark, NftTable, VpnId},
};
use crate::rules::Net;

/// Who is asked, and then over TLS and QUIC.
const DNS: u16 = 53;
const ENCRYPTED: u16 = 853;

/// The chain of the translations.
pub(super) const TRANSLATE: &str = "translate";
/// Right before `dstnat`, where Docker is and everybody else.
const BEFORE_OTHERS: i32 = -101;
/// The chain that has servers answer to the host.
const HAIRPIN: &str = "hairpin";
/// Right before `srcnat`.
const BEFORE_MASQUERADES: i32 = 99;
/// The chains that refuse, and their hooks.
const REFUSE: [(&str, NfHook); 2] = [
    ("refuse-forward", NfHook::Forward),
    ("refuse-in", NfHook::Input),
];
/// Right before `filter`, where others decide.
const PRIORITY: i32 = -1;

/// Whose questions of DNS go to which servers.
///
/// The bridge is known by its name: one that is made anew with the name of one that went is under the rules from its first
/// packet on, before anybody could have looked at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsRule {
    /// Name of the bridge that they come from.
    pub bridge: String,
    /// The only address whose questions they are; `None` for all that come from the bridge.
    pub source: Option<IpAddr>,
    /// The bridge's own networks: what goes to a container there is left alone, what goes to the host's address there is not.
    pub within: Vec<Net>,
    /// The servers; the first of a family gets the questions of that family. Where there is none they are refused, so that
    /// clients turn to the other family. Servers that are containers ask whom they like.
    pub servers: Vec<IpAddr>,
    /// The VPN that they take.
    pub vpn: VpnId,
}

impl DnsRule {
    /// The same, written in the only way: networks that lie in others are not named, and nothing is named twice.
    pub(super) fn sorted(&self) -> Self {
        let lies_in = |inner: &Net, outer: &Net| {
            outer != inner && outer.prefix() <= inner.prefix() && outer.contains(inner.address())
        };
        let within: BTreeSet<_> = self
            .within
            .iter()
            .filter(|inner| !self.within.iter().any(|outer| lies_in(inner, outer)))
            .copied()
            .collect();
        let mut known = BTreeSet::new();
        let mut servers = self.servers.clone();
        servers.retain(|&server| known.insert(server));
        Self {
            within: within.into_iter().collect(),
            servers,
            ..self.clone()
        }
    }
}

/// What several have in common, and the sources of all of them.
pub(super) struct Group<'a> {
    pub(super) bridge: &'a str,
    pub(super) within: &'a [Net],
    pub(super) servers: &'a [IpAddr],
    pub(super) vpn: VpnId,
    /// None for all.
    pub(super) sources: Vec<IpAddr>,
}

/// The rules by what they have in common, so that two hundred containers need no two hundred rules. Those for certain sources
/// come before those for all of the same bridge.
pub(super) fn groups(rules: &BTreeSet<DnsRule>) -> Vec<Group<'_>> {
    let mut groups = BTreeMap::<_, Vec<IpAddr>>::new();
    for rule in rules {
        let of_all = rule.source.is_none();
        let key = (
            of_all,
            rule.bridge.as_str(),
            rule.within.as_slice(),
            rule.servers.as_slice(),
            rule.vpn,
        );
        groups.entry(key).or_default().extend(rule.source);
    }
    let group = |((_, bridge, within, servers, vpn), sources)| Group {
        bridge,
        within,
        servers,
        vpn,
        sources,
    };
    groups.into_iter().map(group).collect()
}

/// The chains that the table needs.
pub(super) fn chains(table: &'static str, of: &NftTable) -> Vec<Chain<'static>> {
    let base = |name: &'static str, kind, hook, priority| Chain {
        family: NfFamily::INet,
        table: table.into(),
        name: name.into(),
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        ..Chain::default()
    };
    let mut chains = Vec::new();
    if !(of.dns.is_empty() && of.forwards.is_empty()) {
        chains.push(base(
            TRANSLATE,
            NfChainType::NAT,
            NfHook::Prerouting,
            BEFORE_OTHERS,
        ));
    }
    if !of.dns.is_empty() {
        let refuse = |(name, hook)| base(name, NfChainType::Filter, hook, PRIORITY);
        chains.extend(REFUSE.map(refuse));
    }
    if !hairpins(of).is_empty() {
        chains.push(base(
            HAIRPIN,
            NfChainType::NAT,
            NfHook::Postrouting,
            BEFORE_MASQUERADES,
        ));
    }
    for number in 0..groups(&of.dns).len() {
        let names = [asks(number), refused(number)];
        chains.extend(names.map(|name| Chain {
            family: NfFamily::INet,
            table: table.into(),
            name: name.into(),
            ..Chain::default()
        }));
    }
    chains
}

fn hairpins(of: &NftTable) -> Vec<Vec<Statement<'static>>> {
    let groups = groups(&of.dns);
    groups.iter().flat_map(Group::hairpins).collect()
}

/// Their rules: in which chain, and what.
pub(super) fn rules(table: &NftTable) -> Vec<(String, Vec<Statement<'static>>)> {
    let mut rules = Vec::new();
    rules.extend(
        hairpins(table)
            .into_iter()
            .map(|rule| (HAIRPIN.to_owned(), rule)),
    );
    let mut add = |chain: &str, rule| rules.push((chain.to_owned(), rule));
    for (number, group) in groups(&table.dns).iter().enumerate() {
        for from in group.from() {
            let questions = |ports: &[u16], chain| {
                let ports = one_of(
                    field("th", "dport"),
                    ports.iter().map(|&port| number_of(port)),
                );
                let target = JumpTarget {
                    target: String::into(chain),
                };
                let rest = [with_ports(), ports, Statement::Goto(target)];
                from.iter().cloned().chain(rest).collect()
            };
            add(TRANSLATE, questions(&[DNS], asks(number)));
            for (chain, _) in REFUSE {
                add(chain, questions(&[DNS, ENCRYPTED], refused(number)));
            }
        }
        let others = || group.others().into_iter();
        let mark = table.mark.of(group.vpn);
        let translations = mark.map(|mark| group.translations(mark));
        for rule in others().chain(translations.into_iter().flatten()) {
            add(&asks(number), rule);
        }
        for rule in others().chain(group.refusals()) {
            add(&refused(number), rule);
        }
    }
    rules
}

fn asks(number: usize) -> String {
    format!("asks-{number}")
}

fn refused(number: usize) -> String {
    format!("refused-{number}")
}

impl Group<'_> {
    /// What tells its packets, in one rule or in one for each family.
    fn from(&self) -> Vec<Vec<Statement<'static>>> {
        let bridge = || of_interface(MetaKey::Iifname, self.bridge);
        if self.sources.is_empty() {
            return vec![vec![bridge()]];
        }
        let of_family = |family| {
            let sources = of(family, &self.sources)?;
            Some(vec![bridge(), address(family, "saddr", sources)])
        };
        Family::BOTH.into_iter().filter_map(of_family).collect()
    }

    /// Leaves alone what goes to other containers, and what the servers ask.
    fn others(&self) -> Vec<Vec<Statement<'static>>> {
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let within = self.networks(family);
            if !within.is_empty() {
                rules.push(vec![
                    address(family, "daddr", within),
                    to_the_host(Operator::NEQ, [FibFlag::Daddr]),
                    Statement::Return(None),
                ]);
            }
            if let Some(servers) = of(family, self.servers) {
                rules.push(vec![
                    address(family, "saddr", servers),
                    Statement::Return(None),
                ]);
            }
        }
        rules
    }

    /// With br_netfilter (`bridge-nf-call-iptables`) these chains come before the bridge, and a translated packet is routed right
    /// away, so it has the VPN's mark from here on, and its connection too.
    fn translations(&self, mark: Mark) -> Vec<Vec<Statement<'static>>> {
        let marked = [keep::packet, keep::connection];
        let marked = marked.map(|of| keep::set(of, mark.mask(), mark.value()));
        let mut rules = vec![marked.to_vec()];
        for family in Family::BOTH {
            let mut servers = self
                .servers
                .iter()
                .filter(|&&server| Family::of(server) == family);
            let Some(&first) = servers.next() else {
                continue;
            };
            // To itself: what has been translated nobody else translates.
            rules.extend(servers.map(|&server| {
                let asked = address(family, "daddr", [text(server.to_string())]);
                vec![asked, dnat(server, None)]
            }));
            let of_family = match family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            };
            rules.push(vec![
                compared(meta(MetaKey::Nfproto), Operator::EQ, text(of_family)),
                dnat(first, None),
            ]);
        }
        rules
    }

    fn hairpins(&self) -> Vec<Vec<Statement<'static>>> {
        let is_within = |server: &&IpAddr| self.within.iter().any(|net| net.contains(**server));
        let within: Vec<_> = self.servers.iter().filter(is_within).copied().collect();
        let of_family = |family| {
            let translated = compared(conntrack("status"), Operator::IN, text("dnat"));
            Some(vec![
                of_interface(MetaKey::Oifname, self.bridge),
                address(family, "saddr", self.networks(family)),
                address(family, "daddr", of(family, &within)?),
                with_ports(),
                compared(field("th", "dport"), Operator::EQ, number_of(DNS)),
                translated,
                Statement::Masquerade(None),
            ])
        };
        Family::BOTH.into_iter().filter_map(of_family).collect()
    }

    fn networks(&self, family: Family) -> Vec<Expression<'static>> {
        let within = self.within.iter();
        let of_family = within.filter(|net| Family::of(net.address()) == family);
        of_family.map(prefix).collect()
    }

    fn refusals(&self) -> Vec<Vec<Statement<'static>>> {
        let to = |port| compared(field("th", "dport"), Operator::EQ, number_of(port));
        // What answers a question that was sent from such a port.
        let answers = compared(conntrack("direction"), Operator::EQ, text("reply"));
        let mut rules = vec![vec![answers, Statement::Return(None)]];
        for family in Family::BOTH {
            if let Some(servers) = of(family, self.servers) {
                rules.push(vec![
                    to(DNS),
                    address(family, "daddr", servers),
                    Statement::Return(None),
                ]);
            }
        }
        let reject = |kind, code| Statement::Reject(Some(Reject::new(Some(kind), code)));
        rules.push(vec![
            compared(meta(MetaKey::L4proto), Operator::EQ, text("tcp")),
            reject(RejectType::TCPReset, None),
        ]);
        rules.push(vec![reject(
            RejectType::ICMPX,
            Some(RejectCode::PortUnreach),
        )]);
        rules
    }
}

/// Those of a family, if there are any.
fn of(family: Family, addresses: &[IpAddr]) -> Option<Vec<Expression<'static>>> {
    let addresses: Vec<_> = addresses
        .iter()
        .filter(|&&address| Family::of(address) == family)
        .map(|address| text(address.to_string()))
        .collect();
    (!addresses.is_empty()).then_some(addresses)
}

fn with_ports() -> Statement<'static> {
    let protocols = ["tcp", "udp"];
    one_of(meta(MetaKey::L4proto), protocols.map(text))
}

fn number_of(port: u16) -> Expression<'static> {
    Expression::Number(port.into())
}
