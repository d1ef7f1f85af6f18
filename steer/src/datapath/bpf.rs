//! The system call bpf, for what aya has no call for.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::programs::TcAttachType;

/// Numbers of `enum bpf_cmd`.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
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

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    hook: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    each_attach_flags: u64,
    links: u64,
    each_link_flags: u64,
    revision: u64,
}

impl Attributes for Query {
    const COMMAND: libc::c_int = BPF_PROG_QUERY;
}

#[repr(C)]
struct Batch<const COMMAND: libc::c_int> {
    begin: u64,
    end: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

impl<const COMMAND: libc::c_int> Attributes for Batch<COMMAND> {
    const COMMAND: libc::c_int = COMMAND;
}

/// Opens what is pinned at a path.
pub(super) fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    open(&mut Get {
        path: path.as_ptr().addr() as u64,
        fd: 0,
        flags: 0,
    })
}

/// Puts a program into a link in place of the one that is in it.
pub(super) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Update {
        link: number(link),
        program: number(program),
        flags: 0,
        old_program: 0,
    };
    bpf(&mut attributes).map(drop)
}

/// The ids of the programs on a tcx hook of an interface (6.6 and later), in the order in which they run.
pub(super) fn tcx(index: u32, hook: TcAttachType) -> io::Result<Vec<u32>> {
    /// As many as there can be (`BPF_MPROG_MAX`).
    const MOST: usize = 64;
    /// Numbers of `enum bpf_attach_type`.
    const BPF_TCX_INGRESS: u32 = 46;
    const BPF_TCX_EGRESS: u32 = 47;
    let mut ids = [0_u32; MOST];
    let mut attributes = Query {
        target: index,
        hook: match hook {
            TcAttachType::Egress => BPF_TCX_EGRESS,
            TcAttachType::Ingress | TcAttachType::Custom(_) => BPF_TCX_INGRESS,
        },
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    bpf(&mut attributes)?;
    let count = (attributes.count as usize).min(MOST);
    Ok(ids[..count].to_vec())
}

fn number(file: BorrowedFd<'_>) -> u32 {
    file.as_raw_fd().cast_unsigned()
}

/// For a command that makes or opens a file.
fn open<T: Attributes>(attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(attributes)?;
    // SAFETY: the kernel has just made this file for us, so nobody else closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts entries into a hash map, many in one call (5.6 and later).
///
/// # Errors
/// When the map is full. Entries before the one that found no room are in it.
pub(super) fn update_batch<K: aya::Pod, V: aya::Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    let count = keys.len().min(values.len());
    bpf(&mut Batch::<BPF_MAP_UPDATE_BATCH> {
        begin: 0,
        end: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(count).map_err(io::Error::other)?,
        map: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    })
    .map(drop)
}

/// The entries of a hash map with room for so many, in one call (5.6 and later).
///
/// # Errors
/// When the kernel cannot read it.
pub(super) fn lookup_batch<K: aya::Pod, V: aya::Pod>(
    map: BorrowedFd<'_>,
    room: usize,
) -> io::Result<Vec<(K, V)>> {
    let mut keys: Vec<K> = Vec::with_capacity(room);
    let mut values: Vec<V> = Vec::with_capacity(room);
    let mut next = 0_u32;
    let mut attributes = Batch::<BPF_MAP_LOOKUP_BATCH> {
        begin: 0,
        end: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(room).map_err(io::Error::other)?,
        map: number(map),
        element_flags: 0,
        flags: 0,
    };
    match bpf(&mut attributes) {
        // There are no more than these.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let count = (attributes.count as usize).min(room);
    // SAFETY: the kernel has written so many of each, which are no more than there was room for.
    unsafe {
        keys.set_len(count);
        values.set_len(count);
    }
    Ok(keys.into_iter().zip(values).collect())
}

fn bpf<T: Attributes>(attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` octets, which are this call's alone until it returns. The
    // path in `Get`, a string that ends with a zero, outlives the call; of what `Batch` points to the kernel reads
    // or writes `count` keys and values, of the sizes that their map has, and writes `end`; to `ids` of `Query` it writes no more than `count`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            T::COMMAND,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
