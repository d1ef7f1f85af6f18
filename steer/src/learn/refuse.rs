//! Answers what a rule blocks of a container's, in the far side's name, so that its client fails at once rather than waits:
//! a reset to what begins a TCP connection, and ICMP's "administratively prohibited" to a datagram. A process needs none: the
//! kernel refuses its call.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use steer_common::packet::{TCP, UDP};

use super::raw::{self, RawSockets};

/// Most answers within a second; whoever sends faster waits for his own timeout.
const MOST: u32 = 1_000;

/// Why somebody was not told that he is refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell {to} that it may not reach {remote}; its client fails when it gives up")]
pub struct Error {
    /// Who began.
    to: SocketAddr,
    /// Whom it is blocked from.
    remote: SocketAddr,
    /// Why.
    #[source]
    source: raw::Error,
}

/// Answers in the network namespace in which it is first used.
#[derive(Debug, Default)]
pub struct Refusals {
    raw: RawSockets,
    /// When the second began in which that many were answered.
    lately: Option<(Instant, u32)>,
}

impl Refusals {
    /// Nothing is opened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells who began a flow that it goes nowhere; `sequence` is that of a TCP segment. Whether there is an answer of that
    /// protocol, and room for it.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn answer(
        &mut self,
        protocol: u32,
        local: SocketAddr,
        remote: SocketAddr,
        sequence: u32,
    ) -> Result<bool, Error> {
        let packet = match protocol {
            TCP => raw::tcp_reset(remote, local, 0, sequence.wrapping_add(1)),
            UDP => prohibited(local, remote),
            _ => None,
        };
        let Some(packet) = packet.filter(|_| self.is_room(Instant::now())) else {
            return Ok(false);
        };
        let sent = self.raw.send(&packet, 0);
        sent.map(|()| true).map_err(|source| Error {
            to: local,
            remote,
            source,
        })
    }

    fn is_room(&mut self, now: Instant) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        let lately = self.lately.filter(|(begun, _)| now - *begun < SECOND);
        let (begun, count) = lately.unwrap_or((now, 0));
        self.lately = Some((begun, count + 1));
        count < MOST
    }
}

/// The error about a datagram that may not go on (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1), which quotes its headers as
/// far as its sender looks at them; `None` where the ends are not of one family.
fn prohibited(local: SocketAddr, remote: SocketAddr) -> Option<Vec<u8>> {
    const UDP: u8 = steer_common::packet::UDP as u8;
    const CHECKSUM: usize = 2;
    let mut datagram = Vec::with_capacity(8);
    datagram.extend(local.port().to_be_bytes());
    datagram.extend(remote.port().to_be_bytes());
    datagram.extend([0, 8, 0, 0]);
    let mut quoted = raw::ip_packet(local.ip(), remote.ip(), UDP, &datagram)?;
    let (protocol, kind, code) = if local.is_ipv4() {
        const HEADER_CHECKSUM: usize = 10;
        // That of the quoted header nobody else fills in.
        let sum = raw::sum(&quoted[..20]);
        quoted[HEADER_CHECKSUM..HEADER_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        (1, 3, 13)
    } else {
        (58, 1, 1)
    };
    let mut error = vec![kind, code, 0, 0, 0, 0, 0, 0];
    error.extend(quoted);
    let sum = match local.ip() {
        IpAddr::V4(_) => raw::sum(&error),
        IpAddr::V6(_) => raw::checksum(remote.ip(), local.ip(), protocol, &error),
    };
    error[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    raw::ip_packet(remote.ip(), local.ip(), protocol, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_the_datagram_and_has_its_checksums() {
        for (local, remote, header, is) in [
            ("192.0.2.2:40000", "203.0.113.7:443", 20, [3, 13]),
            ("[2001:db8::2]:40000", "[2001:db8:1::7]:443", 40, [1, 1]),
        ] {
            let [local, remote]: [SocketAddr; 2] = [local, remote].map(|end| end.parse().unwrap());
            let packet = prohibited(local, remote).unwrap();
            let error = &packet[header..];
            assert_eq!(error[..2], is);
            let ports = &error[8 + header..8 + header + 4];
            let octets = [local.port().to_be_bytes(), remote.port().to_be_bytes()];
            assert_eq!(ports, octets.concat());
            // The sum over what has its sum in it is zero.
            let sum = match local.ip() {
                IpAddr::V4(_) => raw::sum(error),
                IpAddr::V6(_) => raw::checksum(remote.ip(), local.ip(), 58, error),
            };
            assert_eq!(sum, 0);
            if local.is_ipv4() {
                assert_eq!(raw::sum(&error[8..28]), 0);
            }
        }
        let mixed = ["192.0.2.2:1", "[2001:db8::1]:2"].map(|end| end.parse().unwrap());
        assert_eq!(prohibited(mixed[0], mixed[1]), None);
    }

    #[test]
    fn nobody_has_more_answers_than_a_second_has_room_for() {
        let mut refusals = Refusals::new();
        let now = Instant::now();
        let answered = (0..2 * MOST).filter(|_| refusals.is_room(now)).count();
        assert_eq!(answered, MOST as usize);
        assert!(refusals.is_room(now + Duration::from_secs(1)));
    }
}
