//! The kernel's list of sockets, by `NETLINK_SOCK_DIAG` (sock_diag(7)).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockProtocol},
};

use super::netlink::{Netlink, attributes};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

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
pub struct SockDiag(Netlink);

impl SockDiag {
    /// Opens one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, Errno> {
        Netlink::open(SockProtocol::NetlinkSockDiag).map(Self)
    }

    /// Destroys the socket of that identity.
    ///
    /// # Errors
    /// `ENOENT`: nobody has these ends. `ESTALE`: somebody else has. `EOPNOTSUPP`: a kernel without
    /// `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&self, sockets: Sockets, identity: &Identity) -> Result<(), Errno> {
        self.0.act(SOCK_DESTROY, &request(sockets, identity))
    }

    /// Shows each socket: a `struct inet_diag_msg` and its attributes. A kernel without the module for the protocol has none.
    ///
    /// # Errors
    /// When the kernel refuses or does not answer.
    pub fn each(&self, sockets: Sockets, visit: impl FnMut(&[u8])) -> Result<(), Errno> {
        let request = request(sockets, &[0; IDENTITY]);
        match self.0.each(SOCK_DIAG_BY_FAMILY, &request, visit) {
            Err(Errno::ENOENT) => Ok(()),
            result => result,
        }
    }
}

/// A `struct inet_diag_req_v2`.
fn request(sockets: Sockets, identity: &Identity) -> Vec<u8> {
    let mut body = vec![sockets.family as u8, sockets.protocol as u8, 0, 0];
    body.extend(sockets.states.to_ne_bytes());
    body.extend(identity);
    body
}

/// A socket with a far side, as the list shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its near side.
    pub local: SocketAddr,
    /// Its far side.
    pub remote: SocketAddr,
    /// Its number, unlike any other since boot.
    pub cookie: u64,
    /// The inode by which its process holds it.
    pub inode: u64,
    /// Its mark, which is shown to `CAP_NET_ADMIN` alone.
    pub mark: Option<u32>,
    /// The id of its cgroup, which kernels before 5.9 do not tell.
    pub cgroup: Option<u64>,
}

impl Socket {
    /// From a `struct inet_diag_msg` and its attributes.
    pub fn read(body: &[u8]) -> Option<Self> {
        /// Octets of the struct, and where in it things are.
        const MESSAGE: usize = 72;
        const PORTS: usize = 4;
        const LOCAL: usize = 8;
        const REMOTE: usize = 24;
        const COOKIE: usize = 44;
        const INODE: usize = 68;
        const INET_DIAG_MARK: u16 = 15;
        const INET_DIAG_CGROUP_ID: u16 = 21;
        let (message, rest) = body.split_at_checked(MESSAGE)?;
        let is_v6 = libc::c_int::from(message[0]) == libc::AF_INET6;
        let port = |at: usize| {
            Some(u16::from_be_bytes(
                message.get(at..at + 2)?.try_into().ok()?,
            ))
        };
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = message.get(at..at + 16)?.try_into().ok()?;
            Some(if is_v6 {
                Ipv6Addr::from(octets).to_canonical()
            } else {
                IpAddr::from(*octets.first_chunk::<4>()?)
            })
        };
        let word = |at: usize| -> Option<u32> {
            let octets = message.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(octets))
        };
        let mut socket = Self {
            local: SocketAddr::new(address(LOCAL)?, port(PORTS)?),
            remote: SocketAddr::new(address(REMOTE)?, port(PORTS + 2)?),
            // The lower half comes first, whatever the machine's order.
            cookie: u64::from(word(COOKIE)?) | u64::from(word(COOKIE + 4)?) << 32,
            inode: word(INODE)?.into(),
            mark: None,
            cgroup: None,
        };
        for (kind, value) in attributes(rest) {
            match kind {
                INET_DIAG_MARK => socket.mark = value.try_into().ok().map(u32::from_ne_bytes),
                INET_DIAG_CGROUP_ID => {
                    socket.cgroup = value.try_into().ok().map(u64::from_ne_bytes);
                }
                _ => {}
            }
        }
        Some(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_read_with_what_the_kernel_adds() {
        let mut body = vec![0; 72];
        body[0] = libc::AF_INET as u8;
        body[4..8].copy_from_slice(&[0x9c, 0x40, 1, 187]);
        body[8..12].copy_from_slice(&[192, 0, 2, 1]);
        body[24..28].copy_from_slice(&[203, 0, 113, 7]);
        (body[44], body[48]) = (7, 1);
        body[68] = 5;
        // An attribute of one octet and its padding, then the mark and the cgroup.
        body.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        body.extend([8, 0, 15, 0, 0, 0x10, 0, 0]);
        body.extend([12, 0, 21, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        let socket = Socket {
            local: "192.0.2.1:40000".parse().unwrap(),
            remote: "203.0.113.7:443".parse().unwrap(),
            cookie: 7 | 1 << 32,
            inode: 5,
            mark: Some(0x1000),
            cgroup: Some(9),
        };
        assert_eq!(Socket::read(&body), Some(socket));
        body[0] = libc::AF_INET6 as u8;
        body[8..24].copy_from_slice(&"::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
        body[24..40].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        let socket = Socket {
            remote: "[2001:db8::1]:443".parse().unwrap(),
            ..socket
        };
        assert_eq!(Socket::read(&body), Some(socket));
        assert_eq!(Socket::read(&body[..71]), None);
    }
}
