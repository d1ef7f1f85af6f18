//! Who may ask: root, and the members of the group `steer`, if there is one.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::{Gid, Group},
};

/// The group whose members may ask besides root.
pub const GROUP: &str = "steer";

/// Who may ask.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    group: Option<Gid>,
}

impl Access {
    /// As the host's groups are now.
    pub fn of_host() -> Self {
        let group = Group::from_name(GROUP).ok().flatten();
        Self {
            group: group.map(|group| group.gid),
        }
    }

    /// Whether anybody but root may ask, so that the socket must be within everybody's reach.
    pub fn is_shared(&self) -> bool {
        self.group.is_some()
    }

    /// Whether the one at the other end may ask, by what it was when it connected.
    pub fn allows(&self, peer: BorrowedFd<'_>) -> bool {
        let Ok(credentials) = getsockopt(&peer, PeerCredentials) else {
            return false;
        };
        if credentials.uid() == 0 {
            return true;
        }
        self.group.is_some_and(|group| {
            credentials.gid() == group.as_raw()
                || groups(peer).is_ok_and(|groups| groups.contains(&group.as_raw()))
        })
    }
}

/// The supplementary groups of the one at the other end (`SO_PEERGROUPS`, 4.13).
fn groups(peer: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    const FIRST_TRY: usize = 64;
    let mut groups = vec![0; FIRST_TRY];
    loop {
        let room = groups.len() * size_of::<libc::gid_t>();
        let mut size = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the kernel writes no more than `size` octets to `groups`, which has as many, and the size to `size`.
        let result = unsafe {
            libc::getsockopt(
                peer.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        let count = size as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It says how much room it takes.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{getgroups, getuid};
    use std::{
        collections::BTreeSet,
        os::{fd::AsFd as _, unix::net::UnixStream},
    };

    #[test]
    fn the_groups_of_the_other_end_are_those_of_its_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let found: BTreeSet<_> = groups(one.as_fd()).unwrap().into_iter().collect();
        let own = getgroups().unwrap();
        assert_eq!(found, own.into_iter().map(Gid::as_raw).collect());
    }

    #[test]
    fn without_the_group_only_root_may_ask() {
        let (one, _other) = UnixStream::pair().unwrap();
        let access = Access { group: None };
        assert_eq!(access.allows(one.as_fd()), getuid().is_root());
    }
}
