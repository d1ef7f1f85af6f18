//! One echo request through the VPN, to its own far end.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
        setsockopt, socket, sockopt,
    },
    time::TimeVal,
};

use crate::{
    doctor::facts::{Echo, Looked},
    route::Vpn,
    rules::Net,
};

const PATIENCE: Duration = Duration::from_secs(1);
const REQUEST: u8 = 8;
const REPLY: u8 = 0;
/// What the request carries, by which its answer is known.
const WORD: [u8; 12] = *b"steer doctor";

/// Whom to ask: a gateway of a route through it, else the first address of a network that it is on.
pub(super) fn target(
    vpn: &Vpn,
    gateways: impl IntoIterator<Item = IpAddr>,
    networks: &[Net],
) -> Option<Ipv4Addr> {
    let v4 = |address| match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    };
    if let Some(gateway) = gateways.into_iter().find_map(v4) {
        return Some(gateway);
    }
    networks.iter().find_map(|net| {
        let first = v4(net.address())?;
        // On a point-to-point link the one address is the far end's.
        let first = match net.prefix() {
            32 => first,
            ..=30 => Ipv4Addr::from_bits(first.to_bits() + 1),
            _ => return None,
        };
        (!vpn.v4.contains(&first)).then_some(first)
    })
}

/// Asks, and waits a second.
pub(super) async fn ask(interface: &str, target: Ipv4Addr) -> Looked<Echo> {
    let interface = interface.to_owned();
    let asked = tokio::task::spawn_blocking(move || exchange(&interface, target));
    let asked = asked.await.unwrap_or_else(|error| Err(error.into()));
    match asked {
        Ok(true) => Ok(Echo::Answered(target.into())),
        Ok(false) => Ok(Echo::Silent(target.into())),
        Err(error) => Err(format!("cannot send an echo request to {target}: {error}")),
    }
}

fn exchange(interface: &str, target: Ipv4Addr) -> io::Result<bool> {
    let socket = open()?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    let address = SockaddrIn::from(std::net::SocketAddrV4::new(target, 0));
    sendto(socket.as_raw_fd(), &request(), &address, MsgFlags::empty())?;
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1);
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(micros / 1_000_000, micros % 1_000_000),
        )?;
        let mut buffer = [0; 256];
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) if is_answer(&buffer[..length]) => return Ok(true),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// One that root alone may open, else one that whoever is allowed to ping may.
fn open() -> nix::Result<OwnedFd> {
    let of = |kind| {
        socket(
            AddressFamily::Inet,
            kind,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Icmp,
        )
    };
    of(SockType::Raw).or_else(|_| of(SockType::Datagram))
}

fn request() -> Vec<u8> {
    let mut message = vec![REQUEST, 0, 0, 0, 0, 0, 0, 1];
    let id = std::process::id().to_be_bytes();
    message[4..6].copy_from_slice(&id[2..]);
    message.extend(WORD);
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// RFC 1071, of an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// With the header of IPv4 before it, or without, by the kind of socket.
fn is_answer(octets: &[u8]) -> bool {
    let begin = match octets.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 15) * 4,
        _ => 0,
    };
    octets.get(begin) == Some(&REPLY) && octets.ends_with(&WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::IfIndex;

    #[test]
    fn the_far_end_is_asked() {
        let vpn = Vpn {
            name: "tun0".to_owned(),
            index: IfIndex(4),
            up: true,
            v4: vec!["10.8.0.2".parse().unwrap()],
            v6: vec![],
        };
        let net = |text: &str| text.parse::<Net>().unwrap();
        let address = |text: &str| Some(text.parse::<Ipv4Addr>().unwrap());
        let gateway = "10.8.0.5".parse().unwrap();
        assert_eq!(target(&vpn, [gateway], &[]), address("10.8.0.5"));
        assert_eq!(
            target(&vpn, [], &[net("fd00::/64"), net("10.8.0.0/24")]),
            address("10.8.0.1")
        );
        assert_eq!(target(&vpn, [], &[net("10.8.0.9/32")]), address("10.8.0.9"));
        assert_eq!(target(&vpn, [], &[net("10.8.0.2/32")]), None);
    }

    #[test]
    fn a_request_adds_up_and_its_answer_is_known() {
        let mut message = request();
        assert_eq!(checksum(&message), 0);
        assert!(!is_answer(&message));
        message[0] = REPLY;
        assert!(is_answer(&message));
        let mut framed = vec![0x45; 20];
        framed.extend(&message);
        assert!(is_answer(&framed));
    }
}
