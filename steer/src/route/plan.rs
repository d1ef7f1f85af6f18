//! What the kernel's routing state should be: a pure function of what is wanted.

use std::{
    collections::BTreeSet,
    fmt, iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use steer_common::types;

use super::{DnsRule, Error, Forward, Opening};
use crate::rules::Net;

/// Routing protocol number on every rule and route of steer's (`RTA_PROTOCOL`, and `FRA_PROTOCOL`
/// since Linux 4.17): what tells ours from everybody else's.
///
/// Free of the kernel's own list (`linux/rtnetlink.h`), of FRR's 186 to 197, of Calico's 80 and of Open/R's 99.
pub const PROTOCOL: u8 = 173;

/// Metric of the route that blocks: the largest there is, so that any other route wins.
pub const UNREACHABLE_METRIC: u32 = u32::MAX;

/// Value and mask of the packet mark of flows that take the VPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    /// Collides with none of the marks of wg-quick, Tailscale, Calico, kube-proxy, Docker and Cilium.
    pub const DEFAULT: Self = Self {
        value: 0x1000,
        mask: 0x3000,
    };

    /// A mark is refused when it is zero or has bits outside of its mask: no packet could ever match it,
    /// or every unmarked one would.
    pub fn new(value: u32, mask: u32) -> Result<Self, Error> {
        if value == 0 || value & !mask != 0 {
            return Err(Error::BadMark { value, mask });
        }
        Ok(Self { value, mask })
    }

    /// The bits set on a marked packet.
    pub const fn value(self) -> u32 {
        self.value
    }

    /// The bits that are steer's.
    pub const fn mask(self) -> u32 {
        self.mask
    }

    /// The mark of packets that go direct where a VPN has taken the default route: the lowest bit of the mask that is
    /// not the mark's. `None` if there is no such bit.
    pub const fn bypass(self) -> Option<Self> {
        let rest = self.mask & !self.value;
        if rest == 0 {
            return None;
        }
        Some(Self {
            value: 1 << rest.trailing_zeros(),
            mask: self.mask,
        })
    }

    /// The mark of a VPN, where this is the first one's; `None` if the mask has no room for so many.
    ///
    /// They are the other numbers that the mask can hold, from the smallest on, and at last that of answers.
    pub fn of(self, vpn: VpnId) -> Option<Self> {
        let Some(place) = vpn.0.checked_sub(1) else {
            return Some(self);
        };
        let bypass = self.bypass().map(Self::value);
        let answers = bypass.map(|bypass| self.value | bypass);
        // The numbers within the mask, in their order.
        let next = |last: &u32| match last.wrapping_sub(self.mask) & self.mask {
            0 => None,
            next => Some(next),
        };
        let numbers = iter::successors(next(&0), next);
        let free = numbers.filter(|number| {
            *number != self.value && Some(*number) != bypass && Some(*number) != answers
        });
        let value = free.chain(answers).nth(place)?;
        Some(Self { value, ..self })
    }

    /// The marks of so many VPNs, as far as there are.
    pub(super) fn first(self, count: usize) -> impl Iterator<Item = Self> {
        (0..count).map_while(move |place| self.of(VpnId(place)))
    }

    /// A mask with room for so many: with as many more bits as it takes, above those that it has.
    pub(super) fn wider(self, count: usize) -> u32 {
        let mut wider = self;
        while wider.first(count).count() < count && wider.mask != u32::MAX {
            let above = 1u32.checked_shl(u32::BITS - wider.mask.leading_zeros());
            wider.mask |= above.unwrap_or(1 << wider.mask.trailing_ones());
        }
        wider.mask
    }

    /// What the marks of connections that came in and are answered past a VPN say: both bits. `None` if there is no bypass,
    /// or if one of so many VPNs has that number.
    pub(super) fn answers(self, count: usize) -> Option<u32> {
        let both = self.value | self.bypass()?.value;
        let used = self.first(count).any(|mark| mark.value == both);
        (!used).then_some(both)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

/// A VPN by its place among those that there are, counted from zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VpnId(pub usize);

impl VpnId {
    /// Its number in the programs' tables.
    pub fn path(self) -> types::Path {
        types::Path::vpn(u32::try_from(self.0 + 1).unwrap_or_default())
    }

    /// The VPN with that number there; none of the direct path.
    pub fn of(path: types::Path) -> Option<Self> {
        let number = usize::try_from(path.number()).ok()?;
        number.checked_sub(1).map(Self)
    }
}

/// Id of a routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId(pub u32);

impl TableId {
    /// The main table (`RT_TABLE_MAIN`).
    pub const MAIN: Self = Self(254);
    /// The table of the host's own addresses (`RT_TABLE_LOCAL`).
    pub const LOCAL: Self = Self(255);
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MAIN => f.write_str("main"),
            Self::LOCAL => f.write_str("local"),
            Self(number) => number.fmt(f),
        }
    }
}

/// Priority of a routing rule: the smaller, the earlier it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Priority(pub u32);

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Index of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IfIndex(pub u32);

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An interface by both its names: routes take the index, sysctls and nft the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interface {
    /// Name, such as `wg0`.
    pub name: String,
    /// Index.
    pub index: IfIndex,
}

/// The numbers that make steer's routing state its own: `[routing]` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Mark of the packets that take the first VPN.
    pub mark: Mark,
    /// The first of the [`Numbers::tables`] that are steer's alone: the first VPN's.
    pub table: TableId,
    /// First of the [`Numbers::PRIORITIES`] rule priorities that are steer's alone.
    pub priority: Priority,
    /// How many VPNs there are.
    #[serde(default = "one")]
    pub vpns: usize,
}

const fn one() -> usize {
    1
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            mark: Mark::DEFAULT,
            table: TableId(7350),
            priority: Priority(7350),
            vpns: one(),
        }
    }
}

impl Numbers {
    /// How many rule priorities are reserved, from [`Numbers::priority`] on.
    pub const PRIORITIES: u32 = 20;

    /// The routing tables that are steer's: the one that leads to the first VPN, the one after it, that leads past them, and
    /// behind that one for each other VPN.
    pub fn tables(self) -> impl Iterator<Item = TableId> {
        let first = self.table.0;
        let count = u32::try_from(self.vpns.max(1)).unwrap_or(u32::MAX);
        (0..=count).map(move |place| TableId(first.wrapping_add(place)))
    }

    /// The table that leads to a VPN.
    pub fn table_of(&self, vpn: VpnId) -> TableId {
        match u32::try_from(vpn.0).unwrap_or(u32::MAX) {
            0 => self.table,
            place => TableId(self.table.0.wrapping_add(1).wrapping_add(place)),
        }
    }

    /// The table that leads past them.
    pub const fn table_past(&self) -> TableId {
        TableId(self.table.0.wrapping_add(1))
    }

    /// The marks that are steer's: the VPNs', and that of what goes past them.
    pub fn marks(&self) -> impl Iterator<Item = Mark> + use<> {
        self.mark.first(self.vpns).chain(self.mark.bypass())
    }

    /// Refuses tables that are the system's (0, 253 to 255), priorities behind the main table's 32766, and a mask without
    /// room for all VPNs.
    pub fn check(self) -> Result<Self, Error> {
        if self.mark.first(self.vpns).count() < self.vpns {
            return Err(Error::NarrowMask {
                mark: self.mark,
                vpns: self.vpns,
            });
        }
        let is_system = |table: &TableId| matches!(table.0, 0 | 253..=255);
        if let Some(table) = self.tables().find(is_system) {
            return Err(Error::SystemTable { table });
        }
        let first = self.priority.0;
        if first == 0 || first > 32766 - Self::PRIORITIES {
            return Err(Error::BadPriority {
                priority: self.priority,
            });
        }
        Ok(self)
    }

    /// Whether a rule priority lies in steer's range.
    pub fn owns(&self, priority: Priority) -> bool {
        (self.priority.0..self.priority.0 + Self::PRIORITIES).contains(&priority.0)
    }

    fn back_rule(&self) -> Priority {
        self.priority
    }

    fn mark_rule(&self) -> Priority {
        Priority(self.priority.0 + 5)
    }

    /// The first of two.
    fn source_rules(&self) -> Priority {
        Priority(self.priority.0 + 10)
    }

    /// The first of two.
    fn bypass_rules(&self) -> Priority {
        Priority(self.priority.0 + 15)
    }
}

/// A VPN's interface as the host has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vpn {
    /// Name of the interface.
    pub name: String,
    /// Index of the interface.
    pub index: IfIndex,
    /// Whether packets can be sent: administratively up and with a carrier.
    pub up: bool,
    /// Usable IPv4 addresses: global scope.
    pub v4: Vec<Ipv4Addr>,
    /// Usable IPv6 addresses: global scope, neither tentative nor deprecated.
    pub v6: Vec<Ipv6Addr>,
}

impl Vpn {
    /// All its usable addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        addresses(&self.v4, &self.v6)
    }

    fn interface(&self) -> Interface {
        Interface {
            name: self.name.clone(),
            index: self.index,
        }
    }
}

/// The addresses of both families, those of IPv4 first.
pub fn addresses(v4: &[Ipv4Addr], v6: &[Ipv6Addr]) -> impl Iterator<Item = IpAddr> {
    let v4 = v4.iter().copied().map(IpAddr::from);
    v4.chain(v6.iter().copied().map(IpAddr::from))
}

/// What becomes of flows that must take a VPN while it is down or absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They are refused: nothing leaks.
    #[default]
    Block,
    /// They take the direct path.
    Direct,
}

/// The default route, as VPNs and others have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// The families of which packets without a mark take a VPN.
    pub families: BTreeSet<Family>,
    /// The main table's default routes that do not lead to a VPN.
    pub others: Vec<Route>,
    /// The interfaces of the VPNs that they take.
    pub by: BTreeSet<IfIndex>,
}

impl Taken {
    /// The default routes past them, of the families that they have taken.
    pub fn past(&self) -> impl Iterator<Item = &Route> {
        let taken = |route: &&Route| self.families.contains(&route.family);
        self.others.iter().filter(taken)
    }
}

/// A VPN, as it is and as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tunnel {
    /// Its interface, or `None` when that is not there.
    pub vpn: Option<Vpn>,
    /// The addresses that packets of its own come from: those that it has, or had last.
    pub sources: BTreeSet<IpAddr>,
    /// What it means that it is down or absent.
    pub on_down: OnDown,
}

/// Everything that a [`Plan`] depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The VPNs; there are as many as [`Numbers::vpns`].
    pub tunnels: Vec<Tunnel>,
    /// The networks of the containers.
    pub networks: Vec<Net>,
    /// Whose questions of DNS go where.
    pub dns: Vec<DnsRule>,
    /// What comes to a VPN's address for containers.
    pub forwards: Vec<Forward>,
    /// What VPNs have taken besides, for what is steered and not theirs to go past them.
    pub taken: Taken,
    /// The newest interface that may be one of their bridges and was looked at: what comes from newer ones waits.
    pub newest: IfIndex,
    /// Mark, tables and priorities.
    pub numbers: Numbers,
}

/// Address family of a rule or a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The start of an `ip` command line.
    pub(super) fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip -6",
        }
    }

    /// What nft calls its header.
    pub(super) fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The longest prefix of the routes that stand for the default route, so that they win: OpenVPN's `redirect-gateway
    /// def1` has two halves, and of IPv6 `2000::/3`, or that in parts.
    const fn halves(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 4,
        }
    }

    /// The metric that IPv6 gives a route without one is not zero (`IP6_RT_PRIO_USER`).
    fn default_metric(self) -> u32 {
        match self {
            Self::V4 => 0,
            Self::V6 => 1024,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Which packets a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Packets with the mark.
    Mark(Mark),
    /// Packets with the mark to a network.
    MarkTo(Mark, Net),
    /// Packets of local processes from the VPN's address: the way of unconnected sockets, whose datagrams have the
    /// address that a program gave them and no mark, and of replies to who came by the VPN.
    From(IpAddr),
}

/// A routing rule that sends packets to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Family of the packets.
    pub family: Family,
    /// Order among rules.
    pub priority: Priority,
    /// Which packets.
    pub selector: Selector,
    /// Which table.
    pub table: TableId,
    /// Routes of this length or shorter are passed over (`suppress_prefixlength`).
    pub passes_over: Option<u8>,
}

impl fmt::Display for Rule {
    /// As the arguments of `ip rule add` and `ip rule del`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {} ", self.priority)?;
        match self.selector {
            Selector::Mark(mark) => write!(f, "fwmark {mark}")?,
            Selector::MarkTo(mark, net) => write!(f, "to {net} fwmark {mark}")?,
            Selector::From(address) => write!(f, "from {address} iif lo")?,
        }
        write!(f, " lookup {}", self.table)?;
        if let Some(length) = self.passes_over {
            write!(f, " suppress_prefixlength {length}")?;
        }
        write!(f, " protocol {PROTOCOL}")
    }
}

/// The next hop of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Out of which interface.
    pub interface: Interface,
    /// To which router; it may be of the other family (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// Whether the router is taken to be on the link, whatever its address.
    pub onlink: bool,
    /// With which address packets leave that have none yet.
    pub source: Option<IpAddr>,
}

impl Hop {
    /// To whoever is there.
    pub fn out_of(interface: Interface) -> Self {
        Self {
            interface,
            gateway: None,
            onlink: false,
            source: None,
        }
    }
}

/// Where a default route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Out of an interface, to a router or to whoever is there.
    Hop(Hop),
    /// Nowhere: the sender gets an error.
    Unreachable,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Family of the packets.
    pub family: Family,
    /// The table it is in.
    pub table: TableId,
    /// The smaller wins. Unique in its table and family.
    pub metric: u32,
    /// Where it leads.
    pub target: Target,
}

impl Target {
    /// The interface that packets leave by.
    pub fn interface(&self) -> Option<&Interface> {
        match self {
            Self::Hop(hop) => Some(&hop.interface),
            Self::Unreachable => None,
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gateway {
            Some(IpAddr::V4(gateway)) => write!(f, "via {gateway} ")?,
            Some(IpAddr::V6(gateway)) => write!(f, "via inet6 {gateway} ")?,
            None => {}
        }
        write!(f, "dev {}", self.interface.name)?;
        if self.onlink {
            f.write_str(" onlink")?;
        }
        match self.source {
            Some(source) => write!(f, " src {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Route {
    /// As the arguments of `ip route add` and `ip route del`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Hop(hop) => write!(f, "default {hop}")?,
            Target::Unreachable => f.write_str("unreachable default")?,
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        write!(f, " table {} protocol {PROTOCOL}", self.table)
    }
}

/// What steer's nft table does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftTable {
    /// Names of the VPNs' interfaces, as far as they are there: packets with a VPN's mark that leave by its interface get its
    /// address, for both families.
    pub interfaces: Vec<Option<String>>,
    /// Names of the interfaces that what goes past the VPNs leaves by.
    pub uplinks: BTreeSet<String>,
    /// Mark of the packets of the first VPN.
    pub mark: Mark,
    /// What comes from a bridge that is newer than this interface is not forwarded.
    pub newest: IfIndex,
    /// Whose questions of DNS go where.
    pub dns: BTreeSet<DnsRule>,
    /// What comes by the VPN to its address for containers.
    pub forwards: BTreeSet<Forward>,
}

impl NftTable {
    /// The VPNs whose interfaces are there: their marks, and the names of those.
    pub(super) fn tunnels(&self) -> impl Iterator<Item = (Mark, &str)> {
        let marks = self.mark.first(self.interfaces.len());
        let interfaces = self.interfaces.iter().map(Option::as_deref);
        marks
            .zip(interfaces)
            .filter_map(|(mark, name)| Some((mark, name?)))
    }
}

/// The routing state that is wanted. Nothing else may be steer's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Rules.
    pub rules: Vec<Rule>,
    /// Routes of steer's table.
    pub routes: Vec<Route>,
    /// The interfaces whose reverse path filter must not be strict: replies come in by the VPN, while the route back to
    /// their sender, without the mark, is the direct one; or the other way round, past a VPN that has the default route.
    pub loose_rp_filter: BTreeSet<Interface>,
    /// The nft table.
    pub nft: Option<NftTable>,
    /// What Docker's firewall is to let through, where there is one.
    pub openings: BTreeSet<Opening>,
}

/// The addresses that packets of the VPN's come from: those that it has, and of a family of which it has none, for it is
/// away, those of `before` that no other interface has got since (`taken`).
///
/// Whatever is sent from them in the moment in which it comes back is the VPN's as well.
pub fn sources(
    before: &BTreeSet<IpAddr>,
    vpn: Option<&Vpn>,
    taken: &BTreeSet<IpAddr>,
) -> BTreeSet<IpAddr> {
    let now: BTreeSet<_> = vpn.into_iter().flat_map(Vpn::addresses).collect();
    let has = |family| now.iter().any(|&address| Family::of(address) == family);
    let last = before
        .iter()
        .filter(|last| !has(Family::of(**last)) && !taken.contains(last));
    last.chain(&now).copied().collect()
}

/// The state that carries out what is wanted.
///
/// Rules stay whether the VPN is up or not, so that it is the table alone that decides: while it has no route
/// for a packet, `unreachable` refuses it or, with [`OnDown::Direct`], the lookup goes on to the main table.
pub fn plan(wanted: &Wanted) -> Plan {
    let Wanted {
        tunnels,
        networks,
        dns,
        forwards,
        taken,
        newest,
        numbers,
    } = wanted;
    let mut plan = Plan::default();
    for (place, tunnel) in tunnels.iter().enumerate() {
        let id = VpnId(place);
        if let Some(mark) = numbers.mark.of(id) {
            lead(tunnel, mark, numbers.table_of(id), numbers, &mut plan);
        }
    }
    let interface = |id: VpnId| tunnels.get(id.0)?.vpn.as_ref();
    // Without its VPN nothing comes by it.
    let forwards = forwards
        .iter()
        .filter_map(|it| Some((it, interface(it.vpn)?)));
    plan.nft = Some(NftTable {
        interfaces: tunnels
            .iter()
            .map(|tunnel| Some(tunnel.vpn.as_ref()?.name.clone()))
            .collect(),
        uplinks: BTreeSet::new(),
        mark: numbers.mark,
        newest: *newest,
        dns: dns.iter().map(DnsRule::sorted).collect(),
        forwards: forwards
            .clone()
            .map(|(forward, _)| forward.clone())
            .collect(),
    });
    plan.openings = forwards
        .flat_map(|(forward, vpn)| Opening::both(forward, &vpn.name))
        .collect();
    // A container's packets have their mark before the kernel checks that the way back to it is the one that they came by,
    // and that goes by the mark as well, with `src_valid_mark` (wg-quick) and in the rules of firewalls.
    for mark in numbers.mark.first(tunnels.len()) {
        plan.rules.extend(networks.iter().map(|&net| Rule {
            family: Family::of(net.address()),
            priority: numbers.back_rule(),
            selector: Selector::MarkTo(mark, net),
            table: TableId::MAIN,
            passes_over: None,
        }));
    }
    bypass(taken, numbers, &mut plan);
    // The same network twice would be the same rule twice.
    plan.rules.sort_unstable();
    plan.rules.dedup();
    plan.routes.sort_unstable();
    plan
}

/// What has a VPN's mark, or comes from its address, goes by its table alone.
fn lead(tunnel: &Tunnel, mark: Mark, table: TableId, numbers: &Numbers, plan: &mut Plan) {
    let Tunnel {
        vpn,
        sources,
        on_down,
    } = tunnel;
    let vpn = vpn.as_ref();
    let has_address = |family| {
        vpn.is_some_and(|vpn| match family {
            Family::V4 => !vpn.v4.is_empty(),
            Family::V6 => !vpn.v6.is_empty(),
        })
    };
    let usable = |family| vpn.is_some_and(|vpn| vpn.up) && has_address(family);
    // A VPN that carries one family alone is not down: the other one is refused, so that clients turn to the
    // family that the VPN has.
    let refuse = *on_down == OnDown::Block || Family::BOTH.into_iter().any(usable);

    for family in Family::BOTH {
        plan.rules.push(Rule {
            family,
            priority: numbers.mark_rule(),
            selector: Selector::Mark(mark),
            table,
            passes_over: None,
        });
        if let Some(vpn) = vpn
            && usable(family)
        {
            plan.routes.push(Route {
                family,
                table,
                metric: family.default_metric(),
                target: Target::Hop(Hop::out_of(vpn.interface())),
            });
        }
        let falls_back = *on_down == OnDown::Direct && usable(family);
        if refuse && !falls_back {
            plan.routes.push(Route {
                family,
                table,
                metric: UNREACHABLE_METRIC,
                target: Target::Unreachable,
            });
        }
    }
    plan.rules.extend(sources.iter().flat_map(|&address| {
        past_short_routes(
            Family::of(address),
            Selector::From(address),
            numbers.source_rules(),
            NETWORKS,
            table,
        )
    }));
    if let Some(vpn) = vpn.filter(|vpn| !vpn.v4.is_empty()) {
        plan.loose_rp_filter.insert(vpn.interface());
    }
}

/// What goes direct and is marked so goes past the VPNs: to networks that the main table knows as before, and elsewhere by
/// the default routes that are not theirs. Without one it takes a VPN after all.
fn bypass(taken: &Taken, numbers: &Numbers, plan: &mut Plan) {
    let Some(mark) = numbers.mark.bypass() else {
        return;
    };
    let table = numbers.table_past();
    for &family in &taken.families {
        plan.rules.extend(past_short_routes(
            family,
            Selector::Mark(mark),
            numbers.bypass_rules(),
            family.halves(),
            table,
        ));
    }
    for route in taken.past() {
        let known = |other: &Route| {
            (other.family, other.table, other.metric) == (route.family, table, route.metric)
        };
        if plan.routes.iter().any(known) {
            continue;
        }
        plan.routes.push(Route {
            table,
            ..route.clone()
        });
        let Some(interface) = route.target.interface() else {
            continue;
        };
        if route.family == Family::V4 {
            plan.loose_rp_filter.insert(interface.clone());
        }
        if let Some(table) = &mut plan.nft {
            table.uplinks.insert(interface.name.clone());
        }
    }
}

/// The longest prefix that is not taken for a network's: of those of the VPN's address, which may be the host's, a private
/// network's or its containers', none is larger than 10.0.0.0/8.
const NETWORKS: u8 = 7;

/// Two rules: by the main table's routes that are longer than `length`, else by `table`.
fn past_short_routes(
    family: Family,
    selector: Selector,
    first: Priority,
    length: u8,
    table: TableId,
) -> [Rule; 2] {
    let rule = |priority, table, passes_over| Rule {
        family,
        priority: Priority(priority),
        selector,
        table,
        passes_over,
    };
    [
        rule(first.0, TableId::MAIN, Some(length)),
        rule(first.0 + 1, table, None),
    ]
}
