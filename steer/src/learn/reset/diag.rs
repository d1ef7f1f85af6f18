//! Finding and destroying a process's socket.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::{errno::Errno, sys::socket::AddressFamily};
use steer_common::packet::TCP;

use crate::host::sock_diag::{ANY_STATE, IDENTITY, Identity, SockDiag, Sockets};

/// Where the socket's identity begins in an answer (`struct inet_diag_msg`).
const IDENTITY_AT: usize = 4;
/// Where the far port stands in it; zero if there is none.
const REMOTE_PORT: usize = 2;
/// Where the cookie stands in it: it is its last field.
const COOKIE: usize = 40;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A socket to the kernel's list of sockets, opened when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Diag {
    socket: Option<SockDiag>,
    unsupported: bool,
}

impl Diag {
    /// Destroys a process's connection; false if there is none of that cookie here, or the kernel cannot.
    ///
    /// The ends are where it is looked for first. A translated connection has others than its segments, and is looked for
    /// among all.
    pub(super) fn destroy(&mut self, local: SocketAddr, remote: SocketAddr, cookie: u64) -> bool {
        if self.unsupported {
            return false;
        }
        let told = identity(local, remote, cookie);
        match self.kill(sockets(TCP, family_of(local.ip())), &told) {
            Ok(()) => return true,
            Err(Errno::EOPNOTSUPP) => {
                self.unsupported = true;
                return false;
            }
            Err(_) => {}
        }
        self.destroy_connected(TCP, cookie)
    }

    /// Destroys a process's socket, wherever it is connected to; false if it is not, or there is none.
    pub(super) fn destroy_connected(&mut self, protocol: u32, cookie: u64) -> bool {
        FAMILIES.into_iter().any(|family| {
            let sockets = sockets(protocol, family);
            let found = self.find(sockets, cookie).ok().flatten();
            let connected = found.filter(|identity| identity[REMOTE_PORT..][..2] != [0; 2]);
            connected.is_some_and(|identity| self.kill(sockets, &identity).is_ok())
        })
    }

    fn kill(&mut self, sockets: Sockets, identity: &Identity) -> Result<(), Errno> {
        self.socket()?.destroy(sockets, identity)
    }

    fn find(&mut self, sockets: Sockets, cookie: u64) -> Result<Option<Identity>, Errno> {
        let mut found = None;
        self.socket()?.each(sockets, |body| {
            let identity: Option<Identity> = body
                .get(IDENTITY_AT..)
                .and_then(|rest| rest.first_chunk().copied());
            if let Some(identity) = identity
                && identity[COOKIE..] == cookie_words(cookie)
            {
                found = Some(identity);
            }
        })?;
        Ok(found)
    }

    fn socket(&mut self) -> Result<&SockDiag, Errno> {
        if self.socket.is_none() {
            self.socket = Some(SockDiag::open()?);
        }
        self.socket.as_ref().ok_or(Errno::EBADF)
    }
}

fn sockets(protocol: u32, family: AddressFamily) -> Sockets {
    Sockets {
        family,
        protocol,
        states: ANY_STATE,
    }
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn identity(local: SocketAddr, remote: SocketAddr, cookie: u64) -> Identity {
    let mut identity = [0; IDENTITY];
    identity[0..2].copy_from_slice(&local.port().to_be_bytes());
    identity[2..4].copy_from_slice(&remote.port().to_be_bytes());
    identity[4..20].copy_from_slice(&words(local.ip()));
    identity[20..36].copy_from_slice(&words(remote.ip()));
    identity[COOKIE..].copy_from_slice(&cookie_words(cookie));
    identity
}

/// An IPv4 address is the first of the four words.
fn words(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = Ipv6Addr::UNSPECIFIED.octets();
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The lower half comes first, whatever the machine's order.
fn cookie_words(cookie: u64) -> [u8; 8] {
    let mut octets = [0; 8];
    octets[..4].copy_from_slice(&(cookie as u32).to_ne_bytes());
    octets[4..].copy_from_slice(&((cookie >> 32) as u32).to_ne_bytes());
    octets
}
