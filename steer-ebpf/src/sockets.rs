//! Sockets of the steered processes: marked when they connect, and unconnected datagrams one by one.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_setsockopt},
};
use steer_common::{
    decide::{Course, Tables as _},
    dns,
    packet::{TCP, UDP},
    process,
    stats::{Action, Outcome},
    types::{Address, Config, FlowKey, Path, Port, ProcessScope, ScopeEntry, Verdict, Vpn},
};

use crate::{
    hellos, initials,
    maps::{NETNS, config},
    processes, relay,
    tables::Maps,
};

const SOL_SOCKET: i32 = 1;
const SO_MARK: i32 = 36;

/// The address a socket turns to, or sends to.
#[derive(Clone, Copy)]
pub struct Sock {
    addr: *mut bpf_sock_addr,
}

impl Sock {
    /// From a program's context.
    #[inline(always)]
    pub fn new(addr: *mut bpf_sock_addr) -> Self {
        Self { addr }
    }

    #[inline(always)]
    fn remote4(self) -> Address {
        // SAFETY: the kernel hands the program a valid context.
        Address::v4(unsafe { (*self.addr).user_ip4 }.to_ne_bytes())
    }

    #[inline(always)]
    fn remote6(self) -> Address {
        // SAFETY: the kernel hands the program a valid context.
        let [a, b, c, d] = unsafe { (*self.addr).user_ip6 };
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&a.to_ne_bytes());
        octets[4..8].copy_from_slice(&b.to_ne_bytes());
        octets[8..12].copy_from_slice(&c.to_ne_bytes());
        octets[12..].copy_from_slice(&d.to_ne_bytes());
        Address::new(octets)
    }

    #[inline(always)]
    fn set_remote4(self, address: &Address) {
        let [.., a, b, c, d] = *address.octets();
        // SAFETY: the kernel hands the program a valid context, and the verifier checks that this field may be written.
        unsafe { (*self.addr).user_ip4 = u32::from_ne_bytes([a, b, c, d]) };
    }

    #[inline(always)]
    fn set_remote6(self, address: &Address) {
        let [a, b, c, d] = words(address.octets());
        // SAFETY: the kernel hands the program a valid context, and the verifier checks that these fields may be written.
        unsafe {
            let field = &raw mut (*self.addr).user_ip6;
            (*field)[0] = a;
            (*field)[1] = b;
            (*field)[2] = c;
            (*field)[3] = d;
        }
    }

    #[inline(always)]
    fn port(self) -> Port {
        // SAFETY: the kernel hands the program a valid context. The field holds a port in network order.
        Port::new(u16::from_be(unsafe { (*self.addr).user_port } as u16))
    }

    #[inline(always)]
    fn protocol(self) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { (*self.addr).protocol }
    }

    #[inline(always)]
    fn cookie(self) -> u64 {
        // SAFETY: the helper takes the context it was handed.
        unsafe { bpf_get_socket_cookie(self.addr.cast()) }
    }

    #[inline(always)]
    fn mark(self) -> u32 {
        // SAFETY: the kernel hands the program a valid context, whose socket is never null (5.3).
        unsafe { (*(*self.addr).__bindgen_anon_1.sk).mark }
    }

    #[inline(always)]
    fn set_mark(self, mut mark: u32) -> bool {
        // SAFETY: the helper reads four octets, which `mark` has.
        let result = unsafe {
            bpf_setsockopt(
                self.addr.cast(),
                SOL_SOCKET,
                SO_MARK,
                (&raw mut mark).cast(),
                size_of::<u32>() as i32,
            )
        };
        result == 0
    }

    /// The VPN that a datagram is to take; an error if the socket's mark, which goes before its address, sends it by another. That
    /// is left by a connection that was dissolved, and what sets it here is heeded from the next datagram on.
    #[inline(always)]
    fn may_take(self, config: &Config, path: Path) -> Result<&Vpn, Outcome> {
        let marked = config.by_mark(self.mark());
        if marked.is_vpn() && marked != path {
            return Err(Outcome::WrongPath);
        }
        Ok(config.vpn(path))
    }

    #[inline(always)]
    fn netns(self) -> u64 {
        // SAFETY: the helper takes the context it was handed.
        unsafe { bpf_get_netns_cookie(self.addr.cast()) }
    }

    #[inline(always)]
    fn is_elsewhere(self, config: &Config) -> bool {
        config.netns != 0 && self.netns() != config.netns
    }
}

/// A socket is made: it goes past a VPN that has the default route, until it connects to somebody of the VPN's. One of a scope by
/// which neither connections nor datagrams are had takes the VPN from the start.
#[inline(always)]
pub fn created(sock: *mut bpf_sock) {
    const DATAGRAMS: u32 = 2;
    const RAW: u32 = 3;
    let Ok(config) = config() else { return };
    let scope = processes::current(config);
    if config.bypass == 0 && scope.is_none() {
        return;
    }
    // SAFETY: the helper takes the context it was handed.
    if config.netns != 0 && unsafe { bpf_get_netns_cookie(sock.cast()) } != config.netns {
        if scope.is_some() {
            // SAFETY: likewise.
            processes::elsewhere(unsafe { bpf_get_socket_cookie(sock.cast()) });
        }
        return;
    }
    // SAFETY: the kernel hands the program a valid context.
    let (kind, protocol) = unsafe { ((*sock).type_, (*sock).protocol) };
    if scope.is_some_and(|scope| process::isolates(&scope.entry)) && kind == DATAGRAMS {
        // SAFETY: the helper takes the context it was handed.
        processes::is_made(unsafe { bpf_get_socket_cookie(sock.cast()) });
    }
    let mut mark = config.bypass;
    if let Some(ProcessScope { entry, .. }) = scope
        && entry.default == ScopeEntry::VPN
        && (kind == RAW || !matches!(protocol, TCP | UDP))
    {
        mark = config.vpn(entry.path).mark;
    }
    if mark != 0 {
        // SAFETY: likewise, and programs of this kind may write its mark.
        unsafe { (*sock).mark = (*sock).mark & !config.mask | mark };
    }
}

/// A socket connects over IPv4.
#[inline(always)]
pub fn connect4(sock: Sock) -> Result<Outcome, Outcome> {
    connect(sock, sock.remote4(), Sock::set_remote4)
}

/// A socket connects over IPv6, which may carry a mapped IPv4 address.
#[inline(always)]
pub fn connect6(sock: Sock) -> Result<Outcome, Outcome> {
    connect(sock, sock.remote6(), Sock::set_remote6)
}

/// A socket sends an unconnected datagram over IPv4.
#[inline(always)]
pub fn sendmsg4(sock: Sock) -> Result<Outcome, Outcome> {
    let maps = Maps { config: config()? };
    let Course { outcome, path } = datagram(sock, &maps, sock.remote4(), Sock::set_remote4)?;
    if outcome.action() != Action::Steer {
        return Ok(outcome);
    }
    let chosen = sock.may_take(maps.config, path)?;
    let vpn = u32::from_ne_bytes(chosen.v4);
    if vpn == 0 {
        return without_vpn(chosen);
    }
    // SAFETY: the kernel hands the program a valid context.
    let source = unsafe { (*sock.addr).msg_src_ip4 };
    if source != 0 && source != vpn {
        return Err(Outcome::BoundElsewhere);
    }
    // SAFETY: likewise, and the verifier checks that this field may be written.
    unsafe { (*sock.addr).msg_src_ip4 = vpn };
    Ok(outcome)
}

/// A socket sends an unconnected datagram over IPv6.
#[inline(always)]
pub fn sendmsg6(sock: Sock) -> Result<Outcome, Outcome> {
    let maps = Maps { config: config()? };
    let Course { outcome, path } = datagram(sock, &maps, sock.remote6(), Sock::set_remote6)?;
    if outcome.action() != Action::Steer {
        return Ok(outcome);
    }
    let chosen = sock.may_take(maps.config, path)?;
    let vpn = words(&chosen.v6);
    if vpn == [0; 4] {
        return without_vpn(chosen);
    }
    // SAFETY: the kernel hands the program a valid context.
    let source = unsafe { (*sock.addr).msg_src_ip6 };
    if source != [0; 4] && source != vpn {
        return Err(Outcome::BoundElsewhere);
    }
    // SAFETY: likewise, and the verifier checks that these fields may be written.
    unsafe {
        let field = &raw mut (*sock.addr).msg_src_ip6;
        (*field)[0] = vpn[0];
        (*field)[1] = vpn[1];
        (*field)[2] = vpn[2];
        (*field)[3] = vpn[3];
    }
    Ok(outcome)
}

/// A socket is given an answer over IPv4: it comes from whom it asked.
#[inline(always)]
pub fn recvmsg4(sock: Sock) {
    if may_be_led(sock)
        && let Some(asked) = processes::asked(sock.cookie(), sock.remote4())
    {
        sock.set_remote4(&asked);
    }
}

/// A socket is given an answer over IPv6, or over IPv4 with a mapped address.
#[inline(always)]
pub fn recvmsg6(sock: Sock) {
    if may_be_led(sock)
        && let Some(asked) = processes::asked(sock.cookie(), sock.remote6())
    {
        sock.set_remote6(&asked);
    }
}

#[inline(always)]
fn may_be_led(sock: Sock) -> bool {
    config().is_ok_and(|config| config.processes != 0) && sock.port().number() == dns::PORT
}

/// A socket connects: tells in which network namespace, if that was asked.
#[inline(always)]
pub fn tell_netns(sock: Sock) {
    if let Some(netns) = NETNS.get_ptr_mut(&sock.cookie()) {
        // SAFETY: an element of a map stays writable until the program ends, and only this socket's connect writes it.
        unsafe { *netns = sock.netns() };
    }
}

#[inline(always)]
fn connect(sock: Sock, remote: Address, lead: impl Fn(Sock, &Address)) -> Result<Outcome, Outcome> {
    let config = config()?;
    let scope = processes::current(config);
    if sock.is_elsewhere(config) {
        return passes_a_bridge(sock, scope);
    }
    if sock.protocol() == TCP {
        hellos::connects(sock.cookie(), sock.port());
    }
    let maps = Maps { config };
    let before = sock.mark();
    let others = before & !config.mask;
    if let Some(resolver) = led(sock, scope, &remote)? {
        let mark = config.vpn(entry(scope).path).mark;
        if mark == 0 || !sock.set_mark(others | mark) {
            return Err(Outcome::NotMarked);
        }
        lead(sock, &resolver);
        return Ok(Outcome::Begun);
    }
    let scope = entry(scope);
    let (matched, Course { outcome, path }) = process::toward(&maps, &scope, &remote, sock.port());
    if outcome == Outcome::Refused {
        maps.refuse(&flow(sock, remote), &matched, 0);
    }
    if outcome.action() == Action::Drop {
        return Err(outcome);
    }
    if path.is_vpn() {
        let mark = config.vpn(path).mark;
        if mark == 0 || !sock.set_mark(others | mark) {
            return Err(Outcome::NotMarked);
        }
        let by_default = process::by_default(&scope, &matched);
        maps.tell(&flow(sock, remote), &matched, path, by_default);
        return Ok(outcome);
    }
    if process::isolates(&scope) && outcome == Outcome::Direct {
        let key = process::connected(sock.cookie(), sock.protocol(), remote, sock.port());
        if !maps.hold(&key, path) {
            return Err(Outcome::FlowsFull);
        }
    }
    if sock.protocol() == UDP && matched.verdict == Verdict::NONE {
        initials::begins(&FlowKey::of_datagrams(sock.cookie(), remote, sock.port()));
    }
    // A datagram socket may connect again, to another place; and one may be older than the VPN's default route.
    let direct = others | config.bypass;
    if before != direct && !sock.set_mark(direct) && config.by_mark(before).is_vpn() {
        return Err(Outcome::NotMarked);
    }
    Ok(outcome)
}

#[inline(always)]
fn datagram(
    sock: Sock,
    maps: &Maps,
    remote: Address,
    lead: impl Fn(Sock, &Address),
) -> Result<Course, Outcome> {
    let scope = processes::current(maps.config);
    if sock.is_elsewhere(maps.config) {
        return passes_a_bridge(sock, scope).map(Course::from);
    }
    if let Some(resolver) = led(sock, scope, &remote)? {
        lead(sock, &resolver);
        return Ok(Course {
            outcome: Outcome::Stateless,
            path: entry(scope).path,
        });
    }
    let key = FlowKey::of_datagrams(sock.cookie(), remote, sock.port());
    let course = process::datagram(maps, &entry(scope), &key);
    if course.outcome.action() == Action::Drop {
        return Err(course.outcome);
    }
    if course.outcome == Outcome::Unmatched {
        initials::begins(&key);
    }
    Ok(course)
}

/// What is said of somebody in no scope, too.
#[inline(always)]
fn entry(scope: Option<&ProcessScope>) -> ScopeEntry {
    scope.map_or(ScopeEntry::NONE, |scope| scope.entry)
}

/// A socket in another network namespace, whose packets are judged there.
#[inline(always)]
fn passes_a_bridge(sock: Sock, scope: Option<&ProcessScope>) -> Result<Outcome, Outcome> {
    if scope.is_some() {
        processes::elsewhere(sock.cookie());
    } else {
        relay::elsewhere(sock.cookie(), sock.port());
    }
    Ok(Outcome::OtherNetns)
}

/// The resolver that a question goes to instead, if it is one that is led; an error if there is none of its family.
#[inline(always)]
fn led(
    sock: Sock,
    scope: Option<&ProcessScope>,
    asked: &Address,
) -> Result<Option<Address>, Outcome> {
    let Some(scope) = scope.filter(|scope| process::is_led(&scope.entry, sock.port())) else {
        return Ok(None);
    };
    let resolver = scope.resolver(asked).ok_or(Outcome::Isolated)?;
    processes::led(sock.cookie(), asked, resolver)?;
    Ok(Some(resolver))
}

#[inline(always)]
fn flow(sock: Sock, remote: Address) -> FlowKey {
    FlowKey {
        origin: sock.cookie(),
        local: Address::default(),
        remote,
        local_port: Port::default(),
        remote_port: sock.port(),
        protocol: sock.protocol(),
    }
}

#[inline(always)]
fn without_vpn(vpn: &Vpn) -> Result<Outcome, Outcome> {
    if vpn.open != 0 {
        Ok(Outcome::Left)
    } else {
        Err(Outcome::NoVpn)
    }
}

#[inline(always)]
fn words(octets: &[u8; 16]) -> [u32; 4] {
    core::array::from_fn(|i| {
        u32::from_ne_bytes([
            octets[4 * i],
            octets[4 * i + 1],
            octets[4 * i + 2],
            octets[4 * i + 3],
        ])
    })
}
