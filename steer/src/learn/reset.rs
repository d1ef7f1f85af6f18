//! Ends a TCP connection that began on the wrong path, so that its client tries again at once.
//!
//! A process's socket is destroyed (`ss --kill`): its client sees ECONNABORTED, and the kernel resets the server's end.
//! Where that does not work (a kernel without CONFIG_INET_DIAG_DESTROY, a socket of another network namespace) and for a
//! container's connection, both ends get a reset in the other's name: the server's by the way of the connection itself,
//! so that address translation finds it and ends it as well, the client's from the host to where it is.

use std::net::SocketAddr;

use super::raw::{self, RawSockets};
use diag::Diag;

mod diag;

/// A connection to be ended, as the segment has it that must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whose it is.
    pub owner: Owner,
    /// The client's end.
    pub local: SocketAddr,
    /// The server's end.
    pub remote: SocketAddr,
    /// Sequence number of the segment: what the server expects next.
    pub sequence: u32,
    /// Acknowledgment number of the segment: what the client expects next.
    pub acknowledgment: u32,
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process's, by its socket's cookie.
    Socket(u64),
    /// Somebody's behind a bridge.
    Bridge,
}

/// How a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The socket was destroyed.
    Destroyed,
    /// Resets were sent to both ends.
    Reset,
}

/// Why a connection was not ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A reset was not sent.
    #[error(
        "cannot reset the connection from {local} to {remote}; it ends when its client gives up"
    )]
    Send {
        /// The client's end.
        local: SocketAddr,
        /// The server's end.
        remote: SocketAddr,
        /// Why.
        #[source]
        source: raw::Error,
    },
    /// Its ends are of different families.
    #[error(
        "the connection from {local} to {remote} cannot be: one end is IPv4 and the other IPv6"
    )]
    Families {
        /// The client's end.
        local: SocketAddr,
        /// The server's end.
        remote: SocketAddr,
    },
}

/// Ends connections, and connected datagram sockets, in the network namespace in which it is first used.
#[derive(Debug, Default)]
pub struct Resets {
    raw: RawSockets,
    diag: Diag,
}

impl Resets {
    /// Nothing is opened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the connected socket of that protocol and cookie: its client sees ECONNABORTED. Whether there was one.
    pub fn end_socket(&mut self, protocol: u32, cookie: u64) -> bool {
        self.diag.destroy_connected(protocol, cookie)
    }

    /// Ends a connection, whose packets have that mark on the path that they take.
    ///
    /// # Errors
    /// When a reset could not be sent. The other one was, if it could be.
    pub fn end(&mut self, connection: &Connection, mark: u32) -> Result<Ended, Error> {
        if let Owner::Socket(cookie) = connection.owner
            && self
                .diag
                .destroy(connection.local, connection.remote, cookie)
        {
            return Ok(Ended::Destroyed);
        }
        let Connection {
            local,
            remote,
            sequence,
            acknowledgment,
            ..
        } = *connection;
        let families = Error::Families { local, remote };
        let (Some(to_server), Some(to_client)) = (
            raw::tcp_reset(local, remote, sequence, acknowledgment),
            raw::tcp_reset(remote, local, acknowledgment, sequence),
        ) else {
            return Err(families);
        };
        // Both are tried: each end is better off without the other.
        let server = self.raw.send(&to_server, mark);
        let client = self.raw.send(&to_client, 0);
        server.and(client).map_err(|source| Error::Send {
            local,
            remote,
            source,
        })?;
        Ok(Ended::Reset)
    }
}
