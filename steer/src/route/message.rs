//! Rules and routes as rtnetlink messages, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope,
        RouteType, RouteVia,
    },
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::{
    lookup::{Packet, Way},
    plan::{
        Family, Hop, IfIndex, Interface, Mark, PROTOCOL, Priority, Route, Rule, Selector, TableId,
        Target,
    },
};
use crate::rules::Net;

/// A rule that the kernel lists.
#[derive(Debug)]
pub(super) struct SeenRule {
    /// Its priority.
    pub(super) priority: Priority,
    /// The rule, if it has our protocol number and one of the shapes that we make.
    pub(super) ours: Option<Rule>,
    /// Value and mask of the mark that it is for, if it is for one.
    pub(super) mark: Option<(u32, u32)>,
    /// The table that it leads to; 0 where to none.
    pub(super) table: TableId,
    /// Whether it is for all that is not as it says.
    pub(super) inverted: bool,
    /// Much as `ip rule show` prints it.
    pub(super) text: String,
}

/// A route that the kernel lists.
#[derive(Debug)]
pub(super) struct SeenRoute {
    /// Its family.
    pub(super) family: Family,
    /// Its table.
    pub(super) table: TableId,
    /// The route, if it has our protocol number and one of the shapes that we make.
    pub(super) ours: Option<Route>,
    /// The route, if it is a default route, as far as one of these shapes says what it is.
    pub(super) default: Option<Route>,
    /// Where it leads.
    pub(super) to: Option<Net>,
    /// The interface that it leads out of, if out of one.
    pub(super) interface: Option<IfIndex>,
    /// The next hop, if it is not a neighbour's.
    pub(super) gateway: Option<IpAddr>,
    /// Much as `ip route show` prints it.
    pub(super) text: String,
}

/// The request to list the routes of one table.
pub(super) fn list_routes(family: Family, table: TableId) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message.attributes.push(RouteAttribute::Table(table.0));
    message
}

/// The request to list the routes of all tables.
pub(super) fn list_all_routes(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message
}

/// The request to look up which way a packet would go.
pub(super) fn look_up(packet: &Packet) -> RouteMessage {
    let Packet { to, mark, from } = *packet;
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = address_family(Family::of(to));
    header.destination_prefix_length = host_length(to);
    // The table that decided rather than "main"; of IPv6 it is told anyway, and the flag refused.
    if to.is_ipv4() {
        header.flags = RouteFlags::LookupTable;
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(route_address(to)));
    if mark != 0 {
        attributes.push(RouteAttribute::Mark(mark));
    }
    if let Some((address, interface)) = from {
        message.header.source_prefix_length = host_length(address);
        attributes.push(RouteAttribute::Source(route_address(address)));
        attributes.push(RouteAttribute::Iif(interface.0));
    }
    message
}

/// The way in the answer to that.
pub(super) fn way(message: &RouteMessage) -> Way {
    let address = |found: &RouteAddress| match found {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    };
    let (mut interface, mut gateway, mut source) = (None, None, None);
    let mut table = TableId(u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(IfIndex(*index)),
            RouteAttribute::Gateway(found) => gateway = address(found),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some((*v4).into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some((*v6).into()),
            RouteAttribute::PrefSource(found) => source = address(found),
            RouteAttribute::Table(number) => table = TableId(*number),
            _ => {}
        }
    }
    match interface {
        Some(interface) => Way::Out {
            interface,
            gateway,
            source,
            table,
        },
        None => Way::Nowhere,
    }
}

/// A rule, to be added as well as to be deleted.
pub(super) fn rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = address_family(rule.family);
    header.action = RuleAction::ToTable;
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority.0));
    attributes.push(RuleAttribute::Table(rule.table.0));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    match rule.selector {
        Selector::Mark(mark) => {
            attributes.push(RuleAttribute::FwMark(mark.value()));
            attributes.push(RuleAttribute::FwMask(mark.mask()));
        }
        Selector::MarkTo(mark, net) => {
            header.dst_len = net.prefix();
            attributes.push(RuleAttribute::Destination(net.address()));
            attributes.push(RuleAttribute::FwMark(mark.value()));
            attributes.push(RuleAttribute::FwMask(mark.mask()));
        }
        Selector::From(address) => {
            header.src_len = host_length(address);
            attributes.push(RuleAttribute::Source(address));
            attributes.push(RuleAttribute::Iifname("lo".into()));
        }
    }
    if let Some(length) = rule.passes_over {
        attributes.push(RuleAttribute::SuppressPrefixLen(length.into()));
    }
    message
}

/// A route, to be added as well as to be deleted.
pub(super) fn route(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = address_family(route.family);
    header.protocol = RouteProtocol::Other(PROTOCOL);
    message
        .attributes
        .push(RouteAttribute::Table(route.table.0));
    if route.metric != 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(route.metric));
    }
    match &route.target {
        Target::Hop(hop) => {
            header.kind = RouteType::Unicast;
            // IPv4 takes a route without a gateway for one to neighbours; IPv6 knows universe alone.
            header.scope = if route.family == Family::V4 && hop.gateway.is_none() {
                RouteScope::Link
            } else {
                RouteScope::Universe
            };
            if hop.onlink {
                header.flags |= RouteFlags::Onlink;
            }
            message.attributes.extend(attributes(hop, route.family));
        }
        Target::Unreachable => header.kind = RouteType::Unreachable,
    }
    message
}

fn attributes(hop: &Hop, family: Family) -> impl Iterator<Item = RouteAttribute> {
    let gateway = hop.gateway.map(|gateway| match gateway {
        IpAddr::V6(gateway) if family == Family::V4 => {
            RouteAttribute::Via(RouteVia::Inet6(gateway))
        }
        gateway => RouteAttribute::Gateway(route_address(gateway)),
    });
    let source = hop
        .source
        .map(route_address)
        .map(RouteAttribute::PrefSource);
    [RouteAttribute::Oif(hop.interface.index.0)]
        .into_iter()
        .chain(gateway)
        .chain(source)
}

/// What a listed rule is.
pub(super) fn read_rule(message: &RuleMessage) -> SeenRule {
    let mut seen = RuleFields {
        table: message.header.table.into(),
        ..RuleFields::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(value) => seen.priority = *value,
            RuleAttribute::Table(value) => seen.table = *value,
            RuleAttribute::Protocol(value) => seen.protocol = u8::from(*value),
            RuleAttribute::FwMark(value) => seen.mark = Some(*value),
            RuleAttribute::FwMask(value) => seen.mask = *value,
            RuleAttribute::Source(value) => seen.source = Some(*value),
            RuleAttribute::Destination(value) => {
                seen.destination = Net::around(*value, message.header.dst_len);
            }
            RuleAttribute::Iifname(value) => seen.iif = Some(value.clone()),
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::SuppressPrefixLen(value) => match u8::try_from(*value) {
                Ok(length) => seen.passes_over = Some(length),
                Err(_) => seen.more = true,
            },
            _ => seen.more = true,
        }
    }
    let header = &message.header;
    seen.more |= header.action != RuleAction::ToTable
        || header.flags.contains(RuleFlags::Invert)
        || header.tos != 0;
    let mark = seen
        .mark
        .filter(|_| !header.flags.contains(RuleFlags::Invert));
    SeenRule {
        priority: Priority(seen.priority),
        ours: family(header.family).and_then(|family| seen.rule(family, header.src_len)),
        mark: mark.map(|value| (value, seen.mask)),
        table: TableId(seen.table),
        inverted: header.flags.contains(RuleFlags::Invert),
        text: seen.text(header.src_len, header.flags),
    }
}

#[derive(Default)]
struct RuleFields {
    priority: u32,
    table: u32,
    protocol: u8,
    mark: Option<u32>,
    mask: u32,
    source: Option<IpAddr>,
    destination: Option<Net>,
    iif: Option<String>,
    passes_over: Option<u8>,
    /// Something that no rule of ours has.
    more: bool,
}

impl RuleFields {
    fn rule(&self, family: Family, source_length: u8) -> Option<Rule> {
        if self.more || self.protocol != PROTOCOL {
            return None;
        }
        let mark = self.mark.map(|value| Mark::new(value, self.mask));
        let mark = mark.transpose().ok()?;
        let selector = match (mark, self.source, self.destination, self.iif.as_deref()) {
            (Some(mark), None, None, None) => Selector::Mark(mark),
            (Some(mark), None, Some(net), None) => Selector::MarkTo(mark, net),
            (None, Some(source), None, Some("lo")) if source_length == host_length(source) => {
                Selector::From(source)
            }
            _ => return None,
        };
        Some(Rule {
            family,
            priority: Priority(self.priority),
            selector,
            table: TableId(self.table),
            passes_over: self.passes_over,
        })
    }

    fn text(&self, source_length: u8, flags: RuleFlags) -> String {
        let mut text = format!("{}:", self.priority);
        if flags.contains(RuleFlags::Invert) {
            text += " not";
        }
        match self.source {
            Some(source) => text += &format!(" from {source}/{source_length}"),
            None => text += " from all",
        }
        if let Some(net) = self.destination {
            text += &format!(" to {net}");
        }
        if let Some(mark) = self.mark {
            text += &format!(" fwmark {mark:#x}/{:#x}", self.mask);
        }
        if let Some(iif) = &self.iif {
            text += &format!(" iif {iif}");
        }
        if self.table != 0 {
            text += &format!(" lookup {}", TableId(self.table));
        }
        if let Some(length) = self.passes_over {
            text += &format!(" suppress_prefixlength {length}");
        }
        if self.more {
            text += " …";
        }
        text
    }
}

/// What a listed route is.
pub(super) fn read_route(message: &RouteMessage) -> SeenRoute {
    let header = &message.header;
    let mut seen = RouteFields {
        table: header.table.into(),
        more: header.source_prefix_length != 0 || header.tos != 0,
        ..RouteFields::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => seen.table = *value,
            RouteAttribute::Priority(value) => seen.metric = *value,
            RouteAttribute::Oif(value) => seen.oif = Some(IfIndex(*value)),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(RouteVia::Inet6(_)) => {
                seen.gateway = gateway(attribute);
            }
            RouteAttribute::PrefSource(value) => seen.source = address(value),
            RouteAttribute::Destination(value) => seen.destination = address(value),
            RouteAttribute::CacheInfo(_) | RouteAttribute::Preference(_) => {}
            RouteAttribute::MultiPath(hops) => {
                seen.more = true;
                // Of several the first stands for all.
                if let Some(hop) = hops.first() {
                    seen.oif = Some(IfIndex(hop.interface_index));
                    seen.gateway = hop.attributes.iter().find_map(gateway);
                }
            }
            _ => seen.more = true,
        }
    }
    let default = seen
        .route(message)
        .filter(|_| header.destination_prefix_length == 0);
    let family = family(header.address_family).unwrap_or(Family::V4);
    let anywhere = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SeenRoute {
        family,
        table: TableId(seen.table),
        ours: default
            .clone()
            .filter(|_| !seen.more && u8::from(header.protocol) == PROTOCOL),
        default,
        to: Net::around(
            seen.destination.unwrap_or(anywhere),
            header.destination_prefix_length,
        ),
        interface: seen.oif,
        gateway: seen.gateway,
        text: seen.text(message),
    }
}

#[derive(Default)]
struct RouteFields {
    table: u32,
    metric: u32,
    oif: Option<IfIndex>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    /// Something that no route of ours has.
    more: bool,
}

impl RouteFields {
    /// As a default route.
    fn route(&self, message: &RouteMessage) -> Option<Route> {
        let header = &message.header;
        let target = match (header.kind, self.oif.map(interface)) {
            (RouteType::Unicast, Some(interface)) => Target::Hop(Hop {
                interface,
                gateway: self.gateway,
                onlink: header.flags.contains(RouteFlags::Onlink),
                source: self.source,
            }),
            (RouteType::Unreachable, _) => Target::Unreachable,
            _ => return None,
        };
        Some(Route {
            family: family(header.address_family)?,
            table: TableId(self.table),
            metric: self.metric,
            target,
        })
    }

    fn text(&self, message: &RouteMessage) -> String {
        let header = &message.header;
        let kind = match header.kind {
            RouteType::Unicast => String::new(),
            kind => format!("{kind:?} ").to_lowercase(),
        };
        let destination = match self.destination {
            Some(destination) => format!("{destination}/{}", header.destination_prefix_length),
            None => "default".into(),
        };
        let dev = self.oif.map(|oif| format!(" dev {}", interface(oif).name));
        format!("{kind}{destination}{}", dev.unwrap_or_default())
    }
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(value) => address(value),
        RouteAttribute::Via(RouteVia::Inet6(value)) => Some((*value).into()),
        _ => None,
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

/// With its present name, or its number when it is just going.
fn interface(index: IfIndex) -> Interface {
    let name = nix::net::if_::if_indextoname(index.0)
        .ok()
        .and_then(|name| name.into_string().ok());
    Interface {
        name: name.unwrap_or_else(|| format!("if{index}")),
        index,
    }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

fn host_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => Ipv4Addr::BITS as u8,
        IpAddr::V6(_) => Ipv6Addr::BITS as u8,
    }
}
