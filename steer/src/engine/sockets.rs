//! Sockets of processes that have a far side: `ss -tun state connected`.

use nix::{errno::Errno, sys::socket::AddressFamily};
use steer_common::{
    packet::{TCP, UDP},
    types::{Address, Config, Path},
};

use crate::host::sock_diag::{SockDiag, Socket, Sockets};

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

/// The path that a socket is connected by: its mark is set once, when it connects, and leaves no other trace however long
/// it idles.
pub fn path(socket: &Socket, config: &Config) -> Path {
    let by_mark = |found| config.by_mark(found);
    socket.mark.map_or(Path::DIRECT, by_mark)
}

/// The far addresses of those that are connected by a VPN.
pub(super) fn remotes(config: &Config) -> Result<Vec<Address>, Errno> {
    let sockets = connected()?.into_iter();
    let by_vpn = sockets.filter(|(_, socket)| path(socket, config).is_vpn());
    Ok(by_vpn
        .map(|(_, socket)| socket.remote.ip().into())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_with_the_mark_count() {
        let mut config = Config {
            mask: 0x7000,
            ..Config::default()
        };
        (config.vpns[0].mark, config.vpns[1].mark) = (0x1000, 0x3000);
        let socket = |mark| Socket {
            local: "192.0.2.1:40000".parse().unwrap(),
            remote: "203.0.113.7:443".parse().unwrap(),
            cookie: 7,
            inode: 5,
            mark,
            cgroup: None,
        };
        for (number, by_vpn) in [
            (Some(0x1000), true),
            (Some(0x81ff0), true),
            (Some(0x3000), true),
            (Some(0x2000), false),
            (Some(0x5000), false),
            (None, false),
        ] {
            assert_eq!(path(&socket(number), &config).is_vpn(), by_vpn);
        }
    }

    #[test]
    fn the_kernel_understands_the_question() {
        assert!(connected().is_ok());
    }
}
