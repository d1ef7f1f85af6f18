//! Who has which address, and who is called what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What servers see of the box's direct traffic: the ISP's own address.
pub const DIRECT_V4: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
/// [`DIRECT_V4`] for IPv6.
pub const DIRECT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 1);
/// What servers see of the traffic that came through the tunnel.
pub const VPN_V4: Ipv4Addr = Ipv4Addr::new(10, 40, 0, 1);
/// [`VPN_V4`] for IPv6.
pub const VPN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x40, 0, 0, 0, 0, 0, 1);

/// What servers see of the traffic that came through the second tunnel, in a lab that has one.
pub const SECOND_VPN_V4: Ipv4Addr = Ipv4Addr::new(10, 40, 0, 3);
/// [`SECOND_VPN_V4`] for IPv6.
pub const SECOND_VPN_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x40, 0, 0, 0, 0, 0, 3);

/// The box's address inside the tunnel.
pub const TUNNEL_V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);
/// [`TUNNEL_V4`] for IPv6.
pub const TUNNEL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, 2);

/// The resolver of the Internet, which the box uses.
pub const RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
/// [`RESOLVER_V4`] for IPv6.
pub const RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xd1, 0, 0, 0, 0, 0x53);
/// A public resolver that Docker falls back to.
pub const PUBLIC_RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);

/// Where a [`Resolver`](super::Resolver) of a test listens, beside dnsmasq.
pub const TEST_RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 54);
/// [`TEST_RESOLVER_V4`] for IPv6.
pub const TEST_RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xd1, 0, 0, 0, 0, 0x54);

/// A range of server addresses, and how the world treats the box there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The ISP resets TCP and drops UDP on the way there.
    Blocked,
    /// The servers answer 403 to everyone but the VPN.
    Refusing,
    /// Open to all.
    Open,
    /// Open to all, and large: for tests that need thousands of addresses.
    Fresh,
}

impl Range {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Blocked, Self::Refusing, Self::Open, Self::Fresh];

    /// Its IPv4 prefix.
    pub const fn v4(self) -> &'static str {
        match self {
            Self::Blocked => "203.0.113.0/24",
            Self::Refusing => "192.0.2.0/24",
            Self::Open => "198.51.100.0/24",
            Self::Fresh => "10.200.0.0/16",
        }
    }

    /// Its IPv6 prefix.
    pub const fn v6(self) -> &'static str {
        match self {
            Self::Blocked => "2001:db8:b10c::/64",
            Self::Refusing => "2001:db8:403::/64",
            Self::Open => "2001:db8:d1::/64",
            Self::Fresh => "2001:db8:f5e5::/64",
        }
    }

    /// The `host`th IPv4 address; only [`Range::Fresh`] has more than 254.
    pub const fn host_v4(self, host: u16) -> Ipv4Addr {
        let [high, low] = host.to_be_bytes();
        match self {
            Self::Blocked => Ipv4Addr::new(203, 0, 113, low),
            Self::Refusing => Ipv4Addr::new(192, 0, 2, low),
            Self::Open => Ipv4Addr::new(198, 51, 100, low),
            Self::Fresh => Ipv4Addr::new(10, 200, high, low),
        }
    }

    /// The `host`th IPv6 address.
    pub const fn host_v6(self, host: u16) -> Ipv6Addr {
        let net = match self {
            Self::Blocked => 0xb10c,
            Self::Refusing => 0x403,
            Self::Open => 0xd1,
            Self::Fresh => 0xf5e5,
        };
        Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host)
    }
}

/// A name that the lab's resolver knows from the start and that nginx serves.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The name.
    pub name: &'static str,
    /// Where its addresses lie.
    pub range: Range,
    /// Their number in the range.
    pub host: u16,
    /// Whether it has an A record.
    pub v4: bool,
    /// Whether it has an AAAA record.
    pub v6: bool,
}

/// The host that serves layers.
pub const LAYER_HOST: &str = "production.cloudflare.docker.com";

const fn host(name: &'static str, range: Range, host: u16) -> Host {
    Host {
        name,
        range,
        host,
        v4: true,
        v6: true,
    }
}

/// Docker Hub's names, then two sites that tests and demonstrations ask for, each also under
/// a name that has only one family.
pub const HOSTS: [Host; 11] = [
    host("registry-1.docker.io", Range::Refusing, 10),
    host("auth.docker.io", Range::Refusing, 11),
    host("index.docker.io", Range::Refusing, 12),
    host("hub.docker.com", Range::Refusing, 13),
    host(LAYER_HOST, Range::Open, 20),
    host("blocked.example", Range::Blocked, 10),
    Host {
        v6: false,
        ..host("v4.blocked.example", Range::Blocked, 11)
    },
    Host {
        v4: false,
        ..host("v6.blocked.example", Range::Blocked, 12)
    },
    host("direct.example", Range::Open, 10),
    Host {
        v6: false,
        ..host("v4.direct.example", Range::Open, 11)
    },
    Host {
        v4: false,
        ..host("v6.direct.example", Range::Open, 12)
    },
];

/// Which way a packet came to a server, by the client address that the server saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// From the ISP's address.
    Direct,
    /// From the VPN's address.
    Vpn,
    /// From the second VPN's address.
    SecondVpn,
    /// From elsewhere: something in the lab is not as it should be.
    Other,
}

impl Path {
    /// The path that shows `client` as its source.
    pub fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(DIRECT_V4) | IpAddr::V6(DIRECT_V6) => Self::Direct,
            IpAddr::V4(VPN_V4) | IpAddr::V6(VPN_V6) => Self::Vpn,
            IpAddr::V4(SECOND_VPN_V4) | IpAddr::V6(SECOND_VPN_V6) => Self::SecondVpn,
            _ => Self::Other,
        }
    }
}
