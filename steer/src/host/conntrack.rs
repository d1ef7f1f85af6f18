//! The kernel's tracked connections, by `NFNL_SUBSYS_CTNETLINK`: those of containers, which have no socket on the host.

use std::net::{IpAddr, SocketAddr};

use nix::{errno::Errno, sys::socket::SockProtocol};

use super::netlink::{Netlink, attributes};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// Octets of `struct nfgenmsg`.
const HEADER: usize = 4;
/// Numbers of `enum ctattr_type` and of those within.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_COUNTERS_BYTES: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// A tracked connection, as whoever began it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Protocol number of IP.
    pub protocol: u32,
    /// Who began it.
    pub from: SocketAddr,
    /// With whom, before any translation.
    pub to: SocketAddr,
    /// Octets sent and received, where the kernel counts them (`net.netfilter.nf_conntrack_acct`).
    pub octets: Option<(u64, u64)>,
}

/// Those of this network namespace.
///
/// # Errors
/// When the kernel refuses, for it takes `CAP_NET_ADMIN`, or tells of none, without its module.
pub fn connections() -> Result<Vec<Connection>, Errno> {
    let netlink = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let mut found = Vec::new();
    // A `struct nfgenmsg`: of any family.
    let listed = netlink.each(GET, &[0; HEADER], |body| {
        found.extend(body.get(HEADER..).and_then(read));
    });
    listed.map(|()| found)
}

/// Has the kernel forget some of them, so that what still comes in for them is nobody's. Says how many.
///
/// # Errors
/// As for [`connections`].
pub fn forget(which: impl Fn(&Connection) -> bool) -> Result<usize, Errno> {
    let netlink = Netlink::open(SockProtocol::NetlinkNetFilter)?;
    let mut wanted = Vec::new();
    netlink.each(GET, &[0; HEADER], |body| {
        let Some((header, octets)) = body.split_at_checked(HEADER) else {
            return;
        };
        let tuple = attributes(octets).find(|(kind, _)| *kind == CTA_TUPLE_ORIG);
        if let Some((kind, tuple)) = tuple
            && read(octets).is_some_and(|connection| which(&connection))
        {
            wanted.push([header, &attribute(kind | NESTED, tuple)].concat());
        }
    })?;
    // One that has ended meanwhile is as good.
    let gone = wanted
        .iter()
        .filter(|body| netlink.act(DELETE, body).is_ok());
    Ok(gone.count())
}

/// `NLA_F_NESTED`: attributes are in it.
const NESTED: u16 = 0x8000;

/// An attribute with its padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let size = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut octets = size.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn read(octets: &[u8]) -> Option<Connection> {
    let within = |kind| attributes(octets).find(|(found, _)| *found == kind);
    let (_, tuple) = within(CTA_TUPLE_ORIG)?;
    let (mut from, mut to) = (None, None);
    let (mut protocol, mut ports) = (None, (0, 0));
    for (kind, value) in attributes(tuple) {
        match kind {
            CTA_TUPLE_IP => {
                // Source before destination, of either family.
                let mut addresses = attributes(value).filter_map(|(_, value)| address(value));
                (from, to) = (addresses.next(), addresses.next());
            }
            CTA_TUPLE_PROTO => {
                for (kind, value) in attributes(value) {
                    let number = || value.try_into().ok().map(u16::from_be_bytes);
                    match kind {
                        CTA_PROTO_NUM => protocol = value.first().copied(),
                        CTA_PROTO_SRC_PORT => ports.0 = number()?,
                        CTA_PROTO_DST_PORT => ports.1 = number()?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let counted = |kind| {
        let (_, counters) = within(kind)?;
        let (_, value) = attributes(counters).find(|(found, _)| *found == CTA_COUNTERS_BYTES)?;
        value.try_into().ok().map(u64::from_be_bytes)
    };
    Some(Connection {
        protocol: protocol?.into(),
        from: SocketAddr::new(from?, ports.0),
        to: SocketAddr::new(to?, ports.1),
        octets: counted(CTA_COUNTERS_ORIG).zip(counted(CTA_COUNTERS_REPLY)),
    })
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_as_its_beginner_has_it() {
        let ip = [
            attribute(1, &[172, 17, 0, 2]),
            attribute(2, &[203, 0, 113, 7]),
        ]
        .concat();
        let ports = [
            attribute(1, &[6]),
            attribute(2, &40000_u16.to_be_bytes()),
            attribute(3, &443_u16.to_be_bytes()),
        ];
        let tuple = [
            attribute(CTA_TUPLE_IP | NESTED, &ip),
            attribute(CTA_TUPLE_PROTO | NESTED, &ports.concat()),
        ];
        let counters = |octets: u64| attribute(CTA_COUNTERS_BYTES, &octets.to_be_bytes());
        let mut octets = attribute(CTA_TUPLE_ORIG | NESTED, &tuple.concat());
        let connection = Connection {
            protocol: 6,
            from: "172.17.0.2:40000".parse().unwrap(),
            to: "203.0.113.7:443".parse().unwrap(),
            octets: None,
        };
        assert_eq!(read(&octets), Some(connection));
        octets.extend(attribute(CTA_COUNTERS_ORIG | NESTED, &counters(100)));
        octets.extend(attribute(CTA_COUNTERS_REPLY | NESTED, &counters(7000)));
        let counted = Connection {
            octets: Some((100, 7000)),
            ..connection
        };
        assert_eq!(read(&octets), Some(counted));
        assert_eq!(read(&octets[..20]), None);
    }
}
