//! Another program in a link that is pinned, which aya has for no cgroup's link.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use super::{bpf, error::Error, pins};

/// Puts a program into the link pinned at `path`, in place of the one that is in it, so that every packet meets one of
/// the two. None if there is no link, or none that takes it: what that one was attached to may be gone, and then it is
/// of no use any more (ENOLINK). Its pin is removed.
pub(super) fn replace(path: &Path, program: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
    let link = match bpf::get(path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(pins::file(path, "opened", source)),
    };
    match bpf::update(link.as_fd(), program) {
        Ok(()) => Ok(Some(link)),
        Err(error) => {
            tracing::debug!("{}: {error}", path.display());
            pins::unlink(path)?;
            Ok(None)
        }
    }
}
