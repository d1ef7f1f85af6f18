//! The kernel's list of sockets, by `NETLINK_SOCK_DIAG` (sock_diag(7)).

use std::os::fd::{AsRawFd as _, OwnedFd};

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

/// Any state of a socket, in [`Sockets::states`].
pub const ANY_STATE: u32 = u32::MAX;
/// Octets of an [`Identity`].
pub const IDENTITY: usize = 48;

/// `struct inet_diag_sockid`: both ends, the interface and the cookie.
pub type Identity = [u8; IDENTITY];

/// Sockets of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    /// IPv4 or IPv6.
    pub family: AddressFamily,
    /// Protocol number of IP.
    pub protocol: u32,
    /// A bit for each state (`TCP_ESTABLISHED` and so on), counted from the lowest.
    pub states: u32,
}

/// A socket to the list of sockets of its network namespace.
#[derive(Debug)]
pub struct SockDiag(OwnedFd);

impl SockDiag {
    /// Opens one. The kernel answers at once; what it does not answer is not waited for.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, Errno> {
        const PATIENCE_MS: i64 = 200;
        let opened = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        let patience = TimeVal::milliseconds(PATIENCE_MS);
        setsockopt(&opened, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self(opened))
    }

    /// Destroys the socket of that identity.
    ///
    /// # Errors
    /// `ENOENT`: nobody has these ends. `ESTALE`: somebody else has. `EOPNOTSUPP`: a kernel without
    /// `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&self, sockets: Sockets, identity: &Identity) -> Result<(), Errno> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        self.send(SOCK_DESTROY, flags, sockets, identity)?;
        let octets = self.receive()?;
        messages(&octets)
            .find_map(|(kind, body)| (kind == libc::NLMSG_ERROR as u16).then(|| error(body)))
            .unwrap_or(Err(Errno::EPROTO))
    }

    /// Shows each socket: a `struct inet_diag_msg` and its attributes. A kernel without the module for the protocol has none.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn each(&self, sockets: Sockets, mut visit: impl FnMut(&[u8])) -> Result<(), Errno> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        self.send(SOCK_DIAG_BY_FAMILY, flags, sockets, &[0; IDENTITY])?;
        loop {
            for (kind, body) in messages(&self.receive()?) {
                if kind == libc::NLMSG_DONE as u16 {
                    return Ok(());
                }
                if kind == libc::NLMSG_ERROR as u16 {
                    return match error(body) {
                        Err(Errno::ENOENT) => Ok(()),
                        result => result,
                    };
                }
                visit(body);
            }
        }
    }

    /// A header and a `struct inet_diag_req_v2`.
    fn send(
        &self,
        kind: u16,
        flags: i32,
        sockets: Sockets,
        identity: &Identity,
    ) -> Result<(), Errno> {
        const BODY: usize = 8 + IDENTITY;
        let mut message = Vec::with_capacity(HEADER + BODY);
        message.extend(((HEADER + BODY) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags as u16).to_ne_bytes());
        message.extend([0; 8]);
        message.extend([sockets.family as u8, sockets.protocol as u8, 0, 0]);
        message.extend(sockets.states.to_ne_bytes());
        message.extend(identity);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty()).map(drop)
    }

    fn receive(&self) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; 32 * 1024];
        let size = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        buffer.truncate(size);
        Ok(buffer)
    }
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
