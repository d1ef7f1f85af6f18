//! What the kernel and the process must offer before anything is attached.

use caps::{CapSet, Capability};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::sys::utsname::uname;
use std::fmt;
use std::path::{Path, PathBuf};

/// The oldest kernel that steer is tried on. What it cannot do without came with 5.8: ring buffers, and socket options
/// set by programs for connect (`docs/kernels.md`).
const OLDEST_KERNEL: KernelVersion = KernelVersion {
    major: 5,
    minor: 10,
};
/// The first kernel that counts maps against the memory of a cgroup, rather than against `RLIMIT_MEMLOCK`.
const MAPS_BY_CGROUP: KernelVersion = KernelVersion {
    major: 5,
    minor: 11,
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
    /// Maps would not fit.
    #[error(
        "Linux {release} counts the memory of BPF maps against RLIMIT_MEMLOCK, which this process may not raise; run it as root, or set LimitMEMLOCK=infinity in its unit"
    )]
    Memlock {
        /// The kernel's version.
        release: KernelVersion,
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
    check_privileges()?;
    raise_memlock(KernelVersion::parse(&release()))?;
    check_btf(Path::new(BTF))?;
    check_bpffs(bpffs)
}

/// Checks the kernel's version alone.
///
/// # Errors
/// It is too old.
pub fn check_version() -> Result<(), Unmet> {
    check_kernel(&release())
}

/// Checks that the kernel tells its types.
///
/// # Errors
/// It does not.
pub fn check_types() -> Result<(), Unmet> {
    check_btf(Path::new(BTF))
}

/// Checks that what is pinned in a directory would be kept.
///
/// # Errors
/// It is not on a BPF file system.
pub fn check_pins(bpffs: &Path) -> Result<(), Unmet> {
    check_bpffs(bpffs)
}

/// Checks the capabilities alone, which removing what a run left needs as well.
///
/// # Errors
/// Those that are missing.
pub fn check_privileges() -> Result<(), Unmet> {
    check_capabilities(|capability| {
        caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
    })
}

/// The version of the running kernel, as far as it tells one: "6.1".
pub fn kernel() -> String {
    let release = release();
    KernelVersion::parse(&release).map_or(release, |version| version.to_string())
}

fn release() -> String {
    uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The first two numbers of a kernel's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
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

/// Lifts the limit that maps count against before 5.11, and which nothing else of steer's does later.
fn raise_memlock(version: Option<KernelVersion>) -> Result<(), Unmet> {
    let unlimited = (RLIM_INFINITY, RLIM_INFINITY);
    if getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|limits| limits == unlimited) {
        return Ok(());
    }
    let raised = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    match (raised, version) {
        (Err(_), Some(release)) if release < MAPS_BY_CGROUP => Err(Unmet::Memlock { release }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_refused_by_name() {
        for release in [
            "5.10.0-46-amd64",
            "5.15.0-91-generic",
            "6.8.0-31-generic",
            "6.18.5+deb13",
            "7.0-rc1",
            "10.0",
            "custom",
        ] {
            assert_eq!(check_kernel(release), Ok(()), "{release}");
        }
        assert_eq!(
            check_kernel("5.9.0-5-amd64").unwrap_err().to_string(),
            "steer needs Linux 5.10 or later, and this is 5.9.0-5-amd64; boot a newer kernel"
        );
        assert!(check_kernel("4.19.0-27-amd64").is_err());
    }

    #[test]
    fn capabilities_that_are_missing_are_listed() {
        use Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN};
        let check =
            |held: &[Capability]| check_capabilities(|capability| held.contains(&capability));
        assert_eq!(check(&[CAP_NET_ADMIN, CAP_SYS_ADMIN]), Ok(()));
        assert_eq!(check(&[CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON]), Ok(()));
        assert_eq!(
            check(&[]).unwrap_err().to_string(),
            "steer needs CAP_NET_ADMIN (to route and attach), CAP_BPF (to load programs), CAP_PERFMON (to load programs with loops), which this process lacks; run it as root, for example with sudo"
        );
        assert_eq!(
            check(&[CAP_SYS_ADMIN]).unwrap_err().to_string(),
            "steer needs CAP_NET_ADMIN (to route and attach), which this process lacks; run it as root, for example with sudo"
        );
    }

    #[test]
    fn a_kernel_without_btf_is_refused() {
        assert_eq!(
            check_btf(Path::new("/nonexistent"))
                .unwrap_err()
                .to_string(),
            "the kernel has no BTF at /sys/kernel/btf/vmlinux; use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of all large distributions are"
        );
    }

    #[test]
    fn pins_need_a_bpf_file_system() {
        assert_eq!(
            check_bpffs(Path::new("/tmp/nonexistent/steer"))
                .unwrap_err()
                .to_string(),
            "/tmp/nonexistent/steer is not on a BPF file system; give a directory below one, such as /sys/fs/bpf/steer"
        );
    }
}
