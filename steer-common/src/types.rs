//! Keys and values of the maps, and the events of the ring buffer.
//!
//! All are `repr(C)` without padding, so that equal keys are equal octet by octet, and so that `bpftool map dump`
//! prints each field by its name. Addresses and ports are in network order; accessors hide it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    dns::Name,
    suffix::Key,
    usage::{Traffic, UsageKey, Volume},
};

/// An IPv4 or IPv6 address; IPv4 in its mapped form `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2). Aligned, so that it is handled
/// by words: the kernel's machine has no others than aligned ones, and would go through it octet by octet.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    octets: [u8; 16],
}

/// The third word of an IPv4 address, as it stands in memory.
const MAPPED: u32 = 0xffff_u32.to_be();
/// 169.254.0.0/16.
const LINK_LOCAL_V4: u32 = 0xa9fe;
/// fe80::/10.
const LINK_LOCAL_V6: u32 = 0xfe80 >> 6;

impl Address {
    /// An IPv6 address, or an IPv4 one in mapped form.
    #[inline(always)]
    pub const fn new(octets: [u8; 16]) -> Self {
        Self { octets }
    }

    /// An IPv4 address.
    #[inline(always)]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self {
            octets: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
        }
    }

    /// An address of words as they stand in memory.
    #[inline(always)]
    pub const fn of_words(words: [u32; 4]) -> Self {
        // SAFETY: of the same size, and any octets are an address.
        unsafe { core::mem::transmute(words) }
    }

    /// An IPv4 address of a word as it stands in memory.
    #[inline(always)]
    pub const fn of_v4_word(word: u32) -> Self {
        Self::of_words([0, 0, MAPPED, word])
    }

    /// The words of it, as they stand in memory.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        // SAFETY: of the same size, and any octets are words.
        unsafe { core::mem::transmute(self) }
    }

    /// The sixteen octets.
    #[inline(always)]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.octets
    }

    /// The address of the standard library.
    pub fn to_ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets).to_canonical()
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        let [first, second, third, _] = self.words();
        first == 0 && second == 0 && third == MAPPED
    }

    /// Whether it is a link-local address of IPv4 (169.254.0.0/16, RFC 3927), which routers forward all the same: those of
    /// clouds, with what they tell of the host (169.254.169.254).
    #[inline(always)]
    pub fn is_link_local_v4(&self) -> bool {
        self.is_v4() && u32::from_be(self.words()[3]) >> 16 == LINK_LOCAL_V4
    }

    /// Whether it is on the loopback device, or unspecified, which connects to that.
    #[inline(always)]
    pub fn is_loopback(&self) -> bool {
        let o = &self.octets;
        match self.is_v4() {
            true => o[12] == 127 || o[12..] == [0; 4],
            false => o[..15] == [0; 15] && o[15] <= 1,
        }
    }

    /// Whether flows to it may be steered at all. What names the host itself, everybody or a single link never is:
    /// unspecified, loopback, multicast, broadcast and link-local addresses.
    #[inline(always)]
    pub fn is_steerable(&self) -> bool {
        let [first, second, third, fourth] = self.words().map(u32::from_be);
        if first != 0 {
            return first >> 24 != 0xff && first >> 22 != LINK_LOCAL_V6;
        }
        if second != 0 {
            return true;
        }
        if third == 0xffff {
            let net = fourth >> 24;
            return net != 0 && net != 127 && net < 224 && fourth >> 16 != LINK_LOCAL_V4;
        }
        third != 0 || fourth > 1
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::new(address.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

/// A port in network order.
#[repr(C, align(2))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Port {
    octets: [u8; 2],
}

impl Port {
    /// A port from its number.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self {
            octets: number.to_be_bytes(),
        }
    }

    /// Its number.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be_bytes(self.octets)
    }
}

/// Which path a flow takes, as the maps hold it: zero is "nothing said".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verdict {
    number: u32,
}

impl Verdict {
    /// No rule speaks of it: the flow is left alone.
    pub const NONE: Self = Self { number: 0 };
    /// The direct path, by a rule.
    pub const DIRECT: Self = Self { number: 1 };
    /// No path at all, by a rule.
    pub const BLOCK: Self = Self { number: 2 };
    /// The VPN, by a rule that does not say which: that of the scope, else the default one.
    pub const VPN: Self = Self { number: 3 };

    /// What the verdict for the VPN with number zero would be.
    const VPNS: u32 = 16;

    /// A certain VPN, by a rule.
    #[inline(always)]
    pub const fn by(vpn: Path) -> Self {
        Self {
            number: Self::VPNS + vpn.number,
        }
    }

    /// Whether it is for a VPN, whichever.
    #[inline(always)]
    pub const fn is_vpn(self) -> bool {
        self.number >= Self::VPN.number
    }

    /// Whether nothing that it is about may go direct: it takes a VPN, or goes nowhere.
    #[inline(always)]
    pub const fn bars_direct(self) -> bool {
        self.number >= Self::BLOCK.number
    }

    /// The VPN that it names; the direct path where it names none.
    #[inline(always)]
    pub const fn named(self) -> Path {
        Path {
            number: self.number.saturating_sub(Self::VPNS),
        }
    }

    /// From the number in the maps.
    pub const fn new(number: u32) -> Self {
        Self { number }
    }

    /// The number in the maps.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.number
    }
}

/// Value of `RULES`, keyed by the hash of a suffix ([`crate::suffix`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleEntry {
    /// For the name itself.
    pub exact: Verdict,
    /// For the names below it.
    pub below: Verdict,
}

/// Value of `NETS`: the rule of a network of addresses. The keys are prefixes of an [`Address`], so that IPv4's have
/// [`V4_PREFIX`] bits more than they are written with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetEntry {
    /// Hash of the network as it is written ([`crate::suffix::hash_name`]), so that any rule can be named by its hash.
    pub rule: u64,
    /// For the addresses in it.
    pub verdict: Verdict,
    /// Padding.
    pub zero: u32,
}

/// Bits in front of an IPv4 address in mapped form.
pub const V4_PREFIX: u32 = 96;

/// Value of `ADDRS`, keyed by [`Address`]: which verdicts names gave it, and until when. An address that answers for
/// names of several verdicts holds each of them, and of several VPNs one. Times are nanoseconds of the monotonic clock; zero
/// is never.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddrEntry {
    /// The VPN's verdict holds until then.
    pub vpn_until: u64,
    /// The direct verdict holds until then.
    pub direct_until: u64,
    /// It is blocked until then.
    pub block_until: u64,
    /// Hash of the suffix whose rule gave the VPN's verdict last.
    pub vpn_rule: u64,
    /// Hash of the suffix whose rule gave the direct verdict last.
    pub direct_rule: u64,
    /// Hash of the suffix whose rule blocked it last.
    pub block_rule: u64,
    /// The VPN's verdict: which VPN.
    pub vpn: Verdict,
    /// Padding.
    pub zero: u32,
}

/// Key of `NAMES`: a name that gave an address a verdict.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NameKey {
    /// The address.
    pub address: Address,
    /// Hash of the name.
    pub name: u64,
}

/// Value of `NAMES`. Times are nanoseconds of the monotonic clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The verdict holds until then, by this name.
    pub until: u64,
    /// When the address was learned by it last.
    pub learned: u64,
    /// Hash of the suffix whose rule matched the name, or another name that the answer leads it to.
    pub rule: u64,
    /// Who asked last: a socket's cookie or a bridge's index.
    pub origin: Origin,
    /// What the rule says.
    pub verdict: Verdict,
    /// How the address was learned: one of [`source`].
    pub source: u32,
    /// Seconds, as the answer has it.
    pub ttl: u32,
    /// Octets of the name that count.
    pub size: u32,
    /// The name asked for, in wire form without its root: as words, whose octets are in the order of the wire.
    pub name: Name,
}

/// How an address was learned.
pub mod source {
    /// From an answer of the DNS, before its client had it.
    pub const ANSWER: u32 = 0;
    /// From an answer that user space put together or asked for itself.
    pub const RESOLVED: u32 = 1;
    /// From the name that a flow to it began with.
    pub const HELLO: u32 = 2;
}

/// Value of `HELLOS`: a connection whose name is awaited, or the rest of whose DNS answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloEntry {
    /// [`HelloEntry::BEGINS`] or one of the others.
    pub state: u32,
    /// Sequence number of the first octet that the client sends, or of the answer's length.
    pub first: u32,
    /// Octets of the answer with its length.
    pub size: u32,
    /// Padding.
    pub zero: u32,
}

impl HelloEntry {
    /// A process connects, or sends a datagram: nothing of it has been seen.
    pub const CONNECTS: u32 = 0;
    /// Nothing was sent yet.
    pub const BEGINS: u32 = 1;
    /// User space reads what was sent.
    pub const PIECES: u32 = 2;
    /// It must not go on: what it began with is for the VPN, or blocked.
    pub const STOPPED: u32 = 3;
}

/// Where a flow or a question was seen: the cookie of a process's socket, or the index of a bridge.
pub type Origin = u64;

/// Key of `FLOWS` and `DIRECT`, seen from the one who began the flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// A socket's cookie or a bridge's index.
    pub origin: Origin,
    /// The near side; unspecified for a socket that sends unconnected datagrams.
    pub local: Address,
    /// The far side.
    pub remote: Address,
    /// The near port; zero where there is none.
    pub local_port: Port,
    /// The far port; zero where there is none.
    pub remote_port: Port,
    /// Protocol number of IP.
    pub protocol: u32,
}

/// Value of `FLOWS` and `DIRECT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEntry {
    /// The tick ([`Config::tick`]) of its last packet.
    pub seen: u32,
    /// [`FlowEntry::BEGUN`], [`FlowEntry::RUNS`] or [`FlowEntry::ENDS`]; in `DIRECT` also [`FlowEntry::REFUSED`].
    pub state: u32,
    /// The path that it keeps.
    pub path: Path,
    /// Padding.
    pub zero: u32,
}

/// Most VPNs at once; a power of two.
pub const VPNS: usize = 8;

/// The path that a flow keeps: the direct one, or a VPN by its number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path {
    number: u32,
}

impl Path {
    /// The direct one: by a rule, or as it came in. Flows of a scope are held on it too, for all else there takes the
    /// scope's default.
    pub const DIRECT: Self = Self { number: 0 };

    /// A VPN by its number, counted from one to [`VPNS`]; zero is the direct path.
    #[inline(always)]
    pub const fn vpn(number: u32) -> Self {
        Self { number }
    }

    /// Whether it is a VPN.
    #[inline(always)]
    pub const fn is_vpn(self) -> bool {
        self.number != 0
    }

    /// The VPN's number, counted from one; zero of the direct path.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// This, or where it is the direct path, another.
    #[inline(always)]
    pub const fn or(self, other: Self) -> Self {
        if self.is_vpn() { self } else { other }
    }
}

/// Room in `SCOPES`.
pub const SCOPES: usize = 16_384;

/// Key of `SCOPES`: a bridge as a whole, whose address is unspecified, or a container on it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey {
    /// Index of the bridge.
    pub bridge: u32,
    /// Padding.
    pub zero: u32,
    /// The container's address.
    pub address: Address,
}

impl ScopeKey {
    /// A bridge as a whole.
    pub fn of_bridge(bridge: u32) -> Self {
        Self {
            bridge,
            ..Self::default()
        }
    }
}

/// Value of `SCOPES`: what becomes of flows of which no rule speaks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScopeEntry {
    /// [`ScopeEntry::UNKNOWN`] or one of the others.
    pub default: u32,
    /// Not zero: its DNS questions are led to a resolver of its own, by the VPN.
    pub dns: u32,
    /// Which scope of the configuration, counted from one; zero for none.
    pub scope: u32,
    /// The VPN of its default, and of rules that do not say which; the direct path where it is the default one.
    pub path: Path,
}

impl ScopeEntry {
    /// User space has not said yet: nothing leaves.
    pub const UNKNOWN: u32 = 0;
    /// They are left alone.
    pub const FREE: u32 = 1;
    /// They take the VPN or go nowhere.
    pub const VPN: u32 = 2;
    /// They go nowhere.
    pub const BLOCK: u32 = 3;
    /// Of a bridge: each container on it has an entry of its own.
    pub const EACH: u32 = 4;

    /// Where there are no scopes.
    pub const NONE: Self = Self {
        default: Self::FREE,
        dns: 0,
        scope: 0,
        path: Path::DIRECT,
    };
}

/// Room in `CGROUPS`.
pub const CGROUPS: usize = 1_024;

/// Value of `CGROUPS`, keyed by a cgroup's id: what becomes of what the processes in it and below it send. Its path is a VPN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessScope {
    /// As that of containers.
    pub entry: ScopeEntry,
    /// Who is asked their DNS questions over IPv4; unspecified if nobody is.
    pub v4: Address,
    /// The same over IPv6.
    pub v6: Address,
}

impl ProcessScope {
    /// Who is asked what somebody was to be asked, if there is anybody of his family.
    #[inline(always)]
    pub fn resolver(&self, asked: &Address) -> Option<Address> {
        let resolver = if asked.is_v4() { self.v4 } else { self.v6 };
        (resolver != Address::default()).then_some(resolver)
    }
}

/// Key of `LED`, whose values are whom a process asked: its question went to the resolver of its scope.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LedKey {
    /// The socket's cookie.
    pub socket: Origin,
    /// The resolver.
    pub resolver: Address,
}

/// Key of `QUERIES`: a DNS question on its way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueryKey {
    /// A socket's cookie or a bridge's index.
    pub origin: Origin,
    /// Who asks; unspecified where a socket's cookie tells.
    pub client: Address,
    /// Who is asked; likewise.
    pub server: Address,
    /// The port of who asks; likewise.
    pub client_port: Port,
    /// The message's ID (RFC 1035 section 4.1.1).
    pub id: u16,
    /// Padding.
    pub zero: u32,
}

/// Value of `QUERIES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryEntry {
    /// Hash of the name asked for.
    pub name: u64,
    /// The tick ([`Config::tick`]) when it was asked.
    pub asked: u32,
    /// Padding.
    pub zero: u32,
}

impl QueryEntry {
    /// Whether an answer still counts; no client waits for half a minute.
    #[inline(always)]
    pub const fn is_awaited(&self, tick: u32) -> bool {
        tick.wrapping_sub(self.asked) <= 3
    }
}

/// Key of `EMBEDDED`: where Docker's own resolver listens inside a container ([`EMBEDDED`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmbeddedKey {
    /// Protocol number of IP.
    pub protocol: u32,
    /// The port.
    pub port: u32,
}

/// The address of Docker's own resolver inside each container on a network of the user's.
pub const EMBEDDED: Address = Address::v4([127, 0, 0, 11]);

/// Room in `EMBEDDED`.
pub const LISTENERS: usize = 8_192;

/// Key of `ASKED`: a question at Docker's own resolver, which asks on with the same ID.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AskedKey {
    /// Hash of the name asked for.
    pub name: u64,
    /// The message's ID.
    pub id: u64,
}

/// Value of `ASKED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedEntry {
    /// In whose name ([`ScopeEntry::scope`]); zero where that is not known.
    pub scope: u32,
    /// The tick ([`Config::tick`]) when it was asked last.
    pub tick: u32,
}

/// Which DNS questions user space asks in their client's place, by the VPN: bits of [`Config::relay`].
pub mod relay {
    /// Those that Docker's own resolver asks for containers of scopes.
    pub const EMBEDDED: u32 = 1;
    /// Those for names of the VPN.
    pub const NAMES: u32 = 2;
}

/// A VPN, as [`Config`] has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vpn {
    /// Its IPv6 address, for unconnected datagrams; unspecified while there is none.
    pub v6: [u8; 16],
    /// Its IPv4 address, likewise.
    pub v4: [u8; 4],
    /// Index of its interface; zero while there is none.
    pub ifindex: u32,
    /// The mark that sends a packet to it; zero if there is no such VPN.
    pub mark: u32,
    /// Not zero: while it is down, its flows go direct by the user's choice.
    pub open: u32,
}

/// Value of `CONFIG`: what user space tells the programs while they run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Key of the hashes of names.
    pub key: Key,
    /// Cookie of the network namespace whose flows are steered; zero where it cannot be told.
    pub netns: u64,
    /// Nanoseconds that an address lives at least, whatever its TTL.
    pub floor: u64,
    /// Nanoseconds that an address lives beyond its TTL, for clients that cache.
    pub grace: u64,
    /// When user space said last that it is there. Times are nanoseconds of the monotonic clock.
    pub heard: u64,
    /// Until then somebody watches what goes to whom (`USAGE`); zero while nobody does.
    pub watched: u64,
    /// The VPNs, by their numbers: those that there are come first.
    pub vpns: [Vpn; VPNS],
    /// The VPN of whatever does not say which.
    pub default: Path,
    /// The bits of the mark that are steer's.
    pub mask: u32,
    /// Counts on every [`TICK_SECONDS`] while the daemon lives: the age of flows.
    pub tick: u32,
    /// Not zero: there are rules for networks in `NETS`.
    pub nets: u32,
    /// Not zero: a connection that turns out to be for the VPN when it goes direct already is stopped and reset.
    pub reset: u32,
    /// Not zero: user space is given the answers of which no rule speaks, because it has rules that the kernel cannot
    /// read.
    pub patterns: u32,
    /// The mark that sends a packet past a VPN that has the default route; zero while none has.
    pub bypass: u32,
    /// Not zero: bridges and their containers are looked up in `SCOPES`.
    pub scopes: u32,
    /// Bits of [`relay`].
    pub relay: u32,
    /// Not zero: names are blocked, so what QUIC begins with is read where it takes a VPN, too.
    pub blocks: u32,
    /// Not zero: processes are looked up in `CGROUPS`.
    pub processes: u32,
    /// Index of the newest interface that user space has looked at: a newer one may be a VPN's.
    pub newest: u32,
    /// Counts on with every change of `HOME`.
    pub home: u32,
    /// Padding.
    pub zero: u32,
    /// Ports where a TLS ClientHello tells a flow's name; zero for none.
    pub tls_ports: [Port; PORTS],
    /// Ports where an HTTP request does.
    pub http_ports: [Port; PORTS],
}

impl Config {
    /// A VPN by its number; of the direct path, one that is not there.
    #[inline(always)]
    pub const fn vpn(&self, path: Path) -> &Vpn {
        // The mask tells the verifier how far it is; that of the direct path is the last, so it must not be asked for.
        &self.vpns[path.number.wrapping_sub(1) as usize & (VPNS - 1)]
    }

    /// The VPN that a verdict for one means, where `vpn` is that of the scope, if it has one.
    #[inline(always)]
    pub const fn meant(&self, verdict: Verdict, vpn: Path) -> Path {
        verdict.named().or(vpn).or(self.default)
    }

    /// The VPN with an interface; the direct path if none has it.
    #[inline(always)]
    pub fn by_interface(&self, ifindex: u32) -> Path {
        self.find(|vpn| vpn.ifindex != 0 && vpn.ifindex == ifindex)
    }

    /// The path by which comes what an interface brings; none of one that user space has not looked at.
    #[inline(always)]
    pub fn came_by(&self, ifindex: u32) -> Option<Path> {
        (ifindex <= self.newest).then(|| self.by_interface(ifindex))
    }

    /// The VPN that a packet's mark sends it to; the direct path if that is none's.
    #[inline(always)]
    pub fn by_mark(&self, mark: u32) -> Path {
        self.find(|vpn| mark & self.mask == vpn.mark)
    }

    /// The VPN with an address; the direct path if none has it.
    #[inline(always)]
    pub fn by_address(&self, address: &Address) -> Path {
        self.find(|vpn| *address == Address::v4(vpn.v4) || *address == Address::new(vpn.v6))
    }

    #[inline(always)]
    fn find(&self, is_it: impl Fn(&Vpn) -> bool) -> Path {
        for (number, vpn) in (1..).zip(&self.vpns) {
            if vpn.mark == 0 {
                break;
            }
            if is_it(vpn) {
                return Path { number };
            }
        }
        Path::DIRECT
    }
}

/// Ports of a kind that names are read on.
pub const PORTS: usize = 16;

/// What the maps mean. A run that takes over another's maps does so only if this is the same, so it counts on with every
/// change of the meaning of a key or a value; sizes and kinds are compared besides.
pub const LAYOUT: u32 = 9;

/// Seconds from one tick to the next.
pub const TICK_SECONDS: u64 = 10;

/// First field of every event.
pub mod event {
    /// A [`super::Learned`] follows.
    pub const LEARNED: u32 = 1;
    /// A [`super::Steered`] follows.
    pub const STEERED: u32 = 2;
    /// A [`super::Late`] follows.
    pub const LATE: u32 = 3;
    /// A [`super::Waits`] follows.
    pub const WAITS: u32 = 4;
    /// A [`super::Steered`] follows, of a flow that goes nowhere.
    pub const REFUSED: u32 = 5;
}

/// Event: an address has a verdict that it had not before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// [`event::LEARNED`].
    pub kind: u32,
    /// Padding.
    pub zero: u32,
    /// Hash of the suffix whose rule gives the address the other verdict now; zero if none does.
    pub contested_by: u64,
    /// The address.
    pub address: Address,
    /// The name, its rule and its verdict.
    pub by: NameEntry,
}

/// Event: a flow begins and takes the VPN, or a rule refuses it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steered {
    /// [`event::STEERED`] or [`event::REFUSED`].
    pub kind: u32,
    /// Protocol number of IP.
    pub protocol: u32,
    /// Whose: a socket's cookie or a bridge's index.
    pub origin: Origin,
    /// Hash of the suffix whose rule gave the address its verdict.
    pub rule: u64,
    /// The near side; unspecified where the kernel has not chosen it yet.
    pub local: Address,
    /// The far side.
    pub remote: Address,
    /// The near port.
    pub local_port: Port,
    /// The far port.
    pub remote_port: Port,
    /// The scope whose default it takes ([`ScopeEntry::scope`]); zero if it does by a rule.
    pub scope: u32,
    /// Which VPN.
    pub path: Path,
    /// Of what a container begins over TCP and is refused, the sequence number; else zero.
    pub sequence: u32,
}

/// Event: a container sends of which user space has not said in which scope it is. Told once until it has.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// [`event::WAITS`].
    pub kind: u32,
    /// Padding.
    pub zero: u32,
    /// The bridge and the container.
    pub who: ScopeKey,
}

/// Event: a connection turned out, by what it began with, to be for the VPN while it goes direct, or to be blocked.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// [`event::LATE`].
    pub kind: u32,
    /// Not zero: it was stopped before that was sent, and waits for its reset.
    pub stopped: u32,
    /// Not zero: [`FlowKey::origin`] is a socket's cookie, and not a bridge's index.
    pub process: u32,
    /// Padding.
    pub zero: u32,
    /// The connection; both ends as the segment has them, also for a process's.
    pub flow: FlowKey,
    /// Sequence number of the segment.
    pub sequence: u32,
    /// Acknowledgment number of the segment.
    pub acknowledgment: u32,
    /// The name, its rule and its verdict.
    pub by: NameEntry,
}

/// Octets of a packet for user space, in `SEGMENTS`; they follow in the same entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The flow as its sender has it, also a process's.
    pub flow: FlowKey,
    /// What it is a piece of: one of [`piece`].
    pub kind: u32,
    /// Not zero: [`FlowKey::origin`] is a socket's cookie, and not a bridge's index.
    pub process: u32,
    /// Sequence number of the first octet of the whole.
    pub first: u32,
    /// Sequence number of the first octet here.
    pub sequence: u32,
    /// Acknowledgment number of the segment.
    pub acknowledgment: u32,
    /// Octets that follow, [`PIECE`] at most.
    pub size: u32,
    /// Not zero: the flow takes a VPN; of a question that is stopped by its name, the number of that one's verdict.
    pub by_vpn: u32,
    /// Octets of each datagram of a packet that is several; zero if it is one, or a segment.
    pub datagram: u32,
    /// The packet's mark.
    pub mark: u32,
    /// The VPN of the scope of the process that sends it; the direct path if it is in none, and of a container.
    pub vpn: Path,
}

/// Most octets in one [`Piece`].
pub const PIECE: usize = 4096;

/// What a [`Piece`] is of.
pub mod piece {
    /// What a connection begins with.
    pub const HELLO: u32 = 0;
    /// A DNS answer over TCP, behind its length.
    pub const STREAM: u32 = 1;
    /// A DNS answer that was asked for, whole, of whose names no rule speaks.
    pub const ANSWER: u32 = 2;
    /// What a connection goes on to send that was stopped: its reset has not arrived, or was too old.
    pub const STOPPED: u32 = 3;
    /// A packet that QUIC begins with, held until user space lets it go: from its Ethernet header on if it came over a
    /// bridge, else from its IP header on. [`Piece::sequence`](super::Piece::sequence) counts from the datagram's first
    /// octet, so that what is before is negative, and [`Piece::first`](super::Piece::first) is where it ends.
    pub const INITIAL: u32 = 4;
    /// A DNS question that was stopped, whole, for user space to ask it; [`Piece::first`](super::Piece::first) is the
    /// [`ScopeEntry::scope`](super::ScopeEntry::scope) that it is asked for.
    pub const QUESTION: u32 = 5;
    /// A packet of a container of which it is not known yet in which scope it is, from its Ethernet header on.
    pub const WAITS: u32 = 6;
}

macro_rules! layout {
    ($($kind:ty = $size:literal),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$kind>() == $size);
        #[cfg(feature = "user")]
        // SAFETY: repr(C), no padding (the size is the sum of the fields), and every bit pattern is a value.
        unsafe impl aya::Pod for $kind {}
    )+};
}

layout! {
    Address = 16,
    RuleEntry = 8,
    NetEntry = 16,
    AddrEntry = 56,
    NameKey = 24,
    NameEntry = 304,
    FlowKey = 48,
    FlowEntry = 16,
    ScopeKey = 24,
    ScopeEntry = 16,
    ProcessScope = 48,
    LedKey = 24,
    Waits = 32,
    EmbeddedKey = 8,
    AskedKey = 16,
    AskedEntry = 8,
    QueryKey = 48,
    QueryEntry = 16,
    Vpn = 32,
    Config = 432,
    Learned = 336,
    Steered = 72,
    HelloEntry = 16,
    Late = 376,
    Piece = 88,
    Volume = 32,
    Traffic = 128,
    UsageKey = 40,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_never_steered() {
        for (text, steerable) in [
            ("0.0.0.0", false),
            ("127.0.0.53", false),
            ("169.254.1.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("203.0.113.7", true),
            ("10.0.0.1", true),
            ("169.253.0.1", true),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("febf::1", false),
            ("ff02::fb", false),
            ("fec0::1", true),
            ("2001:db8::1", true),
            ("::2", true),
        ] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(Address::from(address).is_steerable(), steerable, "{text}");
        }
    }

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["1.2.3.4", "2001:db8::1"] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(Address::from(address).to_ip(), address);
        }
    }
}
