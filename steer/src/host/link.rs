//! The network interfaces, as the kernel lists them.

use super::HostError;
use crate::route::{self, IfIndex};
use crate::rules::Net;
use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::Handle;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// The bridge or bond that it is a port of.
    pub controller: Option<IfIndex>,
    /// Its IPv4 addresses of global scope.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses of global scope, neither tentative nor deprecated.
    pub v6: Vec<Ipv6Addr>,
    /// The networks that it is on: each address with its prefix.
    pub networks: Vec<Net>,
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tun or tap device, whose other end is a program.
    Tun,
    /// WireGuard in the kernel.
    Wireguard,
    /// A point-to-point link of pppd.
    Ppp,
    /// OpenVPN in the kernel.
    Ovpn,
    /// A bridge.
    Bridge,
    /// One end of a pair.
    Veth,
    /// The loopback device.
    Loopback,
    /// Another, by the kernel's word for it; empty for a network card.
    Other(String),
}

impl Kind {
    /// Whether a VPN's interface is of this kind.
    pub fn may_be_vpn(&self) -> bool {
        matches!(self, Self::Tun | Self::Wireguard | Self::Ppp | Self::Ovpn)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tun => "tun",
            Self::Wireguard => "wireguard",
            Self::Ppp => "ppp",
            Self::Ovpn => "ovpn",
            Self::Bridge => "bridge",
            Self::Veth => "veth",
            Self::Loopback => "loopback",
            Self::Other(kind) if kind.is_empty() => "network card",
            Self::Other(kind) => kind,
        })
    }
}

impl Link {
    /// All its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        route::addresses(&self.v4, &self.v6)
    }

    /// Name, kind and addresses, for a list to choose from.
    pub fn describe(&self) -> String {
        let addresses = in_a_line(self.addresses());
        let down = if self.up { "" } else { ", down" };
        format!("{} ({}{down}, {addresses})", self.name, self.kind)
    }
}

/// The addresses of an interface in a line, or that it has none.
pub fn in_a_line(addresses: impl Iterator<Item = IpAddr>) -> String {
    let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
    if addresses.is_empty() {
        "no address".to_owned()
    } else {
        addresses.join(", ")
    }
}

/// Lists the interfaces of this process' network namespace, as `ip address` does.
///
/// # Errors
/// The kernel did not answer.
pub async fn list() -> Result<Vec<Link>, HostError> {
    let answers = async |handle: Handle| {
        let links: Vec<_> = handle.link().get().execute().try_collect().await?;
        let addresses: Vec<_> = handle.address().get().execute().try_collect().await?;
        Ok((links, addresses))
    };
    let (links, addresses) = asked(answers).await?;
    let mut links: Vec<_> = links.into_iter().filter_map(link).collect();
    for address in addresses {
        add_address(&mut links, &address);
    }
    Ok(links)
}

/// Asks the kernel something about the interfaces of this process' network namespace.
///
/// # Errors
/// The kernel did not answer.
pub(super) async fn asked<T>(
    question: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>,
) -> Result<T, HostError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| HostError::Read {
            what: "the network interfaces".to_owned(),
            source,
        })?;
    let driver = tokio::spawn(connection);
    let answer = question(handle).await.map_err(HostError::Links);
    driver.abort();
    answer
}

fn link(message: LinkMessage) -> Option<Link> {
    let header = message.header;
    let mut name = None;
    let mut controller = None;
    let mut info_kind = None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value),
            LinkAttribute::Controller(index) => controller = Some(IfIndex(index)),
            LinkAttribute::LinkInfo(infos) => {
                info_kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let kind = match info_kind {
        Some(InfoKind::Tun) => Kind::Tun,
        Some(InfoKind::Wireguard) => Kind::Wireguard,
        Some(InfoKind::Bridge) => Kind::Bridge,
        Some(InfoKind::Veth) => Kind::Veth,
        Some(other) => match other.to_string().as_str() {
            "ppp" => Kind::Ppp,
            // Upstream's module since 6.16, and the out-of-tree one before it.
            "ovpn" | "ovpn-dco" => Kind::Ovpn,
            other => Kind::Other(other.to_owned()),
        },
        None if header.flags.contains(LinkFlags::Loopback) => Kind::Loopback,
        None if header.link_layer_type == LinkLayerType::Ppp => Kind::Ppp,
        None => Kind::Other(String::new()),
    };
    Some(Link {
        index: IfIndex(header.index),
        name: name?,
        kind,
        up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        controller,
        v4: Vec::new(),
        v6: Vec::new(),
        networks: Vec::new(),
    })
}

fn add_address(links: &mut [Link], message: &AddressMessage) {
    let Some(link) = links
        .iter_mut()
        .find(|link| link.index == IfIndex(message.header.index))
    else {
        return;
    };
    if message.header.scope != AddressScope::Universe {
        return;
    }
    // On a point-to-point link `Address` is the far end's and `Local` ours; IPv6 often has `Address` alone.
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
    let network = address.and_then(|it| Net::around(it, message.header.prefix_len));
    link.networks
        .extend(network.filter(|network| !link.networks.contains(network)));
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Deprecated;
    if message.header.flags.intersects(unusable) {
        return;
    }
    match (message.header.family, local.or(address)) {
        (AddressFamily::Inet, Some(IpAddr::V4(address))) => link.v4.push(address),
        (AddressFamily::Inet6, Some(IpAddr::V6(address))) => link.v6.push(address),
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use netlink_packet_route::address::AddressHeader;

    pub(in crate::host) fn link(index: u32, name: &str, kind: Kind) -> Link {
        Link {
            index: IfIndex(index),
            name: name.to_owned(),
            kind,
            up: true,
            controller: None,
            v4: vec![],
            v6: vec![],
            networks: vec![],
        }
    }

    pub(in crate::host) fn with(mut link: Link, addresses: &[&str]) -> Link {
        for address in addresses {
            match address.parse().unwrap() {
                IpAddr::V4(address) => link.v4.push(address),
                IpAddr::V6(address) => link.v6.push(address),
            }
        }
        link
    }

    pub(in crate::host) fn down(link: Link) -> Link {
        Link { up: false, ..link }
    }

    fn message(index: u32, flags: LinkFlags, attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = flags;
        message.attributes = attributes;
        message
    }

    #[test]
    fn kinds_are_told_apart() {
        let cases = [
            (InfoKind::Tun, Kind::Tun),
            (InfoKind::Wireguard, Kind::Wireguard),
            (InfoKind::Other("ppp".to_owned()), Kind::Ppp),
            (InfoKind::Other("ovpn-dco".to_owned()), Kind::Ovpn),
            (InfoKind::Bridge, Kind::Bridge),
            (InfoKind::Dummy, Kind::Other("dummy".to_owned())),
        ];
        for (info, kind) in cases {
            let attributes = vec![
                LinkAttribute::IfName("x0".to_owned()),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(info)]),
                LinkAttribute::Controller(9),
            ];
            let link =
                super::link(message(7, LinkFlags::Up | LinkFlags::LowerUp, attributes)).unwrap();
            assert_eq!(
                link,
                Link {
                    controller: Some(IfIndex(9)),
                    ..tests::link(7, "x0", kind)
                }
            );
        }
    }

    #[test]
    fn up_without_a_carrier_is_down() {
        let attributes = vec![LinkAttribute::IfName("x0".to_owned())];
        assert!(
            !super::link(message(7, LinkFlags::Up, attributes))
                .unwrap()
                .up
        );
    }

    #[test]
    fn only_usable_addresses_of_our_own_end_count() {
        let address = |address: &str, scope, flags, local: Option<&str>| {
            let ip: IpAddr = address.parse().unwrap();
            let mut message = AddressMessage::default();
            let family = if ip.is_ipv4() {
                AddressFamily::Inet
            } else {
                AddressFamily::Inet6
            };
            message.header = AddressHeader {
                family,
                prefix_len: 32,
                flags,
                scope,
                index: 7,
            };
            message.attributes.push(AddressAttribute::Address(ip));
            message
                .attributes
                .extend(local.map(|local| AddressAttribute::Local(local.parse().unwrap())));
            message
        };
        let none = AddressHeaderFlags::empty();
        let mut links = [link(7, "ppp0", Kind::Ppp)];
        for message in [
            address("10.0.0.1", AddressScope::Universe, none, Some("10.0.0.2")),
            address("169.254.0.1", AddressScope::Link, none, Some("169.254.0.1")),
            address("fe80::1", AddressScope::Link, none, None),
            address("fd00::1", AddressScope::Universe, none, None),
            address(
                "fd00::2",
                AddressScope::Universe,
                AddressHeaderFlags::Tentative,
                None,
            ),
            address(
                "fd00::3",
                AddressScope::Universe,
                AddressHeaderFlags::Deprecated,
                None,
            ),
        ] {
            add_address(&mut links, &message);
        }
        let networks = ["10.0.0.1/32", "fd00::/32"].map(|net| net.parse().unwrap());
        assert_eq!(
            links[0],
            Link {
                networks: networks.to_vec(),
                ..with(link(7, "ppp0", Kind::Ppp), &["10.0.0.2", "fd00::1"])
            }
        );
    }

    #[tokio::test]
    async fn this_machine_has_a_loopback_device() {
        let links = list().await.unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((lo.index, &lo.kind), (IfIndex(1), &Kind::Loopback));
    }
}
