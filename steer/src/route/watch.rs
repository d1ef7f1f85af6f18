//! Notifications of changes that a plan may depend on.

use std::{fmt, io, iter};

use bytes::BytesMut;
use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use netlink_packet_route::{RouteNetlinkMessage, route::RouteProtocol};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    sys::{
        AsyncSocket, AsyncSocketExt, TokioSocket,
        protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
    },
};
use tokio::task::JoinHandle;

use super::{Error, docker, nft::TABLE, plan::PROTOCOL};

/// The kernel's messages are at most a page; a longer one was cut off.
const BUFFER: usize = 1 << 16;

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
    /// a firewall begins with. Or a rule of Docker's chain for its user's own was, or that chain is new, as far as it is nft's.
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
    ];
    let connect = |source| Error::Connect { source };
    let (connection, _, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(connect)?;
    let routing = messages.filter_map(|(message, _)| async move { event(&message.payload) });
    // As `nft monitor` and `tc monitor` do. Nothing of these messages is of interest but that something was deleted.
    let nftables = raw(
        NETLINK_NETFILTER,
        libc::NFNLGRP_NFTABLES as u32,
        |datagram| tells_of_loss(datagram).then_some(Event::Nft),
    );
    let filters = raw(NETLINK_ROUTE, libc::RTNLGRP_TC, |datagram| {
        tells_of_a_filter(datagram).then_some(Event::Filter)
    });
    let more = stream::select(
        nftables.map_err(connect)?.boxed(),
        filters.map_err(connect)?.boxed(),
    );
    Ok(Watch {
        events: stream::select(routing, more).boxed(),
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
        _ => None,
    }
}

/// The events that datagrams of a group tell of.
fn raw(
    protocol: isize,
    group: u32,
    tells: impl Fn(&[u8]) -> Option<Event> + Copy + Send + 'static,
) -> io::Result<impl Stream<Item = Event> + Send> {
    let mut socket = TokioSocket::new(protocol)?;
    let raw = socket.socket_mut();
    // Without an address of its own it has the kernel's, and the kernel tells itself nothing.
    raw.bind_auto()?;
    raw.add_membership(group)?;
    let events = stream::unfold(socket, move |socket| async move {
        let mut buffer = BytesMut::with_capacity(BUFFER);
        let event = match socket.recv(&mut buffer).await {
            Ok(()) if buffer.len() < BUFFER => tells(&buffer),
            Ok(()) => Some(Event::Overrun),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Some(Event::Overrun),
            Err(error) => {
                tracing::warn!("some changes of the host are not noticed any more: {error}");
                return None;
            }
        };
        Some((event, socket))
    });
    Ok(events.filter_map(|event| async move { event }))
}

/// Whether something in the table `inet steer` was deleted, or in Docker's chain for its user's own rules, or whether that was made
/// anew.
fn tells_of_loss(datagram: &[u8]) -> bool {
    messages(datagram).any(|(kind, message)| {
        let [subsystem, kind] = kind.to_be_bytes().map(libc::c_int::from);
        let Some(&family) = message.get(HEADER) else {
            return false;
        };
        let is = |attribute, wanted: &str| {
            attributes(message)
                .find(|(kind, _)| *kind == attribute)
                .is_some_and(|(_, value)| value.strip_suffix(b"\0") == Some(wanted.as_bytes()))
        };
        let concerns = match libc::c_int::from(family) {
            libc::NFPROTO_INET => is(TABLE_NAME, TABLE) && DELETIONS.contains(&kind),
            libc::NFPROTO_IPV4 | libc::NFPROTO_IPV6 => match kind {
                libc::NFT_MSG_DELRULE => is(CHAIN_OF_RULE, docker::USERS),
                libc::NFT_MSG_NEWCHAIN | libc::NFT_MSG_DELCHAIN => is(CHAIN_NAME, docker::USERS),
                _ => false,
            },
            _ => false,
        };
        subsystem == libc::NFNL_SUBSYS_NFTABLES && concerns
    })
}

const DELETIONS: [libc::c_int; 3] = [
    libc::NFT_MSG_DELTABLE,
    libc::NFT_MSG_DELCHAIN,
    libc::NFT_MSG_DELRULE,
];

/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE` and `NFTA_RULE_TABLE`.
const TABLE_NAME: u16 = 1;
/// `NFTA_RULE_CHAIN`
const CHAIN_OF_RULE: u16 = 2;
/// `NFTA_CHAIN_NAME`
const CHAIN_NAME: u16 = 3;

/// The attributes of a message of nftables, after its `nlmsghdr` and `nfgenmsg`, as far as they are whole.
fn attributes(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const GENERIC: usize = 4;
    const ATTRIBUTE: usize = 4;

    let mut rest = message.get(HEADER + GENERIC..).unwrap_or_default();
    iter::from_fn(move || {
        let &[a, b, c, d] = rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]), value))
    })
}

/// Whether a filter or a queueing discipline was deleted, of whatever interface.
fn tells_of_a_filter(datagram: &[u8]) -> bool {
    messages(datagram).any(|(kind, _)| matches!(kind, libc::RTM_DELTFILTER | libc::RTM_DELQDISC))
}

/// Length of a `nlmsghdr`.
const HEADER: usize = 16;

/// The messages of a datagram, with their headers, and their types, as far as they are whole.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    iter::from_fn(move || {
        let &[a, b, c, d, e, f] = datagram.first_chunk()?;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let message = datagram.get(..length)?;
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        (length >= HEADER).then_some((u16::from_ne_bytes([e, f]), message))
    })
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

    #[test]
    fn losses_in_dockers_chain_are_told_and_that_it_is_new() {
        let of = |kind, family, attribute: u16, chain: &str| {
            let mut whole = message(kind, family, "filter");
            let mut second = message(kind, family, chain).split_off(20);
            second[2..4].copy_from_slice(&attribute.to_ne_bytes());
            whole.extend(second);
            let length = whole.len() as u32;
            whole[..4].copy_from_slice(&length.to_ne_bytes());
            whole
        };
        for family in [libc::NFPROTO_IPV4, libc::NFPROTO_IPV6] {
            let tells = |kind, attribute, chain| tells_of_loss(&of(kind, family, attribute, chain));
            assert!(tells(libc::NFT_MSG_DELRULE, 2, "DOCKER-USER"));
            assert!(tells(libc::NFT_MSG_NEWCHAIN, 3, "DOCKER-USER"));
            assert!(tells(libc::NFT_MSG_DELCHAIN, 3, "DOCKER-USER"));
            assert!(!tells(libc::NFT_MSG_NEWRULE, 2, "DOCKER-USER"));
            assert!(!tells(libc::NFT_MSG_DELRULE, 2, "DOCKER"));
        }
    }

    #[test]
    fn deleted_filters_and_disciplines_are_told() {
        let of = |kind: u16| [&16_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
        assert!(tells_of_a_filter(&of(libc::RTM_DELTFILTER)));
        assert!(tells_of_a_filter(&of(libc::RTM_DELQDISC)));
        let added = of(libc::RTM_NEWTFILTER);
        assert!(!tells_of_a_filter(&added));
        let then_deleted = [added, of(libc::RTM_DELTFILTER)].concat();
        assert!(tells_of_a_filter(&then_deleted));
    }

    proptest! {
        #[test]
        fn anything_at_all_can_be_read(
            datagram in proptest::collection::vec(any::<u8>(), 0..80),
            length in 0..90u8,
        ) {
            tells_of_loss(&datagram);
            tells_of_a_filter(&datagram);
            let mut whole = message(libc::NFT_MSG_DELTABLE, libc::NFPROTO_INET, "steer");
            whole[0] = length;
            tells_of_loss(&whole);
        }
    }
}
