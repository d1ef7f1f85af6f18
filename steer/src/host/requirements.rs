//! What the kernel and the process must offer before anything is attached.

use caps::{CapSet, Capability};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::sys::utsname::uname;
use std::fmt;
use std::path::{Path, PathBuf};

/// The oldest kernel with all that the programs use.
const OLDEST_KERNEL: KernelVersion = KernelVersion {
    major: 5,
    minor: 10,
};
/// Type information of the running kernel.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What is missing, and how to get it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The kernel is too old.
    #[error(
        "steer needs Linux {OLDEST_KERNEL} or later, and this is {release}; boot a newer kernel"
    )]
    Kernel {
        /// What `uname -r` says.
        release: String,
    },
    /// The process may not do it.
    #[error(
        "steer needs {missing}, which this process lacks; run it as root, for example with sudo"
    )]
    Capabilities {
        /// The capabilities, in words.
        missing: String,
    },
    /// The kernel says nothing of its types.
    #[error(
        "the kernel has no BTF at {BTF}; use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of all large distributions are"
    )]
    Btf,
    /// Nothing can be pinned.
    #[error("{} is not on a BPF file system{hint}", path.display())]
    BpfFs {
        /// The directory to pin in.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
}

/// Checks the kernel, the capabilities, BTF, and the place to pin in, and reports the first thing that is missing.
///
/// # Errors
/// That thing.
pub fn check(bpffs: &Path) -> Result<(), Unmet> {
    check_kernel(&release())?;
    check_capabilities(|capability| {
        caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
    })?;
    check_btf(Path::new(BTF))?;
    check_bpffs(bpffs)
}

fn release() -> String {
    uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct KernelVersion {
    major: u32,
    minor: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl KernelVersion {
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
        })
    }
}

fn check_kernel(release: &str) -> Result<(), Unmet> {
    // A release that cannot be read is a kernel of someone's own making, which the loader will judge.
    match KernelVersion::parse(release) {
        Some(version) if version < OLDEST_KERNEL => Err(Unmet::Kernel {
            release: release.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_capabilities(has: impl Fn(Capability) -> bool) -> Result<(), Unmet> {
    let all = has(Capability::CAP_SYS_ADMIN);
    let mut missing = Vec::new();
    if !has(Capability::CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN (to route and attach)");
    }
    if !all && !has(Capability::CAP_BPF) {
        missing.push("CAP_BPF (to load programs)");
    }
    if !all && !has(Capability::CAP_PERFMON) {
        missing.push("CAP_PERFMON (to load programs with loops)");
    }
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(Unmet::Capabilities {
            missing: missing.join(", "),
        }),
    }
}

fn check_btf(path: &Path) -> Result<(), Unmet> {
    if path.exists() {
        Ok(())
    } else {
        Err(Unmet::Btf)
    }
}

fn check_bpffs(path: &Path) -> Result<(), Unmet> {
    let existing = path
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    if statfs(existing).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    let hint = if path.starts_with("/sys/fs/bpf") {
        "; mount one with mount -t bpf bpf /sys/fs/bpf".to_owned()
    } else {
        "; give a directory below one, such as /sys/fs/bpf/steer".to_owned()
    };
    Err(Unmet::BpfFs {
        path: path.to_owned(),
        hint,
    })
}
