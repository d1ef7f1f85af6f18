//! Sockets of processes that have a far side: `ss -tun state connected`.

use nix::{errno::Errno, sys::socket::AddressFamily};
use steer_common::{
    packet::{TCP, UDP},
    types::Address,
};

use crate::{
    host::sock_diag::{SockDiag, Socket, Sockets},
    route::Mark,
};

/// `TCP_ESTABLISHED`, `TCP_SYN_SENT` and `TCP_CLOSE_WAIT`; the first is that of connected datagram sockets too.
const STATES: u32 = 1 << 1 | 1 << 2 | 1 << 8;

/// Those of this network namespace, each with its protocol.
///
/// # Errors
/// When the kernel refuses or does not answer.
pub fn connected() -> Result<Vec<(u32, Socket)>, Errno> {
    let list = SockDiag::open()?;
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for protocol in [TCP, UDP] {
            let sockets = Sockets {
                family,
                protocol,
                states: STATES,
            };
            list.each(sockets, |body| {
                found.extend(Socket::read(body).map(|socket| (protocol, socket)));
            })?;
        }
    }
    Ok(found)
}

/// Whether a socket is connected by the VPN: its mark is set once, when it connects, and leaves no other trace however long
/// it idles.
pub fn is_by_vpn(socket: &Socket, mark: Mark) -> bool {
    socket
        .mark
        .is_some_and(|found| found & mark.mask() == mark.value())
}

/// The far addresses of those that are connected by the VPN.
pub(super) fn remotes(mark: Mark) -> Result<Vec<Address>, Errno> {
    let sockets = connected()?.into_iter();
    let by_vpn = sockets.filter(|(_, socket)| is_by_vpn(socket, mark));
    Ok(by_vpn
        .map(|(_, socket)| socket.remote.ip().into())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_with_the_mark_count() {
        let mark = Mark::new(0x1000, 0x3000).expect("a mark");
        let socket = |mark| Socket {
            local: "192.0.2.1:40000".parse().unwrap(),
            remote: "203.0.113.7:443".parse().unwrap(),
            inode: 5,
            mark,
            cgroup: None,
        };
        for (number, by_vpn) in [
            (Some(0x1000), true),
            (Some(0x51ff0), true),
            (Some(0x3000), false),
            (None, false),
        ] {
            assert_eq!(is_by_vpn(&socket(number), mark), by_vpn);
        }
    }

    #[test]
    fn the_kernel_understands_the_question() {
        assert!(connected().is_ok());
    }
}
