//! The system call bpf, for what aya has no call for: programs of a few instructions, and test runs of any.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

use super::code::Instruction;

/// Numbers of `enum bpf_cmd`.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const ENABLE_STATS: libc::c_int = 32;

/// Numbers of `enum bpf_map_type`.
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;

/// A kind of program: its numbers in `enum bpf_prog_type` and `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug)]
pub struct Type(u32, u32);

impl Type {
    /// On an interface.
    pub const CLASSIFIER: Self = Self(3, 0);
    /// On a cgroup, for what it receives.
    pub const CGROUP_INGRESS: Self = Self(8, 0);
    /// On a cgroup, for what it sends.
    pub const CGROUP_EGRESS: Self = Self(8, 1);
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

#[repr(C)]
struct Create {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
}

#[repr(C)]
struct Update {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Batch {
    begin: u64,
    end: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    nanoseconds: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

#[repr(C)]
struct Info {
    file: u32,
    size: u32,
    info: u64,
}

/// Loads a program.
///
/// # Errors
/// When the kernel refuses it.
pub fn load(kind: Type, code: &[Instruction]) -> Result<OwnedFd> {
    let licence = c"Dual MIT/GPL";
    let mut attributes = Load {
        kind: kind.0,
        attach: kind.1,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        licence: licence.as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the instructions and the licence outlive the call.
    unsafe { open(PROG_LOAD, &mut attributes) }.context("a program of the benchmark does not load")
}

/// Makes an array of values of a size.
///
/// # Errors
/// When there is no memory for it.
pub fn array(size: u32, entries: u32) -> Result<OwnedFd> {
    let mut attributes = Create {
        kind: ARRAY,
        key: 4,
        value: size,
        entries,
    };
    // SAFETY: nothing is pointed to.
    unsafe { open(MAP_CREATE, &mut attributes) }.context("an array of the benchmark cannot be made")
}

/// Makes an array of one program.
///
/// # Errors
/// When there is no memory for it.
pub fn program_array() -> Result<OwnedFd> {
    let mut attributes = Create {
        kind: PROG_ARRAY,
        key: 4,
        value: 4,
        entries: 1,
    };
    // SAFETY: nothing is pointed to.
    unsafe { open(MAP_CREATE, &mut attributes) }.context("an array of programs cannot be made")
}

/// Sets the first entry of an array, whose values have the size of this one.
///
/// # Errors
/// When the kernel refuses it.
pub fn set_first<T>(array: BorrowedFd<'_>, value: &T) -> Result<()> {
    let key = 0_u32;
    let mut attributes = Update {
        map: number(array),
        padding: 0,
        key: (&raw const key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    // SAFETY: key and value outlive the call, and are of the sizes that the arrays here have.
    unsafe { call(MAP_UPDATE_ELEM, &mut attributes) }.context("an array cannot be written")?;
    Ok(())
}

/// Fills an array with `rows`, each of `size` octets.
///
/// # Errors
/// When the kernel refuses it.
pub fn fill(array: BorrowedFd<'_>, rows: &[u8], size: usize) -> Result<()> {
    let keys: Vec<u32> = (0..(rows.len() / size) as u32).collect();
    let mut attributes = Batch {
        begin: 0,
        end: 0,
        keys: keys.as_ptr() as u64,
        values: rows.as_ptr() as u64,
        count: keys.len() as u32,
        map: number(array),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: there are `count` keys and rows, which outlive the call.
    unsafe { call(MAP_UPDATE_BATCH, &mut attributes) }.context("an array cannot be filled")?;
    Ok(())
}

/// What a test run is given.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The packet, from its Ethernet header on.
    pub frame: &'a [u8],
    /// The interface that it is on; zero for `lo`.
    pub interface: u32,
    /// How often it runs.
    pub repeat: u32,
}

/// Runs a program again and again; returns its last result and the nanoseconds of one run, on average.
///
/// # Errors
/// When the kernel does not.
pub fn test_run(program: BorrowedFd<'_>, run: Run<'_>) -> Result<(i32, u32)> {
    /// Where a `struct __sk_buff` has it.
    const INTERFACE: usize = 40;
    let mut context = [0_u8; 192];
    context[INTERFACE..INTERFACE + 4].copy_from_slice(&run.interface.to_ne_bytes());
    let mut attributes = TestRun {
        program: number(program),
        size_in: run.frame.len() as u32,
        data_in: run.frame.as_ptr() as u64,
        repeat: run.repeat,
        context_size_in: context.len() as u32,
        context_in: context.as_ptr() as u64,
        ..TestRun::default()
    };
    // SAFETY: frame and context are as long as is said, and outlive the call.
    unsafe { call(PROG_TEST_RUN, &mut attributes) }.context("a program cannot be run by hand")?;
    Ok((attributes.result.cast_signed(), attributes.nanoseconds))
}

/// Has the kernel measure every program until this is dropped.
///
/// # Errors
/// When it cannot.
pub fn enable_statistics() -> Result<OwnedFd> {
    // `BPF_STATS_RUN_TIME`.
    let mut run_time = 0_u32;
    // SAFETY: nothing is pointed to.
    unsafe { open(ENABLE_STATS, &mut run_time) }.context("the kernel does not measure programs")
}

/// How often a program ran while that was measured, and how many nanoseconds that took in all.
///
/// # Errors
/// When the kernel does not tell.
pub fn statistics(program: BorrowedFd<'_>) -> Result<(u64, u64)> {
    /// Where a `struct bpf_prog_info` has them.
    const NANOSECONDS: usize = 192 / 8;
    const RUNS: usize = 200 / 8;
    let mut info = [0_u64; 26];
    let mut attributes = Info {
        file: number(program),
        size: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel writes no more than `size` octets, and takes no pointer from what is all zero.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut attributes) }.context("a program tells nothing")?;
    Ok((info[RUNS], info[NANOSECONDS]))
}

fn number(file: BorrowedFd<'_>) -> u32 {
    file.as_raw_fd().cast_unsigned()
}

/// For a command that makes a file.
///
/// # Safety
/// As for [`call`].
unsafe fn open<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's to see to.
    let file = unsafe { call(command, attributes) }?;
    // SAFETY: the kernel has just made this file for us, so nobody else closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// Calls the kernel.
///
/// # Safety
/// What the attributes point to is there until this returns, as long as they say, and may be written where the command writes.
unsafe fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes are this call's alone until it returns; of what they point to, the caller's to see to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
