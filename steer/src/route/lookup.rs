//! Which way the kernel would send a packet, as it says itself.

use std::{io, net::IpAddr};

use super::{
    Error,
    netlink::Netlink,
    plan::{IfIndex, TableId},
};

/// A packet to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it goes.
    pub to: IpAddr,
    /// Its mark; zero for none.
    pub mark: u32,
    /// Who behind which interface sends it; none for the host itself.
    pub from: Option<(IpAddr, IfIndex)>,
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out of an interface.
    Out {
        /// The interface.
        interface: IfIndex,
        /// The next hop, if there is one.
        gateway: Option<IpAddr>,
        /// The address that the host would send from.
        source: Option<IpAddr>,
        /// The routing table that said so.
        table: TableId,
    },
    /// Nowhere: no route leads there, or one says that none does.
    Nowhere,
}

impl Packet {
    /// One that this host sends without a mark.
    pub fn to(to: IpAddr) -> Self {
        Self {
            to,
            mark: 0,
            from: None,
        }
    }
}

/// `ip route get TO mark MARK`, and `from ADDRESS iif INTERFACE` for what is forwarded.
///
/// # Errors
/// When the kernel does not say.
pub async fn way(packet: &Packet) -> Result<Way, Error> {
    by(&Netlink::connect()?, packet).await
}

pub(super) async fn by(netlink: &Netlink, packet: &Packet) -> Result<Way, Error> {
    match netlink.look_up(packet).await {
        Ok(way) => Ok(way),
        // No route, or a rule or a route says that it may not.
        Err(error) if error.kind() != io::ErrorKind::Other => Ok(Way::Nowhere),
        Err(source) => Err(Error::List {
            what: format!("route of `ip route get {}`", packet.to),
            source,
        }),
    }
}
