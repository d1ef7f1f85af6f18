//! Notifications of changes that a plan may depend on.

use std::fmt;

use futures_util::{StreamExt, stream::BoxStream};
use netlink_packet_route::{RouteNetlinkMessage, route::RouteProtocol, rule::RuleAttribute};
use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload};
use tokio::task::JoinHandle;

use super::{Error, plan::PROTOCOL};

/// What kind of thing changed. What it is like now is to be looked up, for more may have changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// An interface appeared, disappeared, went up or down, or was renamed.
    Link,
    /// An address was added, removed, or became usable.
    Address,
    /// A rule or a route of steer's was added, changed or deleted, by steer or by somebody else.
    Routing,
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
    let (connection, _, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(|source| Error::Connect { source })?;
    let events = messages.filter_map(|(message, _)| async move { event(&message.payload) });
    Ok(Watch {
        events: events.boxed(),
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
            (route.header.protocol == ours).then_some(Event::Routing)
        }
        M::NewRule(rule) | M::DelRule(rule) => rule
            .attributes
            .contains(&RuleAttribute::Protocol(ours))
            .then_some(Event::Routing),
        _ => None,
    }
}
