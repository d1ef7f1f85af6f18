//! steer's kernel programs: they load, call `steer-common`, and act on what it says.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    reason = "the entry points are found by name, not by documentation"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, keys would be copied on a stack of 512 bytes"
)]

mod hellos;
mod initials;
mod lessons;
mod maps;
mod names;
mod pieces;
mod processes;
mod reenter;
mod relay;
mod scopes;
mod skb;
mod sockets;
mod tables;
mod turns;
mod usage;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, classifier},
    programs::{SkBuffContext, SockAddrContext, SockContext, TcContext},
};
use aya_log_ebpf::{debug, warn};
use steer_common::{
    decide::{self, Course},
    packet::{Packet, UDP},
    stats::{Action, Outcome},
    types::{Config, FlowKey, Path},
    usage::Way,
};

use crate::{
    maps::{Slot, config, count},
    skb::Skb,
    sockets::Sock,
    tables::Maps,
};

/// Says what became of a packet, by the number of its outcome ([`Outcome`]); without a level the verifier removes it.
macro_rules! log {
    ($ctx:expr, $what:literal, $outcome:expr) => {
        if $outcome.action() as u32 == Action::Drop as u32 {
            warn!($ctx, "{}: stopped, outcome {}", $what, $outcome as u32);
        } else {
            debug!($ctx, "{}: outcome {}", $what, $outcome as u32);
        }
    };
}

/// `lo` has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// A packet from a cgroup is dropped, as if by a network in need of rest: its sender is told of no failure.
const HELD: i32 = 2;

/// A container sends.
#[classifier]
pub fn bridge_ingress(ctx: TcContext) -> i32 {
    let Ok(config) = config() else {
        return DROP;
    };
    let (Ok(course) | Err(course)) = match Skb::of_bridge(ctx.skb.skb) {
        Some(skb) => from_container(skb, config).map_err(Course::from),
        None => Err(Outcome::NotIp.into()),
    };
    log!(&ctx, "from a container", course.outcome);
    count(course.outcome);
    lead(&ctx, config, course)
}

/// A container receives.
#[classifier]
pub fn bridge_egress(ctx: TcContext) -> i32 {
    let outcome = match Skb::of_bridge(ctx.skb.skb) {
        Some(skb) => to_container(skb).unwrap_or_else(|outcome| outcome),
        None => Outcome::NotIp,
    };
    log!(&ctx, "to a container", outcome);
    count(outcome);
    match outcome.action() {
        Action::Pass | Action::Steer => NEXT,
        Action::Drop => DROP,
    }
}

/// A process sends.
#[cgroup_skb(egress)]
pub fn cgroup_egress(ctx: SkBuffContext) -> i32 {
    let outcome = from_process(Skb::of_cgroup(ctx.skb.skb)).unwrap_or_else(|outcome| outcome);
    log!(&ctx, "from a process", outcome);
    if matches!(outcome, Outcome::InitialHeld | Outcome::Relayed) {
        count(outcome);
        return HELD;
    }
    allow(outcome)
}

/// A process receives.
#[cgroup_skb(ingress)]
pub fn cgroup_ingress(ctx: SkBuffContext) -> i32 {
    let outcome = to_process(Skb::of_cgroup(ctx.skb.skb)).unwrap_or_else(|outcome| outcome);
    log!(&ctx, "to a process", outcome);
    allow(outcome)
}

/// A process makes a socket.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    sockets::created(ctx.sock);
    1
}

/// A process connects over IPv4.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let outcome = sockets::connect4(Sock::new(ctx.sock_addr)).unwrap_or_else(|outcome| outcome);
    log!(&ctx, "connect4", outcome);
    allow(outcome)
}

/// A process connects over IPv6.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let outcome = sockets::connect6(Sock::new(ctx.sock_addr)).unwrap_or_else(|outcome| outcome);
    log!(&ctx, "connect6", outcome);
    allow(outcome)
}

/// A process connects over IPv4, while user space asks for its network namespace.
#[cgroup_sock_addr(connect4)]
pub fn netns(ctx: SockAddrContext) -> i32 {
    sockets::tell_netns(Sock::new(ctx.sock_addr));
    1
}

/// A process sends an unconnected datagram over IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let outcome = sockets::sendmsg4(Sock::new(ctx.sock_addr)).unwrap_or_else(|outcome| outcome);
    log!(&ctx, "sendmsg4", outcome);
    allow(outcome)
}

/// A process sends an unconnected datagram over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let outcome = sockets::sendmsg6(Sock::new(ctx.sock_addr)).unwrap_or_else(|outcome| outcome);
    log!(&ctx, "sendmsg6", outcome);
    allow(outcome)
}

/// A process is given what came to it over IPv4.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    sockets::recvmsg4(Sock::new(ctx.sock_addr));
    1
}

/// A process is given what came to it over IPv6.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    sockets::recvmsg6(Sock::new(ctx.sock_addr));
    1
}

#[inline(always)]
fn from_container(skb: Skb, config: &'static Config) -> Result<Course, Outcome> {
    let scratch = skb.read_packet(Slot::SOFTIRQ)?;
    let packet = &scratch.packet;
    let origin = || u64::from(skb.ifindex());
    names::questions(skb, Slot::SOFTIRQ, packet, origin)?;
    let course = match decide::going_on(&Maps { config }, origin(), packet) {
        Some(course) => course,
        None => {
            outgoing(skb.ifindex());
            Slot::SOFTIRQ.told()?
        }
    };
    let outcome = course.outcome;
    if outcome == Outcome::ScopeUnknown {
        scopes::keep(skb, Slot::SOFTIRQ);
        return Ok(course);
    }
    let by_vpn = outcome.action() == Action::Steer;
    hellos::see(skb, Slot::SOFTIRQ, packet, config, origin, by_vpn)?;
    let looked_at = match outcome {
        Outcome::Unmatched | Outcome::Left => true,
        _ => by_vpn && config.blocks != 0,
    };
    if looked_at {
        let first = matches!(outcome, Outcome::Unmatched | Outcome::Begun);
        initials::see(skb, Slot::SOFTIRQ, packet, origin, first, by_vpn)?;
    }
    if outcome.action() != Action::Drop {
        let way = Way {
            bridge: skb.ifindex(),
            path: course.path,
            came: 0,
        };
        usage::account(skb, Slot::SOFTIRQ, scratch, config, way);
    }
    Ok(course)
}

/// Judges the packet at hand, which came from behind a bridge; [`Slot::told`] has its course.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn outgoing(bridge: u32) -> u32 {
    Slot::SOFTIRQ.tell(judge(bridge))
}

#[inline(always)]
fn judge(bridge: u32) -> Result<Course, Outcome> {
    let config = config()?;
    let packet = &Slot::SOFTIRQ.scratch()?.packet;
    Ok(decide::judged(&Maps { config }, u64::from(bridge), packet))
}

#[inline(always)]
fn to_container(skb: Skb) -> Result<Outcome, Outcome> {
    let config = config()?;
    let scratch = skb.read_packet(Slot::SOFTIRQ)?;
    let packet = &scratch.packet;
    let origin = || u64::from(skb.ifindex());
    let path = config.by_interface(skb.ingress_ifindex());
    let answers = names::answers(skb, Slot::SOFTIRQ, packet, origin)?;
    let is_answer = answers && packet.protocol == UDP;
    let mut outcome = Outcome::Left;
    if !is_answer && decide::is_noted(&Maps { config }, packet, path) {
        incoming(skb.ifindex(), skb.ingress_ifindex());
        outcome = Slot::SOFTIRQ.told()?.outcome;
    }
    if outcome.action() != Action::Drop {
        let way = Way {
            bridge: skb.ifindex(),
            path,
            came: 1,
        };
        usage::account(skb, Slot::SOFTIRQ, scratch, config, way);
    }
    Ok(outcome)
}

/// Notes the flow of the packet at hand, which came by an interface for one behind a bridge; [`Slot::told`] has the outcome.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn incoming(bridge: u32, interface: u32) -> u32 {
    Slot::SOFTIRQ.tell(note(bridge, interface).map(Course::from))
}

#[inline(always)]
fn note(bridge: u32, interface: u32) -> Result<Outcome, Outcome> {
    let config = config()?;
    let path = config.came_by(interface);
    let packet = &Slot::SOFTIRQ.scratch()?.packet;
    let noted = decide::incoming(&Maps { config }, u64::from(bridge), packet, path);
    Ok(noted.unwrap_or(Outcome::Left))
}

#[inline(always)]
fn from_process(skb: Skb) -> Result<Outcome, Outcome> {
    let config = config()?;
    Slot::with_task(|slot| {
        let scratch = skb.read_packet(slot)?;
        let packet = &scratch.packet;
        let cookie = || skb.cookie();
        names::questions(skb, slot, packet, cookie)?;
        if strays(skb, packet, config) {
            return Err(Outcome::WrongPath);
        }
        processes::leaves(skb, slot, config)?;
        let by_vpn = config.by_mark(skb.mark()).is_vpn();
        hellos::see(skb, slot, packet, config, cookie, by_vpn)?;
        initials::see(skb, slot, packet, cookie, false, false)?;
        usage::account(skb, slot, scratch, config, of_process(skb, config, 0));
        Ok(Outcome::Left)
    })
}

#[inline(always)]
fn to_process(skb: Skb) -> Result<Outcome, Outcome> {
    let config = config()?;
    let scratch = skb.read_packet(Slot::SOFTIRQ)?;
    let packet = &scratch.packet;
    relay::at_embedded(skb, Slot::SOFTIRQ, packet, config)?;
    processes::comes(skb, Slot::SOFTIRQ, config)?;
    names::answers(skb, Slot::SOFTIRQ, packet, || skb.cookie())?;
    usage::account(
        skb,
        Slot::SOFTIRQ,
        scratch,
        config,
        of_process(skb, config, 1),
    );
    Ok(Outcome::Left)
}

/// The way of a process's packet, by the interface that it is on: unconnected datagrams have no mark.
#[inline(always)]
fn of_process(skb: Skb, config: &Config, came: u32) -> Way {
    Way {
        bridge: 0,
        path: config.by_interface(skb.ifindex()),
        came,
    }
}

/// Whether a packet that must take a VPN is about to leave by another interface.
#[inline(always)]
fn strays(skb: Skb, packet: &Packet, config: &Config) -> bool {
    let out = skb.ifindex();
    if out == LOOPBACK || config.netns == 0 {
        return false;
    }
    let must = match config.by_mark(skb.mark()) {
        Path::DIRECT => of_datagram(skb, packet, config),
        marked => marked,
    };
    let vpn = config.vpn(must);
    must.is_vpn() && out != vpn.ifindex && vpn.open == 0
}

/// The VPN that a process's packet without a mark must take, as an unconnected datagram.
#[inline(always)]
fn of_datagram(skb: Skb, packet: &Packet, config: &Config) -> Path {
    if packet.protocol != UDP || !config.by_address(&packet.source).is_vpn() {
        return Path::DIRECT;
    }
    let key = FlowKey::of_datagrams(skb.cookie(), packet.destination, packet.destination_port);
    match maps::FLOWS.get_ptr(&key) {
        // SAFETY: an element of a map stays readable until the program ends.
        Some(flow) => unsafe { (*flow).path },
        None => Path::DIRECT,
    }
}

/// Goes on to the next filter: `TC_ACT_UNSPEC`, which is `TCX_NEXT`.
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// Lets a packet of a container take its path. What goes direct goes past a VPN that has the default route.
#[inline(always)]
fn lead(ctx: &TcContext, config: &Config, course: Course) -> i32 {
    match course.outcome.action() {
        Action::Pass if config.bypass != 0 => mark(ctx, config, config.bypass),
        Action::Pass => {}
        Action::Steer => match config.vpn(course.path).mark {
            // There is no such VPN any more.
            0 => return DROP,
            vpn => mark(ctx, config, vpn),
        },
        Action::Drop => return DROP,
    }
    NEXT
}

#[inline(always)]
fn mark(ctx: &TcContext, config: &Config, value: u32) {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel hands the program a valid context, and classifiers may write its mark.
    unsafe { (*skb).mark = (*skb).mark & !config.mask | value };
}

#[inline(always)]
fn allow(outcome: Outcome) -> i32 {
    count(outcome);
    match outcome.action() {
        Action::Pass | Action::Steer => 1,
        Action::Drop => 0,
    }
}

/// The licence that the kernel checks before it lets a program call GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no panic is reachable; one that were would be a call, which the verifier refuses.
    unsafe { core::hint::unreachable_unchecked() }
}
