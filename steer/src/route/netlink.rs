//! Rules and routes over rtnetlink: listing, adding, deleting.

use std::{io, path::Path};

use futures_util::TryStreamExt;
use netlink_packet_route::route::RouteMessage;
use rtnetlink::{Handle, IpVersion};
use tokio::task::JoinHandle;

use super::{
    Change, Error,
    lookup::{Packet, Way},
    message::{self, SeenRoute, SeenRule},
    plan::{Family, Route, Rule, TableId},
};

/// A netlink socket of the network namespace of the thread that opened it.
pub(super) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// With strict checking, so that the kernel lists one table rather than all of them.
    pub(super) fn connect() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()
            .map_err(|source| Error::Connect { source })?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// `ip rule show`
    pub(super) async fn rules(&self, family: Family) -> Result<Vec<SeenRule>, Error> {
        let listed = self
            .handle
            .rule()
            .get(version(family))
            .execute()
            .try_collect::<Vec<_>>()
            .await;
        let listed = listed.map_err(|error| Error::List {
            what: format!("rules of `{} rule show`", family.ip()),
            source: cause(error),
        })?;
        Ok(listed.iter().map(message::read_rule).collect())
    }

    /// `ip route show table TABLE`
    pub(super) async fn routes(
        &self,
        family: Family,
        table: TableId,
    ) -> Result<Vec<SeenRoute>, Error> {
        let request = message::list_routes(family, table);
        let listed = self
            .handle
            .route()
            .get(request)
            .execute()
            .try_collect::<Vec<_>>()
            .await;
        let listed: Vec<RouteMessage> = match listed {
            Ok(listed) => listed,
            Err(error) => match cause(error) {
                // A table that never had a route does not exist.
                error if error.raw_os_error() == Some(libc::ENOENT) => Vec::new(),
                source => {
                    return Err(Error::List {
                        what: format!("routes of `{} route show table {table}`", family.ip()),
                        source,
                    });
                }
            },
        };
        let seen = listed.iter().map(message::read_route);
        Ok(seen
            .filter(|route| route.family == family && route.table == table)
            .collect())
    }

    /// `ip route show table all`
    pub(super) async fn all_routes(&self, family: Family) -> Result<Vec<SeenRoute>, Error> {
        let request = message::list_all_routes(family);
        let listed = self.handle.route().get(request).execute();
        let listed = listed.try_collect::<Vec<_>>().await;
        let listed: Vec<RouteMessage> = listed.map_err(|error| Error::List {
            what: format!("routes of `{} route show table all`", family.ip()),
            source: cause(error),
        })?;
        let seen = listed.iter().map(message::read_route);
        Ok(seen.filter(|route| route.family == family).collect())
    }

    /// `ip route get …`
    pub(super) async fn look_up(&self, packet: &Packet) -> io::Result<Way> {
        let request = self.handle.route().get(message::look_up(packet));
        let found = request.execute().try_collect::<Vec<_>>().await;
        let found = found.map_err(cause)?;
        Ok(found.first().map_or(Way::Nowhere, message::way))
    }

    /// `ip rule add …`
    pub(super) async fn add_rule(&self, change: &Change, rule: &Rule) -> Result<(), Error> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = message::rule(rule);
        request
            .execute()
            .await
            .map_err(|error| refused(change, error))
    }

    /// `ip rule del …`
    pub(super) async fn del_rule(&self, change: &Change, rule: &Rule) -> Result<(), Error> {
        let result = self.handle.rule().del(message::rule(rule)).execute().await;
        unless_gone(result, change)
    }

    /// `ip route add …`
    pub(super) async fn add_route(&self, change: &Change, route: &Route) -> Result<(), Error> {
        let request = self.handle.route().add(message::route(route));
        request
            .execute()
            .await
            .map_err(|error| refused(change, error))
    }

    /// `ip route replace …`
    pub(super) async fn replace_route(&self, change: &Change, route: &Route) -> Result<(), Error> {
        let request = self.handle.route().add(message::route(route)).replace();
        request
            .execute()
            .await
            .map_err(|error| refused(change, error))
    }

    /// `ip route del …`
    pub(super) async fn del_route(&self, change: &Change, route: &Route) -> Result<(), Error> {
        let result = self
            .handle
            .route()
            .del(message::route(route))
            .execute()
            .await;
        unless_gone(result, change)
    }
}

/// Whether the kernel has IPv6: it may be built without, or started with `ipv6.disable=1`.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").exists()
}

fn version(family: Family) -> IpVersion {
    match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    }
}

fn unless_gone(result: Result<(), rtnetlink::Error>, change: &Change) -> Result<(), Error> {
    let Err(error) = result else { return Ok(()) };
    match cause(error) {
        error
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ESRCH | libc::ENODEV)
            ) =>
        {
            Ok(())
        }
        error => Err(Error::refused(change, error)),
    }
}

fn refused(change: &Change, error: rtnetlink::Error) -> Error {
    Error::refused(change, cause(error))
}

fn cause(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
