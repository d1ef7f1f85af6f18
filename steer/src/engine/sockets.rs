//! Sockets of processes that are connected by the VPN: `ss -tun state connected`, those with steer's mark.
//!
//! A process's connection is marked once, when it begins, and leaves no other trace however long it idles.

use nix::{errno::Errno, sys::socket::AddressFamily};
use steer_common::{
    packet::{TCP, UDP},
    types::Address,
};

use crate::{
    host::sock_diag::{SockDiag, Sockets},
    route::Mark,
};

/// Octets of `struct inet_diag_msg`, and where the far address and the family are in it.
const MESSAGE: usize = 72;
const REMOTE: usize = 24;
const INET_DIAG_MARK: u16 = 15;
/// `TCP_ESTABLISHED`, `TCP_SYN_SENT` and `TCP_CLOSE_WAIT`; the first is that of connected datagram sockets too.
const STATES: u32 = 1 << 1 | 1 << 2 | 1 << 8;

/// The far addresses of this network namespace's sockets that have the mark.
pub(super) fn remotes(mark: Mark) -> Result<Vec<Address>, Errno> {
    let list = SockDiag::open()?;
    let mut remotes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for protocol in [TCP, UDP] {
            let sockets = Sockets {
                family,
                protocol,
                states: STATES,
            };
            list.each(sockets, |body| remotes.extend(remote(body, mark)))?;
        }
    }
    Ok(remotes)
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
