//! Rules and routes as rtnetlink messages, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::{
    AddressFamily, IpProtocol,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::plan::{
    Family, IfIndex, Interface, Mark, PROTOCOL, Priority, Route, Rule, Selector, TableId, Target,
};

/// A rule that the kernel lists.
#[derive(Debug)]
pub(super) struct SeenRule {
    /// Its priority.
    pub(super) priority: Priority,
    /// The rule, if it has our protocol number and one of the shapes that we make.
    pub(super) ours: Option<Rule>,
    /// Value and mask of the mark that it is for, if it is for one.
    pub(super) mark: Option<(u32, u32)>,
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
        Selector::UdpFrom(address) => {
            header.src_len = host_length(address);
            attributes.push(RuleAttribute::Source(address));
            attributes.push(RuleAttribute::Iifname("lo".into()));
            attributes.push(RuleAttribute::IpProtocol(IpProtocol::Udp));
        }
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
        Target::Dev(interface) => {
            header.kind = RouteType::Unicast;
            // IPv4 takes a route without a gateway for one to neighbours; IPv6 knows universe alone.
            if route.family == Family::V4 {
                header.scope = RouteScope::Link;
            }
            message
                .attributes
                .push(RouteAttribute::Oif(interface.index.0));
        }
        Target::Unreachable => header.kind = RouteType::Unreachable,
    }
    message
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
            RuleAttribute::Iifname(value) => seen.iif = Some(value.clone()),
            RuleAttribute::IpProtocol(value) => seen.udp = *value == IpProtocol::Udp,
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => seen.more = true,
        }
    }
    let header = &message.header;
    seen.more |= header.action != RuleAction::ToTable
        || header.flags.contains(RuleFlags::Invert)
        || header.dst_len != 0
        || header.tos != 0;
    let mark = seen
        .mark
        .filter(|_| !header.flags.contains(RuleFlags::Invert));
    SeenRule {
        priority: Priority(seen.priority),
        ours: family(header.family).and_then(|family| seen.rule(family, header.src_len)),
        mark: mark.map(|value| (value, seen.mask)),
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
    iif: Option<String>,
    udp: bool,
    /// Something that no rule of ours has.
    more: bool,
}

impl RuleFields {
    fn rule(&self, family: Family, source_length: u8) -> Option<Rule> {
        if self.more || self.protocol != PROTOCOL {
            return None;
        }
        let selector = match (self.mark, self.source, self.iif.as_deref(), self.udp) {
            (Some(value), None, None, false) => Selector::Mark(Mark::new(value, self.mask).ok()?),
            (None, Some(source), Some("lo"), true) if source_length == host_length(source) => {
                Selector::UdpFrom(source)
            }
            _ => return None,
        };
        Some(Rule {
            family,
            priority: Priority(self.priority),
            selector,
            table: TableId(self.table),
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
        if let Some(mark) = self.mark {
            text += &format!(" fwmark {mark:#x}/{:#x}", self.mask);
        }
        if let Some(iif) = &self.iif {
            text += &format!(" iif {iif}");
        }
        if self.table != 0 {
            text += &format!(" lookup {}", self.table);
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
    let mut table = header.table.into();
    let mut metric = 0;
    let mut oif = None;
    let mut destination = None;
    let mut more = header.destination_prefix_length != 0
        || header.source_prefix_length != 0
        || header.tos != 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Oif(value) => oif = Some(IfIndex(*value)),
            RouteAttribute::Destination(value) => destination = Some(value.clone()),
            RouteAttribute::CacheInfo(_) | RouteAttribute::Preference(_) => {}
            _ => more = true,
        }
    }
    let oif = oif.map(interface);
    let target = match (header.kind, oif.clone()) {
        (RouteType::Unicast, Some(interface)) => Some(Target::Dev(interface)),
        (RouteType::Unreachable, _) => Some(Target::Unreachable),
        _ => None,
    };
    let family = if header.address_family == AddressFamily::Inet6 {
        Family::V6
    } else {
        Family::V4
    };
    let table = TableId(table);
    let ours = target
        .filter(|_| !more && u8::from(header.protocol) == PROTOCOL)
        .map(|target| Route {
            family,
            table,
            metric,
            target,
        });
    let destination = match destination {
        Some(destination) => format!(
            "{}/{}",
            address(&destination),
            header.destination_prefix_length
        ),
        None => "default".into(),
    };
    let kind = match header.kind {
        RouteType::Unicast => String::new(),
        kind => format!("{kind:?} ").to_lowercase(),
    };
    let dev = oif
        .map(|oif| format!(" dev {}", oif.name))
        .unwrap_or_default();
    SeenRoute {
        family,
        table,
        ours,
        text: format!("{kind}{destination}{dev}"),
    }
}

fn address(address: &RouteAddress) -> IpAddr {
    match address {
        RouteAddress::Inet(address) => (*address).into(),
        RouteAddress::Inet6(address) => (*address).into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
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
