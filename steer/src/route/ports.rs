//! Ports of the VPN's address that are forwarded to containers.
//!
//! The kernel gives such a connection another destination before anybody else's rules see it, and to its answers the
//! source that was asked. Who asks stays as it is, so the container sees the client's address.

use std::{fmt, net::IpAddr};

use nftables::{
    expr::{Expression, FibFlag, MetaKey},
    stmt::{Operator, Statement},
};

use super::{
    expression::{compared, dnat, field, of_interface, to_the_host},
    plan::VpnId,
};

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Protocol {
    /// Its name in rules.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A port of a VPN's addresses, of the family that `to` has, and the container that answers there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// Protocol of both ports.
    pub protocol: Protocol,
    /// Port of the VPN's address.
    pub port: u16,
    /// Address of the container.
    pub to: IpAddr,
    /// Port of the container.
    pub to_port: u16,
    /// Name of the bridge that the container is behind.
    pub bridge: String,
    /// The VPN.
    pub vpn: VpnId,
}

impl Forward {
    /// What comes by the VPN to one of its addresses at that port goes to the container.
    pub(super) fn rule(&self, vpn: &str) -> Vec<Statement<'static>> {
        let port = field(self.protocol.name(), "dport");
        vec![
            of_interface(MetaKey::Iifname, vpn),
            to_the_host(Operator::EQ, [FibFlag::Daddr, FibFlag::Iif]),
            compared(port, Operator::EQ, Expression::Number(self.port.into())),
            dnat(self.to, Some(self.to_port)),
        ]
    }
}
