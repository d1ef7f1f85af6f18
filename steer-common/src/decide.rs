//! Names to verdicts, addresses to verdicts, flows to paths.

use crate::{
    dns,
    packet::{Packet, Place, TCP, UDP},
    scope,
    stats::Outcome,
    types::{
        AddrEntry, Address, Config, FlowEntry, FlowKey, Origin, Path, Port, RuleEntry, ScopeEntry,
        TICK_SECONDS, Verdict,
    },
};

/// What the rules say of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The verdict; none where no rule matches.
    pub verdict: Verdict,
    /// Hash of the suffix whose rule matched.
    pub rule: u64,
}

impl Match {
    /// Takes in the rule of a suffix. Called with ever longer suffixes, so that the most specific rule stays.
    #[inline(always)]
    pub fn suffix(&mut self, hash: u64, whole: bool, entry: &RuleEntry) {
        let verdict = if whole { entry.exact } else { entry.below };
        if verdict != Verdict::NONE {
            *self = Self {
                verdict,
                rule: hash,
            };
        }
    }

    /// What becomes of a packet that the VPN is not for.
    #[inline(always)]
    pub fn left_alone(&self) -> Outcome {
        if self.verdict == Verdict::DIRECT {
            Outcome::Direct
        } else {
            Outcome::Unmatched
        }
    }
}

/// What becomes of a packet, and by which path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// What becomes of it.
    pub outcome: Outcome,
    /// The VPN that it takes; the direct path if it takes none.
    pub path: Path,
}

impl From<Outcome> for Course {
    /// By no VPN.
    #[inline(always)]
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            path: Path::DIRECT,
        }
    }
}

impl AddrEntry {
    /// What is known of the address at a time. A VPN wins, and a block loses, so that what must work does.
    #[inline(always)]
    pub fn at(&self, now: u64) -> Match {
        if self.vpn_until > now {
            Match {
                verdict: self.vpn,
                rule: self.vpn_rule,
            }
        } else if self.direct_until > now {
            Match {
                verdict: Verdict::DIRECT,
                rule: self.direct_rule,
            }
        } else if self.block_until > now {
            Match {
                verdict: Verdict::BLOCK,
                rule: self.block_rule,
            }
        } else {
            Match::default()
        }
    }

    /// Makes it that of an address that was not known, with what a name grants.
    #[inline(always)]
    pub fn begin(&mut self, matched: &Match, until: u64) {
        let by_vpn = matched.verdict.is_vpn();
        let blocked = matched.verdict == Verdict::BLOCK;
        let direct = !by_vpn && !blocked;
        let only = |is_it, value| if is_it { value } else { 0 };
        self.vpn_until = only(by_vpn, until);
        self.direct_until = only(direct, until);
        self.block_until = only(blocked, until);
        self.vpn_rule = only(by_vpn, matched.rule);
        self.direct_rule = only(direct, matched.rule);
        self.block_rule = only(blocked, matched.rule);
        self.vpn = matched.verdict;
        self.zero = 0;
    }

    /// Takes in what a name grants, and says whether that is new: a verdict that the address had not. Nothing ever shortens
    /// what was granted before. Of several VPNs it is the last one's, but a rule that does not say which takes it from none.
    #[inline(always)]
    pub fn learn(&mut self, matched: &Match, until: u64, now: u64) -> bool {
        if matched.verdict == Verdict::BLOCK {
            let news = self.block_until <= now;
            self.block_until = until.max(self.block_until);
            self.block_rule = matched.rule;
            return news;
        }
        if !matched.verdict.is_vpn() {
            let news = self.direct_until <= now;
            self.direct_until = until.max(self.direct_until);
            self.direct_rule = matched.rule;
            return news;
        }
        let news = self.vpn_until <= now;
        self.vpn_until = until.max(self.vpn_until);
        if news || matched.verdict.named().is_vpn() || !self.vpn.named().is_vpn() {
            self.vpn = matched.verdict;
            self.vpn_rule = matched.rule;
        }
        news
    }

    /// Hash of the suffix whose rule gives the address another verdict now; zero if none does.
    #[inline(always)]
    pub fn contested_by(&self, verdict: Verdict, now: u64) -> u64 {
        if self.vpn_until > now && self.vpn.number() != verdict.number() {
            return self.vpn_rule;
        }
        if verdict != Verdict::DIRECT && self.direct_until > now {
            return self.direct_rule;
        }
        if verdict != Verdict::BLOCK && self.block_until > now {
            return self.block_rule;
        }
        0
    }

    /// Whether names for different VPNs meet here, or would by this verdict.
    #[inline(always)]
    pub fn is_of_another(&self, verdict: Verdict, now: u64) -> bool {
        let is_other = self.vpn.number() != verdict.number();
        verdict.is_vpn() && self.vpn_until > now && is_other
    }
}

/// Until when an address holds by an answer with that TTL in seconds. None grants more than a day, so that whoever makes
/// answers up cannot fill the table for ever.
#[inline(always)]
pub fn until(ttl: u32, config: &Config, now: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    const DAY: u32 = 86_400;
    let granted = (u64::from(ttl.min(DAY)) * SECOND).max(config.floor);
    now + granted + config.grace
}

impl FlowKey {
    /// The flow of a packet that its beginner sends.
    #[inline(always)]
    pub const fn of(origin: Origin, packet: &Packet) -> Self {
        Self {
            origin,
            local: packet.source,
            remote: packet.destination,
            local_port: packet.source_port,
            remote_port: packet.destination_port,
            protocol: packet.protocol,
        }
    }

    /// A process's connection: by its socket alone, for its ends are translated on the way out.
    #[inline(always)]
    pub fn of_socket(cookie: Origin) -> Self {
        Self {
            origin: cookie,
            protocol: TCP,
            ..Self::default()
        }
    }

    /// The connection of somebody who came to a process of a scope from outside: the process's end is translated on the way out,
    /// and its socket is another than the one that listened.
    #[inline(always)]
    pub fn of_comer(comer: Address, port: Port) -> Self {
        Self {
            remote: comer,
            remote_port: port,
            protocol: TCP,
            ..Self::default()
        }
    }

    /// A process's datagrams to somebody: its socket may send to others, and has no address of its own before it does.
    #[inline(always)]
    pub fn of_datagrams(cookie: Origin, remote: Address, port: Port) -> Self {
        Self {
            origin: cookie,
            remote,
            remote_port: port,
            protocol: UDP,
            ..Self::default()
        }
    }
}

impl FlowEntry {
    /// The first packet was seen, and maybe more of the kind: nobody has answered yet.
    pub const BEGUN: u32 = 0;
    /// It goes on.
    pub const RUNS: u32 = 1;
    /// One side has ended it.
    pub const ENDS: u32 = 2;
    /// It goes nowhere, and user space was told at that tick.
    pub const REFUSED: u32 = 3;

    /// A flow that begins.
    #[inline(always)]
    pub const fn new(tick: u32, path: Path) -> Self {
        Self {
            seen: tick,
            state: Self::BEGUN,
            path,
            zero: 0,
        }
    }

    /// The entry after another packet.
    #[inline(always)]
    pub const fn after(self, place: Place, tick: u32) -> Self {
        let state = match place {
            Place::Last => Self::ENDS,
            Place::Later if self.state == Self::BEGUN => Self::RUNS,
            _ => self.state,
        };
        Self {
            seen: tick,
            state,
            ..self
        }
    }

    /// Whether it is forgotten: of TCP as long after its last packet as the kernel's connection tracking waits
    /// (`nf_conntrack_tcp_timeout_established`), two minutes while nobody has answered, and three once it is ending, for
    /// what nobody acknowledges is sent again after up to two (`TCP_RTO_MAX`); of all else three minutes
    /// (`nf_conntrack_udp_timeout_stream`).
    #[inline(always)]
    pub const fn is_over(&self, protocol: u32, tick: u32) -> bool {
        const ESTABLISHED: u32 = ticks(432_000);
        const UNANSWERED: u32 = ticks(120);
        const STREAM: u32 = ticks(180);
        let age = tick.wrapping_sub(self.seen);
        // A packet may have been seen after the tick was read.
        if age > u32::MAX / 2 {
            return false;
        }
        age >= match (protocol, self.state) {
            (TCP, Self::RUNS) => ESTABLISHED,
            (TCP, Self::BEGUN) => UNANSWERED,
            _ => STREAM,
        }
    }
}

const fn ticks(seconds: u64) -> u32 {
    (seconds / TICK_SECONDS) as u32
}

/// What the programs remember, as the decisions need it; in the kernel the maps, in tests whatever serves.
pub trait Tables {
    /// A flow that keeps its path, as it was before; a packet of it was seen now ([`FlowEntry::after`]).
    fn held(&self, key: &FlowKey, place: Place) -> Option<FlowEntry>;
    /// Whether a flow without beginnings is known to go direct; it was seen now.
    fn left(&self, key: &FlowKey) -> bool;
    /// What is known of an address now. A verdict for a VPN names it: `vpn`, or where that is the direct path the default
    /// one, if the rule does not say which.
    fn address(&self, address: &Address, vpn: Path) -> Match;
    /// What becomes of flows of somebody behind a bridge of which no rule speaks; its path is a VPN.
    fn scope(&self, origin: Origin, address: &Address) -> ScopeEntry;
    /// Whether anybody behind a bridge is in a scope.
    fn has_scopes(&self) -> bool;
    /// Whether an address is the host's own or one of its containers'.
    fn is_home(&self, address: &Address) -> bool;
    /// Holds a flow on a path; `false` if there is no room.
    fn hold(&self, key: &FlowKey, path: Path) -> bool;
    /// Leaves a flow without beginnings on the direct path.
    fn leave(&self, key: &FlowKey);
    /// Forgets a flow that has ended.
    fn release(&self, key: &FlowKey);
    /// Tells user space that a flow begins and takes a VPN, by a rule or by the default of a scope.
    fn tell(&self, key: &FlowKey, matched: &Match, path: Path, scope: u32);
    /// Tells user space that a rule refuses what begins here, once in a while; `sequence` is that of a container's segment.
    fn refuse(&self, key: &FlowKey, matched: &Match, sequence: u32);
}

/// The path of a packet that one behind a bridge sends.
///
/// A verdict is taken at a flow's first packet and held. TCP tells its first packet, so a later one of no flow in
/// `FLOWS` began on the direct path or before there were rules, and stays there; flows without such beginnings are
/// remembered on both paths.
/// An error of ICMP goes by the path of the flow that it is about.
#[inline(always)]
pub fn outgoing(tables: &impl Tables, origin: Origin, packet: &Packet) -> Course {
    going_on(tables, origin, packet).unwrap_or_else(|| judged(tables, origin, packet))
}

/// The path of a packet of a flow that goes on already, as nearly all do, by a lookup or two.
#[inline(always)]
pub fn going_on(tables: &impl Tables, origin: Origin, packet: &Packet) -> Option<Course> {
    let (key, place) = flow(origin, packet);
    if place == Place::Stateless {
        return None;
    }
    if let Some(kept) = kept(tables, &key, place) {
        return Some(kept);
    }
    let goes_direct = !tables.has_scopes()
        && match place {
            Place::Later | Place::Last => true,
            Place::Unknown => remembers(&key, place) && tables.left(&key),
            Place::First | Place::Stateless => false,
        };
    goes_direct.then(|| Outcome::Left.into())
}

/// The flow of a packet that its beginner sends, or that an error is about, and where in it the packet stands.
#[inline(always)]
fn flow(origin: Origin, packet: &Packet) -> (FlowKey, Place) {
    let key = FlowKey::of(origin, packet);
    if packet.quoted == 0 || packet.place == Place::Stateless {
        return (key, packet.place);
    }
    let protocol = packet.quoted;
    (FlowKey { protocol, ..key }, Place::Unknown)
}

/// Whether a flow is remembered that goes direct, having no beginning. A question and its answer are a whole flow: remembering it
/// would only fill the table.
#[inline(always)]
fn remembers(key: &FlowKey, place: Place) -> bool {
    place == Place::Unknown && key.remote_port.number() != dns::PORT
}

/// The path of a packet of which [`going_on`] says nothing.
#[inline(always)]
pub fn judged(tables: &impl Tables, origin: Origin, packet: &Packet) -> Course {
    let (key, place) = flow(origin, packet);
    let scope = tables.scope(origin, &packet.source);
    if scope.dns != 0 && scope::asks(packet) {
        return scope::question(tables, &key, place, scope.path);
    }
    if scope.default != ScopeEntry::FREE {
        return scope::outgoing(tables, &scope, &key, packet);
    }
    if place == Place::Stateless {
        return by_address(tables, packet, scope.path);
    }
    if packet.quoted == 0 {
        return begin(tables, &key, place, scope.path, packet.sequence);
    }
    if packet.quoted != TCP && tables.left(&key) {
        return Outcome::Left.into();
    }
    by_address(tables, packet, scope.path)
}

#[inline(always)]
fn by_address(tables: &impl Tables, packet: &Packet, vpn: Path) -> Course {
    match tables.address(&packet.destination, vpn).verdict {
        // An error about a flow goes back to who began it.
        Verdict::BLOCK if packet.quoted == 0 => Outcome::Refused.into(),
        verdict if verdict.is_vpn() => Course {
            outcome: Outcome::Stateless,
            path: verdict.named(),
        },
        _ => Outcome::Left.into(),
    }
}

/// Notes a flow that comes in to one behind a bridge, by a path, so that its replies leave the way it came. Where it is not known
/// which path that is, there being a newer interface than user space has looked at, nothing is noted, so that it is none of the
/// direct path's.
#[inline(always)]
pub fn incoming(
    tables: &impl Tables,
    origin: Origin,
    packet: &Packet,
    path: Option<Path>,
) -> Option<Outcome> {
    let path = path.filter(|&path| is_noted(tables, packet, path))?;
    let by_vpn = path.is_vpn();
    let key = FlowKey {
        origin,
        local: packet.destination,
        remote: packet.source,
        local_port: packet.destination_port,
        remote_port: packet.source_port,
        protocol: packet.protocol,
    };
    match packet.place {
        Place::First if by_vpn => {}
        Place::First if scope::notes(tables, origin, packet) => {
            return hold_direct(tables, &key);
        }
        // Of a flow that is forgotten: what answers it, with a reset, goes back as it came.
        Place::Later | Place::Last if by_vpn && packet.protocol == TCP => {
            if tables.held(&key, packet.place).is_some() {
                return None;
            }
        }
        Place::Last => {
            tables.held(&key, Place::Last);
            return None;
        }
        Place::Unknown if !tables.left(&key) && tables.held(&key, Place::Unknown).is_none() => {
            if !by_vpn {
                if scope::notes(tables, origin, packet) {
                    return hold_direct(tables, &key);
                }
                tables.leave(&key);
                return None;
            }
        }
        _ => return None,
    }
    Some(if tables.hold(&key, path) {
        Outcome::CameByVpn
    } else {
        Outcome::FlowsFull
    })
}

/// Whether anything may be noted of a packet that comes in by a path. Of nearly all there is nothing.
#[inline(always)]
pub fn is_noted(tables: &impl Tables, packet: &Packet, path: Path) -> bool {
    match packet.place {
        Place::First => path.is_vpn() || tables.has_scopes(),
        Place::Later => path.is_vpn() && packet.protocol == TCP,
        Place::Last | Place::Unknown => true,
        Place::Stateless => false,
    }
}

#[inline(always)]
fn hold_direct(tables: &impl Tables, key: &FlowKey) -> Option<Outcome> {
    if tables.hold(key, Path::DIRECT) {
        return None;
    }
    Some(Outcome::FlowsFull)
}

/// What becomes of a packet whose flow keeps a path.
#[inline(always)]
pub(crate) fn kept(tables: &impl Tables, key: &FlowKey, place: Place) -> Option<Course> {
    let flow = tables.held(key, place)?;
    if place == Place::First && flow.state == FlowEntry::ENDS {
        tables.release(key);
        return None;
    }
    let outcome = if flow.path.is_vpn() {
        Outcome::Held
    } else {
        Outcome::Left
    };
    Some(Course {
        outcome,
        path: flow.path,
    })
}

/// What becomes of the first packet of a flow of somebody in no scope, or in one that only says which VPN rules mean.
#[inline(always)]
pub(crate) fn begin(
    tables: &impl Tables,
    key: &FlowKey,
    place: Place,
    vpn: Path,
    sequence: u32,
) -> Course {
    if matches!(place, Place::Later | Place::Last) {
        return Outcome::Left.into();
    }
    let remembered = remembers(key, place);
    if remembered && tables.left(key) {
        return Outcome::Left.into();
    }
    let matched = tables.address(&key.remote, vpn);
    if matched.verdict == Verdict::BLOCK {
        tables.refuse(key, &matched, sequence);
        return Outcome::Refused.into();
    }
    if matched.verdict.is_vpn() {
        let path = matched.verdict.named();
        if !tables.hold(key, path) {
            return Outcome::FlowsFull.into();
        }
        tables.tell(key, &matched, path, 0);
        return Course {
            outcome: Outcome::Begun,
            path,
        };
    }
    if remembered {
        tables.leave(key);
    }
    matched.left_alone().into()
}
