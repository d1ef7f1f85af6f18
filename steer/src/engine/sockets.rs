//! Sockets of processes that are connected by the VPN: `ss -tun state connected`, those with steer's mark.
//!
//! A process's connection is marked once, when it begins, and leaves no other trace however long it idles.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use steer_common::{
    packet::{TCP, UDP},
    types::Address,
};

use crate::route::Mark;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Octets of `struct inet_diag_msg`, and where the far address and the family are in it.
const MESSAGE: usize = 72;
const REMOTE: usize = 24;
const INET_DIAG_MARK: u16 = 15;
/// `TCP_ESTABLISHED`, `TCP_SYN_SENT` and `TCP_CLOSE_WAIT`; the first is that of connected datagram sockets too.
const STATES: u32 = 1 << 1 | 1 << 2 | 1 << 8;

/// The far addresses of this network namespace's sockets that have the mark.
pub(super) fn remotes(mark: Mark) -> io::Result<Vec<Address>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut remotes = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [TCP, UDP] {
            socket.send(&request(family, protocol), 0)?;
            read(&socket, mark, &mut remotes)?;
        }
    }
    Ok(remotes)
}

/// A dump of `struct inet_diag_req_v2`.
fn request(family: libc::c_int, protocol: u32) -> Vec<u8> {
    const SOCKET_ID: usize = 48;
    const FLAGS: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut body = vec![family as u8, protocol as u8, 0, 0];
    body.extend(STATES.to_ne_bytes());
    body.extend([0; SOCKET_ID]);
    let length = (HEADER + body.len()) as u32;
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    octets.extend(FLAGS.to_ne_bytes());
    octets.extend([0; 8]);
    octets.extend(body);
    octets
}

fn read(socket: &Socket, mark: Mark, remotes: &mut Vec<Address>) -> io::Result<()> {
    loop {
        let (octets, _) = socket.recv_from_full()?;
        let mut rest = &octets[..];
        while let Some((length, kind)) = number(rest, 0).zip(short(rest, 4)) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let body = rest.get(HEADER..length).ok_or_else(cut_short)?;
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = number(body, 0).ok_or_else(cut_short)?.cast_signed();
                    // A kernel without the module for this protocol.
                    if code == -libc::ENOENT {
                        return Ok(());
                    }
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => remotes.extend(remote(body, mark)),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The far address of a socket in a message about it, if it has the mark.
fn remote(body: &[u8], mark: Mark) -> Option<Address> {
    let (message, mut rest) = body.split_at_checked(MESSAGE)?;
    let marked = loop {
        let (length, kind) = short(rest, 0).zip(short(rest, 2))?;
        if kind == INET_DIAG_MARK {
            break number(rest, 4)?;
        }
        rest = rest.get(usize::from(length.max(4)).next_multiple_of(4)..)?;
    };
    if marked & mark.mask() != mark.value() {
        return None;
    }
    let octets: [u8; 16] = message.get(REMOTE..REMOTE + 16)?.try_into().ok()?;
    if libc::c_int::from(message[0]) == libc::AF_INET6 {
        return Some(Address::new(octets));
    }
    octets.first_chunk().copied().map(Address::v4)
}

fn number(octets: &[u8], at: usize) -> Option<u32> {
    let octets = octets.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(octets))
}

fn short(octets: &[u8], at: usize) -> Option<u16> {
    let octets = octets.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(octets))
}

fn cut_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a message of netlink is cut short",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(family: libc::c_int, remote: &[u8], mark: Option<u32>) -> Vec<u8> {
        let mut body = vec![0; MESSAGE];
        body[0] = family as u8;
        body[REMOTE..REMOTE + remote.len()].copy_from_slice(remote);
        // An attribute before it, of one octet and its padding.
        body.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        if let Some(mark) = mark {
            body.extend([8, 0, 15, 0]);
            body.extend(mark.to_ne_bytes());
        }
        body
    }

    #[test]
    fn only_sockets_with_the_mark_count() {
        let mark = Mark::new(0x1000, 0x3000).expect("a mark");
        let v4 = [192, 0, 2, 1];
        let read = |number| remote(&message(libc::AF_INET, &v4, number), mark);
        assert_eq!(read(Some(0x1000)), Some(Address::v4(v4)));
        assert_eq!(read(Some(0x51ff0)), Some(Address::v4(v4)));
        assert_eq!(read(Some(0x3000)), None);
        assert_eq!(read(None), None);
        let v6 = Address::v4(v4);
        let mapped = message(libc::AF_INET6, v6.octets(), Some(0x1000));
        assert_eq!(remote(&mapped, mark), Some(v6));
    }

    #[test]
    fn the_kernel_understands_the_question() {
        let mark = Mark::new(0x1000, 0x3000).expect("a mark");
        assert!(remotes(mark).is_ok());
    }
}
