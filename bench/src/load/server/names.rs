//! A name server: `nNUMBER….ZONE` has the address with that number, and the lab's hosts have theirs.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use steer_tests::lab::plan::HOSTS;

use super::{BLOCKED, OPEN, RESOLVER, address};
use crate::load::wire;

/// Its socket.
pub fn bind() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((RESOLVER, 53))
        .with_context(|| format!("cannot serve names at {RESOLVER}"))?;
    setsockopt(&socket, RcvBufForce, &(8 << 20))?;
    Ok(socket)
}

/// Answers for good.
pub fn answer(socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((len, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Some((name, v4)) = wire::asked(&buffer[..len]) else {
            continue;
        };
        let found: Vec<_> = found(&name).filter(|_| v4).into_iter().collect();
        if let Some(answer) = wire::answer(&buffer[..len], &found) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

fn found(name: &str) -> Option<Ipv4Addr> {
    if let Some(host) = HOSTS.iter().find(|host| host.name == name && host.v4) {
        return Some(host.range.host_v4(host.host));
    }
    let (label, zone) = name.split_once('.')?;
    let zone = [OPEN, BLOCKED].into_iter().find(|it| *it == zone)?;
    let digits = label.strip_prefix('n')?;
    let number = digits.split('-').next()?.parse().ok()?;
    Some(address(zone, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_addresses_of_their_zone() {
        assert_eq!(found("n1.open.example"), Some([10, 200, 0, 1].into()));
        assert_eq!(
            found("n250-7-1.blocked.example"),
            Some([10, 200, 1, 250].into())
        );
        assert_eq!(found("n251.blocked.example"), Some([10, 200, 1, 1].into()));
        assert_eq!(found("registry-1.docker.io"), Some([192, 0, 2, 10].into()));
        assert_eq!(found("n1.elsewhere.example"), None);
    }
}
