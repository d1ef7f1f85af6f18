//! Ports that a VPN's gateway assigns, by the NAT Port Mapping Protocol (NAT-PMP, RFC 6886): the messages.

mod client;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

pub use client::{Error, Gateway, Keeper, News};

use crate::{host::Link, route::Protocol};

/// Where a gateway listens.
pub const PORT: u16 = 5351;
/// The protocol's version.
const VERSION: u8 = 0;
/// In an answer, beside the number of what was asked.
const ANSWER: u8 = 0x80;

/// A mapping that is asked for (section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The protocol of both ports.
    pub protocol: Protocol,
    /// The port that the gateway is to send to.
    pub internal: u16,
    /// The port that is to be assigned, if it can be; zero for any.
    pub external: u16,
    /// For how many seconds; zero to give it back.
    pub lifetime: u32,
}

/// A mapping that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The port that the gateway sends to.
    pub internal: u16,
    /// The port that is assigned.
    pub external: u16,
    /// For how many seconds.
    pub lifetime: u32,
    /// Seconds since the gateway began to remember mappings.
    pub epoch: u32,
}

/// Why a mapping was not granted (section 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It speaks another version.
    #[error("it speaks another version of the protocol")]
    Version,
    /// It may, and does not.
    #[error(
        "it assigns no ports to this client; see whether port forwarding is on at the provider"
    )]
    NotAuthorized,
    /// It has no address itself.
    #[error("it has no address of its own")]
    Network,
    /// No port is left.
    #[error("it has no port left")]
    Resources,
    /// It does not know the request.
    #[error("it does not assign ports of this protocol")]
    Unsupported,
    /// It gave a number that means nothing.
    #[error("it refuses with the code {0}")]
    Other(u16),
}

impl Refusal {
    fn of(code: u16) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::Version,
            2 => Self::NotAuthorized,
            3 => Self::Network,
            4 => Self::Resources,
            5 => Self::Unsupported,
            other => Self::Other(other),
        })
    }
}

/// The question for a gateway's own address (section 3.2), which has it assign nothing.
pub const WHO: [u8; 2] = [VERSION, 0];

/// Reads the answer to [`WHO`]; `None` if these octets are none.
pub fn who_answers(octets: &[u8]) -> Option<Result<(), Refusal>> {
    let [_, code, result @ ..] = *octets.first_chunk::<4>()?;
    let refusal = Refusal::of(u16::from_be_bytes(result));
    (code == ANSWER | WHO[1]).then(|| refusal.map_or(Ok(()), Err))
}

/// The gateway as the interface's network tells it: the other end, or the first address; of an address that is alone, the first
/// of the 256 around it.
pub fn by_network(link: &Link, own: Ipv4Addr) -> Option<Ipv4Addr> {
    let networks = link.networks.iter().filter_map(|net| match net.address() {
        IpAddr::V4(first) => Some((first, net.prefix())),
        IpAddr::V6(_) => None,
    });
    let first = |(address, prefix): (Ipv4Addr, u8)| match prefix {
        32 if address != own => address,
        31 => Ipv4Addr::from(u32::from(own) ^ 1),
        32 => Ipv4Addr::from(u32::from(own) & !0xff | 1),
        _ => Ipv4Addr::from(u32::from(address) | 1),
    };
    networks.map(first).find(|address| *address != own)
}

impl Request {
    /// Octets of it.
    pub fn encode(&self) -> [u8; 12] {
        let [a, b] = self.internal.to_be_bytes();
        let [c, d] = self.external.to_be_bytes();
        let [e, f, g, h] = self.lifetime.to_be_bytes();
        [VERSION, self.code(), 0, 0, a, b, c, d, e, f, g, h]
    }

    /// Reads the answer to it; `None` if these octets are none.
    pub fn answer(&self, octets: &[u8]) -> Option<Result<Granted, Refusal>> {
        let [version, code, result @ ..] = *octets.first_chunk::<4>()?;
        let refusal = Refusal::of(u16::from_be_bytes(result));
        // Who speaks another version answers in that.
        let is_other = refusal == Some(Refusal::Version);
        if code != ANSWER | self.code() || (version != VERSION && !is_other) {
            return None;
        }
        if let Some(refusal) = refusal {
            return Some(Err(refusal));
        }
        let short = |at: usize| Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u32::from_be_bytes(*octets.get(at..)?.first_chunk()?));
        let granted = Granted {
            epoch: long(4)?,
            internal: short(8)?,
            external: short(10)?,
            lifetime: long(12)?,
        };
        // Some gateways say zero, and send to the port that they assign.
        let is_mine = granted.internal == self.internal || granted.internal == 0;
        let is_given = granted.external != 0 || self.lifetime == 0;
        (is_mine && is_given).then_some(Ok(granted))
    }

    fn code(&self) -> u8 {
        match self.protocol {
            Protocol::Udp => 1,
            Protocol::Tcp => 2,
        }
    }
}
