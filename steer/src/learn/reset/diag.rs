//! Finding and destroying a process's TCP socket by `NETLINK_SOCK_DIAG` (sock_diag(7)).

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt,
            socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Where the socket's identity (`struct inet_diag_sockid`) begins in an answer (`struct inet_diag_msg`).
const IDENTITY: usize = 4;
/// Octets of that identity.
const IDENTITY_SIZE: usize = 48;
/// Where the cookie stands in it: it is its last field.
const COOKIE: usize = 40;

/// A socket to the kernel's list of sockets.
#[derive(Debug, Default)]
pub(super) struct Diag {
    socket: Option<OwnedFd>,
    unsupported: bool,
}

/// `struct inet_diag_sockid`: both ends, the interface and the cookie.
type Identity = [u8; IDENTITY_SIZE];

impl Diag {
    /// Destroys a process's connection; false if there is none of that cookie here, or the kernel cannot.
    ///
    /// The ends are where it is looked for first. A translated connection has others than its segments, and is looked for
    /// among all.
    pub(super) fn destroy(&mut self, local: SocketAddr, remote: SocketAddr, cookie: u64) -> bool {
        if self.unsupported {
            return false;
        }
        let family = family_of(local.ip());
        let told = identity(local, remote, cookie);
        match self.kill(family, &told) {
            Ok(()) => return true,
            Err(Errno::EOPNOTSUPP) => {
                self.unsupported = true;
                return false;
            }
            // ENOENT: nobody has these ends. ESTALE: somebody else has.
            Err(_) => {}
        }
        [AddressFamily::Inet, AddressFamily::Inet6]
            .into_iter()
            .any(|family| {
                let found = self.find(family, cookie).ok().flatten();
                found.is_some_and(|identity| self.kill(family, &identity).is_ok())
            })
    }

    fn kill(&mut self, family: AddressFamily, identity: &Identity) -> Result<(), Errno> {
        let socket = self.socket()?;
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let message = request(SOCK_DESTROY, flags, family, identity);
        send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut buffer = vec![0; 4096];
        let size = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        messages(&buffer[..size])
            .find_map(|(kind, body)| (kind == libc::NLMSG_ERROR as u16).then(|| error(body)))
            .unwrap_or(Err(Errno::EPROTO))
    }

    fn find(&mut self, family: AddressFamily, cookie: u64) -> Result<Option<Identity>, Errno> {
        let socket = self.socket()?;
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let message = request(SOCK_DIAG_BY_FAMILY, flags, family, &[0; IDENTITY_SIZE]);
        send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut buffer = vec![0; 32 * 1024];
        let mut found = None;
        loop {
            let size = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for (kind, body) in messages(&buffer[..size]) {
                if kind == libc::NLMSG_DONE as u16 {
                    return Ok(found);
                }
                if kind == libc::NLMSG_ERROR as u16 {
                    return error(body).map(|()| found);
                }
                let identity: Option<Identity> = body
                    .get(IDENTITY..)
                    .and_then(|rest| rest.first_chunk().copied());
                if let Some(identity) = identity
                    && identity[COOKIE..] == cookie_words(cookie)
                {
                    found = Some(identity);
                }
            }
        }
    }

    /// Opened when it is first needed. The kernel answers at once; what it does not answer is not waited for.
    fn socket(&mut self) -> Result<&OwnedFd, Errno> {
        const PATIENCE_MS: i64 = 200;
        if self.socket.is_none() {
            let opened = socket(
                AddressFamily::Netlink,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkSockDiag,
            )?;
            setsockopt(
                &opened,
                sockopt::ReceiveTimeout,
                &TimeVal::milliseconds(PATIENCE_MS),
            )?;
            self.socket = Some(opened);
        }
        self.socket.as_ref().ok_or(Errno::EBADF)
    }
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// A header and a `struct inet_diag_req_v2` for TCP sockets of any state.
fn request(kind: u16, flags: i32, family: AddressFamily, identity: &Identity) -> Vec<u8> {
    const BODY: usize = 8 + IDENTITY_SIZE;
    const ANY_STATE: u32 = u32::MAX;
    let mut message = Vec::with_capacity(HEADER + BODY);
    message.extend(((HEADER + BODY) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family as u8, steer_common::packet::TCP as u8, 0, 0]);
    message.extend(ANY_STATE.to_ne_bytes());
    message.extend(identity);
    message
}

fn identity(local: SocketAddr, remote: SocketAddr, cookie: u64) -> Identity {
    let mut identity = [0; IDENTITY_SIZE];
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

/// The messages of what was received: their types and bodies.
fn messages(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = octets.first_chunk::<HEADER>()?;
        let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _, _, _] = *header;
        let size = u32::from_ne_bytes([a, b, c, d]) as usize;
        let message = octets.get(..size)?;
        let body = message.get(HEADER..)?;
        octets = octets.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(kind), body))
    })
}

/// What an acknowledgment says: a negative error number, or zero.
fn error(body: &[u8]) -> Result<(), Errno> {
    let number = body
        .first_chunk()
        .map_or(0, |octets| i32::from_ne_bytes(*octets));
    if number == 0 {
        Ok(())
    } else {
        Err(Errno::from_raw(-number))
    }
}
