//! The network namespace of this process.

use std::fmt;
use std::io;
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
    option(&socket, libc::SO_NETNS_COOKIE).ok().map(NetnsCookie)
}

/// The cookie of a socket (`SO_COOKIE`): what `bpf_get_socket_cookie` returns.
///
/// # Errors
/// The kernel does not say.
pub fn socket_cookie(socket: &impl AsRawFd) -> io::Result<u64> {
    option(socket, libc::SO_COOKIE)
}

fn option(socket: &impl AsRawFd, name: libc::c_int) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
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
