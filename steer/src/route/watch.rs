//! Notifications of changes that a plan may depend on.

use std::{fmt, io};

use bytes::BytesMut;
use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use netlink_packet_route::{RouteNetlinkMessage, route::RouteProtocol};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    sys::{AsyncSocket, AsyncSocketExt, TokioSocket, protocols::NETLINK_NETFILTER},
};
use tokio::task::JoinHandle;

use super::{Error, nft::TABLE, plan::PROTOCOL};

/// The kernel's messages are at most a page; a longer one was cut off.
const NFTABLES_BUFFER: usize = 1 << 16;

/// Prefixes of routes that may stand for the default route are no longer.
const SHORT: u8 = 4;

/// What kind of thing changed. What it is like now is to be looked up, for more may have changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// An interface appeared, disappeared, went up or down, or was renamed.
    Link,
    /// An address was added, removed, or became usable.
    Address,
    /// A rule, or a route of steer's or the default one, was added, changed or deleted, by steer or by somebody else.
    Routing,
    /// A filter or a queueing discipline was deleted.
    Filter,
    /// Steer's nft table, or part of it, was deleted: by `nft flush ruleset`, for example, which the start of many
    /// a firewall begins with.
    Nft,
    /// More happened than the socket could hold: anything may have changed.
    Overrun,
}

/// Changes from the moment it was opened, in the network namespace of the thread that opened it.
pub struct Watch {
    events: BoxStream<'static, Event>,
    connection: JoinHandle<()>,
}

/// Begins to watch.
///
/// An IPv4 route that goes with its interface is not told of by the kernel: the interface's own event stands for it.
pub fn watch() -> Result<Watch, Error> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
        MulticastGroup::Tc,
    ];
    let connect = |source| Error::Connect { source };
    let (connection, _, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(connect)?;
    let routing = messages.filter_map(|(message, _)| async move { event(&message.payload) });
    let nftables = nftables().map_err(connect)?;
    Ok(Watch {
        events: stream::select(routing, nftables).boxed(),
        connection: tokio::spawn(connection),
    })
}

impl Watch {
    /// Waits for the next change. `None` when the socket has failed: watch anew.
    ///
    /// Cancel safe: no change is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.next().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

fn event(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    use RouteNetlinkMessage as M;
    let ours = RouteProtocol::Other(PROTOCOL);
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Overrun(_) => return Some(Event::Overrun),
        _ => return None,
    };
    match message {
        M::NewLink(_) | M::DelLink(_) => Some(Event::Link),
        M::NewAddress(_) | M::DelAddress(_) => Some(Event::Address),
        M::NewRoute(route) | M::DelRoute(route) => {
            let header = &route.header;
            let counts = header.protocol == ours || header.destination_prefix_length <= SHORT;
            counts.then_some(Event::Routing)
        }
        M::NewRule(_) | M::DelRule(_) => Some(Event::Routing),
        M::DelTrafficFilter(_) | M::DelQueueDiscipline(_) => Some(Event::Filter),
        _ => None,
    }
}

/// As `nft monitor` does, for what deletes our table.
fn nftables() -> io::Result<impl Stream<Item = Event>> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    let raw = socket.socket_mut();
    // Without an address of its own it has the kernel's, and the kernel tells itself nothing.
    raw.bind_auto()?;
    raw.add_membership(libc::NFNLGRP_NFTABLES as u32)?;
    let events = stream::unfold(socket, |socket| async move {
        let mut buffer = BytesMut::with_capacity(NFTABLES_BUFFER);
        let event = match socket.recv(&mut buffer).await {
            Ok(()) if buffer.len() < NFTABLES_BUFFER => {
                tells_of_loss(&buffer).then_some(Event::Nft)
            }
            Ok(()) => Some(Event::Overrun),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Some(Event::Overrun),
            Err(error) => {
                tracing::warn!("changes of nftables are not noticed any more: {error}");
                return None;
            }
        };
        Some((event, socket))
    });
    Ok(events.filter_map(|event| async move { event }))
}

/// Whether something in the table `inet steer` was deleted.
///
/// Each message is a `nlmsghdr`, a `nfgenmsg` and attributes, of which the first is the table's name for tables,
/// chains and rules (`NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE` and `NFTA_RULE_TABLE` are all 1).
fn tells_of_loss(mut datagram: &[u8]) -> bool {
    const HEADER: usize = 16;
    const GENERIC: usize = 4;
    const ATTRIBUTE: usize = 4;
    const DELETIONS: [libc::c_int; 3] = [
        libc::NFT_MSG_DELTABLE,
        libc::NFT_MSG_DELCHAIN,
        libc::NFT_MSG_DELRULE,
    ];

    let deletes = |kind: u16| {
        let [subsystem, message] = kind.to_be_bytes().map(libc::c_int::from);
        subsystem == libc::NFNL_SUBSYS_NFTABLES && DELETIONS.contains(&message)
    };
    let name = |message: &[u8]| -> Option<Vec<u8>> {
        let family = *message.get(HEADER)?;
        let attribute = message.get(HEADER + GENERIC..)?;
        let length = usize::from(u16::from_ne_bytes(attribute.get(..2)?.try_into().ok()?));
        let name = attribute.get(ATTRIBUTE..length)?;
        (i32::from(family) == libc::NFPROTO_INET).then(|| name.to_vec())
    };
    while let Some(&[a, b, c, d, e, f]) = datagram.first_chunk() {
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(message) = datagram
            .get(..length)
            .filter(|message| message.len() >= HEADER)
        else {
            return false;
        };
        let ours =
            || name(message).is_some_and(|name| name.strip_suffix(b"\0") == Some(TABLE.as_bytes()));
        if deletes(u16::from_ne_bytes([e, f])) && ours() {
            return true;
        }
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As 6.18 sends them, up to the end of the first attribute.
    fn message(kind: i32, family: i32, table: &str) -> Vec<u8> {
        let mut attribute = vec![0, 0, 1, 0];
        attribute.extend(table.as_bytes());
        attribute.push(0);
        attribute[0] = attribute.len() as u8;
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        let mut message = Vec::new();
        message.extend((20 + attribute.len() as u32).to_ne_bytes());
        message.extend((libc::NFNL_SUBSYS_NFTABLES as u16 * 256 + kind as u16).to_ne_bytes());
        message.resize(16, 0);
        message.extend([family as u8, 0, 0, 2]);
        message.extend(attribute);
        message
    }

    #[test]
    fn deletions_in_our_table_are_losses() {
        let inet = libc::NFPROTO_INET;
        for kind in [
            libc::NFT_MSG_DELTABLE,
            libc::NFT_MSG_DELCHAIN,
            libc::NFT_MSG_DELRULE,
        ] {
            assert!(tells_of_loss(&message(kind, inet, "steer")));
            assert!(!tells_of_loss(&message(kind, inet, "steers")));
            assert!(!tells_of_loss(&message(kind, libc::NFPROTO_IPV4, "steer")));
            let second = [
                message(libc::NFT_MSG_NEWTABLE, inet, "other"),
                message(kind, inet, "steer"),
            ]
            .concat();
            assert!(tells_of_loss(&second));
        }
        assert!(!tells_of_loss(&message(
            libc::NFT_MSG_NEWRULE,
            inet,
            "steer"
        )));
    }

    proptest! {
        #[test]
        fn anything_at_all_can_be_read(
            datagram in proptest::collection::vec(any::<u8>(), 0..80),
            length in 0..90u8,
        ) {
            tells_of_loss(&datagram);
            let mut whole = message(libc::NFT_MSG_DELTABLE, libc::NFPROTO_INET, "steer");
            whole[0] = length;
            tells_of_loss(&whole);
        }
    }
}
