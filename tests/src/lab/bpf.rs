//! Programs of others, for cgroups of the box.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Lab, Ns};

/// Where on a cgroup a program is, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// As bpftool calls it.
    pub name: &'static str,
    /// Of `enum bpf_prog_type`.
    kind: u32,
    /// Of `enum bpf_attach_type`.
    attached_as: u32,
}

impl Hook {
    /// Before a connection over IPv4.
    pub const CONNECT4: Self = Self::new("connect4", 18, 10);

    /// Some on which steer has programs of its own.
    pub const SHARED: [Self; 5] = [
        Self::new("ingress", 8, 0),
        Self::new("egress", 8, 1),
        Self::CONNECT4,
        Self::new("connect6", 18, 11),
        Self::new("sendmsg4", 18, 14),
    ];

    const fn new(name: &'static str, kind: u32, attached_as: u32) -> Self {
        Self {
            name,
            kind,
            attached_as,
        }
    }
}

/// Numbers of `enum bpf_cmd`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attached_as: u32,
}

#[repr(C)]
struct Pin {
    path: u64,
    program: u32,
    flags: u32,
}

impl Lab {
    /// Puts a program that lets everything pass on a hook of a cgroup of the box, with a flag of bpftool's such as `multi`.
    pub fn attach_other(&self, cgroup: &str, hook: Hook, flag: &str) -> Result<()> {
        self.other(cgroup, hook, "attach", flag)
    }

    /// Takes it away again.
    pub fn detach_other(&self, cgroup: &str, hook: Hook) -> Result<()> {
        self.other(cgroup, hook, "detach", "")?;
        let pin = self.other_pin(hook);
        fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))
    }

    fn other(&self, cgroup: &str, hook: Hook, verb: &str, flag: &str) -> Result<()> {
        let pin = self.other_pin(hook);
        if !pin.exists() {
            load(hook, &pin).with_context(|| format!("cannot load a program for {}", hook.name))?;
        }
        let line = format!(
            "bpftool cgroup {verb} {} {} pinned {} {flag}",
            self.box_cgroup(cgroup)?.display(),
            hook.name,
            pin.display()
        );
        self.shell(Ns::Box, &line).map(drop)
    }

    fn other_pin(&self, hook: Hook) -> PathBuf {
        self.bpffs().join(format!("other-{}", hook.name))
    }
}

/// Loads `r0 = 1; exit`, and pins it.
fn load(hook: Hook, pin: &Path) -> io::Result<()> {
    const PROGRAM: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];
    let license = c"GPL";
    let mut name = [0; 16];
    name[..5].copy_from_slice(b"other");
    let program = bpf(
        BPF_PROG_LOAD,
        &Load {
            kind: hook.kind,
            instructions_count: PROGRAM.len() as u32,
            instructions: PROGRAM.as_ptr() as u64,
            license: license.as_ptr() as u64,
            name,
            attached_as: hook.attached_as,
            ..Load::default()
        },
    )?;
    // SAFETY: the kernel has just made this file for us, so nobody else closes it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let path = CString::new(pin.as_os_str().as_bytes())?;
    bpf(
        BPF_OBJ_PIN,
        &Pin {
            path: path.as_ptr() as u64,
            program: program.as_raw_fd() as u32,
            flags: 0,
        },
    )
    .map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` octets, and what they point to, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
