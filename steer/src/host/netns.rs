//! The network namespace of this process.

use std::fmt;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// The kernel's name for a network namespace: never reused while the machine runs. What `bpf_get_netns_cookie` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsCookie(pub u64);

impl fmt::Display for NetnsCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The cookie of this process' network namespace (`SO_NETNS_COOKIE`); none before 5.14.
pub fn cookie() -> Option<NetnsCookie> {
    // Unbound and unused: any socket of the namespace does, and binding needs no interface.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `cookie`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(NetnsCookie(cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_stays_the_same() {
        let first = cookie();
        assert_eq!(first, cookie());
        assert_ne!(first, Some(NetnsCookie(0)));
    }
}
