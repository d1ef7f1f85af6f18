//! Netlink sockets for what no library asks: a question, and its answer or its list.

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

/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A netlink socket of this network namespace.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one. The kernel answers at once; what it does not answer is not waited for.
    ///
    /// # Errors
    /// When the kernel refuses, or has no such protocol.
    pub fn open(protocol: SockProtocol) -> Result<Self, Errno> {
        const PATIENCE_MS: i64 = 200;
        let opened = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        let patience = TimeVal::milliseconds(PATIENCE_MS);
        setsockopt(&opened, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self(opened))
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn act(&self, kind: u16, body: &[u8]) -> Result<(), Errno> {
        self.send(kind, libc::NLM_F_REQUEST | libc::NLM_F_ACK, body)?;
        let octets = self.receive()?;
        messages(&octets)
            .find_map(|(kind, body)| (kind == libc::NLMSG_ERROR as u16).then(|| error(body)))
            .unwrap_or(Err(Errno::EPROTO))
    }

    /// Asks for a list, and shows the body of each message of it.
    ///
    /// # Errors
    /// What the kernel answers; also when it does not answer in time.
    pub fn each(&self, kind: u16, body: &[u8], mut visit: impl FnMut(&[u8])) -> Result<(), Errno> {
        self.send(kind, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, body)?;
        loop {
            for (kind, body) in messages(&self.receive()?) {
                if kind == libc::NLMSG_DONE as u16 {
                    return Ok(());
                }
                if kind == libc::NLMSG_ERROR as u16 {
                    return error(body);
                }
                visit(body);
            }
        }
    }

    fn send(&self, kind: u16, flags: i32, body: &[u8]) -> Result<(), Errno> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags as u16).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty()).map(drop)
    }

    fn receive(&self) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; 32 * 1024];
        let size = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        buffer.truncate(size);
        Ok(buffer)
    }
}

/// Attributes one after another, or nested in one: their types and values.
pub fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    const FLAGS: u16 = 0xc000;
    const HEADER: usize = 4;
    std::iter::from_fn(move || {
        let [a, b, c, d] = *octets.first_chunk::<HEADER>()?;
        let size = usize::from(u16::from_ne_bytes([a, b]));
        let value = octets.get(HEADER..size)?;
        octets = octets.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !FLAGS, value))
    })
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
