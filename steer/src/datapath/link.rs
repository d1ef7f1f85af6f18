//! Another program in a link that is pinned: `BPF_OBJ_GET` and `BPF_LINK_UPDATE`, which aya has for no cgroup's link.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::{error::Error, pins};

/// Numbers of `enum bpf_cmd`.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_UPDATE: libc::c_int = 29;

/// What of `union bpf_attr` a command reads; the kernel takes what is missing as zero.
trait Attributes {
    const COMMAND: libc::c_int;
}

#[repr(C)]
struct Get {
    path: u64,
    fd: u32,
    flags: u32,
}

impl Attributes for Get {
    const COMMAND: libc::c_int = BPF_OBJ_GET;
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

impl Attributes for Update {
    const COMMAND: libc::c_int = BPF_LINK_UPDATE;
}

/// Puts a program into the link pinned at `path`, in place of the one that is in it, so that every packet meets one of
/// the two. None if there is no link, or none that takes it: what that one was attached to may be gone, and then it is
/// of no use any more (ENOLINK). Its pin is removed.
pub(super) fn replace(path: &Path, program: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
    let link = match open(path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(pins::file(path, "opened", source)),
    };
    match update(link.as_fd(), program) {
        Ok(()) => Ok(Some(link)),
        Err(error) => {
            tracing::debug!("{}: {error}", path.display());
            pins::unlink(path)?;
            Ok(None)
        }
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = bpf(&Get {
        path: path.as_ptr().addr() as u64,
        fd: 0,
        flags: 0,
    })?;
    // SAFETY: the kernel has just made this file for us, so nobody else closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Update {
        link: number(link),
        program: number(program),
        flags: 0,
        old_program: 0,
    };
    bpf(&attributes).map(drop)
}

fn number(file: BorrowedFd<'_>) -> u32 {
    file.as_raw_fd().cast_unsigned()
}

fn bpf<T: Attributes>(attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads `size_of::<T>()` octets, which are there until it returns; of the two commands none
    // writes to them. The path in `Get` is a string that ends with a zero and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            T::COMMAND,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
