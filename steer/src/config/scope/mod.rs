//! Scopes: some containers or processes, and where all goes that they send and no rule speaks of.

mod judge;
#[cfg(test)]
mod tests;

pub(super) use judge::{dns, resolve};

use crate::origin::Origin;
use crate::pattern::Pattern;
use crate::route::{self, VpnId};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// How a port is written that the VPN's gateway assigns.
const NAT_PMP: &str = "nat-pmp";

/// Some containers or processes, and what holds for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Which they are.
    pub selector: Selector,
    /// The VPN of its default, and of rules that do not say which; none: the default one.
    pub vpn: Option<VpnId>,
    /// Where goes what no rule speaks of.
    pub default: Way,
    /// Who is asked every DNS question, through the VPN, the first before the others; none: whom they ask themselves.
    pub dns: Vec<IpAddr>,
    /// What comes in at the VPN's address for a container of the scope.
    pub forward: Vec<Forward>,
    /// What becomes of them when steer is stopped.
    pub on_stop: OnStop,
    /// Where the file has it.
    pub origin: Origin,
}

/// Which containers or processes a scope is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The containers on Docker's networks of these names, as far as they use them.
    Network(Pattern),
    /// The containers of these names.
    Container(Pattern),
    /// The containers with this label, and with this value of it where one is given.
    Label {
        /// The label's key.
        key: String,
        /// Its value; none for any.
        value: Option<String>,
    },
    /// The containers of this Compose project.
    Compose(String),
    /// The processes in this cgroup and below it.
    Cgroup(PathBuf),
}

/// Where goes what no rule speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Through the VPN, or nowhere while it is down.
    #[default]
    Vpn,
    /// Direct, as without a scope.
    Direct,
    /// Nowhere.
    Block,
}

/// A port of the VPN's address that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The protocol, of both.
    pub protocol: Protocol,
    /// Where at the VPN's address.
    pub at: At,
    /// The container, by its name or by that of its Compose service.
    pub container: String,
    /// The container's port.
    pub to: u16,
}

/// Where at the VPN's address something comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At this port.
    Port(u16),
    /// At whichever port the VPN's gateway assigns (NAT-PMP).
    NatPmp,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What becomes of a scope when steer is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStop {
    /// It stays as it is until steer runs again, or until `steer cleanup`.
    #[default]
    Keep,
    /// It is let go of: all goes direct.
    Release,
}

impl Scope {
    /// Whether it means what another does, wherever each is written.
    pub fn means(&self, other: &Self) -> bool {
        let moved = Self {
            origin: other.origin.clone(),
            ..self.clone()
        };
        moved == *other
    }
}

impl Selector {
    /// Its key in the file.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Network(_) => "network",
            Self::Container(_) => "container",
            Self::Label { .. } => "label",
            Self::Compose(_) => "compose",
            Self::Cgroup(_) => "cgroup",
        }
    }

    /// Whether it is about containers, of which Docker alone knows.
    pub fn is_of_containers(&self) -> bool {
        !matches!(self, Self::Cgroup(_))
    }

    /// Its value in the file.
    pub fn value(&self) -> String {
        match self {
            Self::Network(pattern) | Self::Container(pattern) => pattern.to_string(),
            Self::Label { key, value: None } => key.clone(),
            Self::Label {
                key,
                value: Some(value),
            } => format!("{key}={value}"),
            Self::Compose(project) => project.clone(),
            Self::Cgroup(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key(), self.value())
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vpn => "vpn",
            Self::Direct => "direct",
            Self::Block => "block",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for OnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Release => "release",
        })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} -> {}:{}",
            self.at, self.protocol, self.container, self.to
        )
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::NatPmp => f.write_str(NAT_PMP),
        }
    }
}

impl From<Protocol> for route::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}
