//! IP packets made whole by hand, and sent as they are.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    setsockopt, socket, sockopt,
};

/// Why a packet was not sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel gave no socket.
    #[error(
        "cannot open a raw socket for packets to {to}: run steer as root or with CAP_NET_RAW and CAP_NET_ADMIN"
    )]
    Open {
        /// Whom the packet is for.
        to: IpAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel did not take it.
    #[error("cannot send a packet of {size} octets to {to} with the mark {mark:#x}")]
    Send {
        /// Whom it is for.
        to: IpAddr,
        /// Its octets.
        size: usize,
        /// Its mark.
        mark: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is no packet.
    #[error("{size} octets that are no IPv4 or IPv6 packet cannot be sent")]
    NoPacket {
        /// How many.
        size: usize,
    },
}

/// Raw sockets of the network namespace in which they are first used.
#[derive(Debug, Default)]
pub struct RawSockets {
    v4: Option<Marked>,
    v6: Option<Marked>,
}

#[derive(Debug)]
struct Marked {
    socket: OwnedFd,
    mark: u32,
}

impl RawSockets {
    /// None yet: each is opened when it is first needed, for a host may have no IPv6.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a packet, from its IP header on, with a mark, wherever it says that it comes from. It goes as one of the
    /// host's own: through `OUTPUT` and `POSTROUTING`, not through `FORWARD`.
    ///
    /// # Errors
    /// When the socket cannot be had, or the kernel does not take the packet.
    pub fn send(&mut self, packet: &[u8], mark: u32) -> Result<(), Error> {
        let size = packet.len();
        let to = destination(packet).ok_or(Error::NoPacket { size })?;
        let open = |source: nix::Error| Error::Open {
            to,
            source: source.into(),
        };
        let slot = if to.is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        };
        let marked = match slot {
            Some(marked) => marked,
            None => slot.insert(Marked {
                socket: raw_socket(to).map_err(open)?,
                mark: 0,
            }),
        };
        if marked.mark != mark {
            setsockopt(&marked.socket, sockopt::Mark, &mark).map_err(open)?;
            marked.mark = mark;
        }
        let fd = marked.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = match to {
            IpAddr::V4(v4) => {
                let to = SockaddrIn::from(SocketAddrV4::new(v4, 0));
                sendto(fd, packet, &to, flags)
            }
            IpAddr::V6(v6) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(v6, 0, 0, 0));
                sendto(fd, packet, &to, flags)
            }
        };
        sent.map(drop).map_err(|source| Error::Send {
            to,
            size,
            mark,
            source: source.into(),
        })
    }
}

/// IPPROTO_RAW: what is sent has its IP header (raw(7)), in IPv6 as well.
fn raw_socket(to: IpAddr) -> nix::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::Raw,
    )
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet
            .get(16..20)?
            .first_chunk::<4>()
            .map(|octets| IpAddr::from(*octets)),
        6 => packet
            .get(24..40)?
            .first_chunk::<16>()
            .map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

/// An IP packet around a segment or datagram, whose checksum is left to [`checksum`]. The kernel fills in the checksum
/// of an IPv4 header (raw(7)). `None` where the addresses are not of one family.
pub(crate) fn ip_packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Option<Vec<u8>> {
    const HOPS: u8 = 64;
    let size = u16::try_from(payload.len()).ok()?;
    let mut packet = Vec::with_capacity(40 + payload.len());
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            const DO_NOT_FRAGMENT: u16 = 0x4000;
            packet.extend([0x45, 0]);
            packet.extend(size.checked_add(20)?.to_be_bytes());
            packet.extend([0, 0]);
            packet.extend(DO_NOT_FRAGMENT.to_be_bytes());
            packet.extend([HOPS, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(size.to_be_bytes());
            packet.extend([protocol, HOPS]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        _ => return None,
    }
    packet.extend(payload);
    Some(packet)
}

/// The checksum of a segment or datagram (RFC 9293 section 3.1, RFC 8200 section 8.1), of which the field itself is
/// zero.
pub(crate) fn checksum(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    let mut sum = u64::from(protocol) + payload.len() as u64;
    for address in [from, to] {
        sum += match address {
            IpAddr::V4(address) => words(&address.octets()),
            IpAddr::V6(address) => words(&address.octets()),
        };
    }
    sum += words(payload);
    folded(sum)
}

/// The checksum of an IPv4 header (RFC 791), of which the field itself is zero.
pub(super) fn sum(header: &[u8]) -> u16 {
    folded(words(header))
}

fn folded(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn words(octets: &[u8]) -> u64 {
    octets
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&octet| octet.into()))
        .sum()
}

/// A TCP segment without payload in an IP packet; `None` where the ends are not of one family.
pub(super) fn tcp_reset(
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    acknowledgment: u32,
) -> Option<Vec<u8>> {
    const TCP: u8 = steer_common::packet::TCP as u8;
    const WORDS: u8 = 5 << 4;
    const RESET_AND_ACKNOWLEDGE: u8 = 0x14;
    const CHECKSUM: usize = 16;
    let mut segment = Vec::with_capacity(20);
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgment.to_be_bytes());
    segment.extend([WORDS, RESET_AND_ACKNOWLEDGE, 0, 0, 0, 0, 0, 0]);
    let sum = checksum(from.ip(), to.ip(), TCP, &segment);
    segment[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    ip_packet(from.ip(), to.ip(), TCP, &segment)
}
