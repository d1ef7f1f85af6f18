//! What can go wrong between the daemon and the kernel's programs.

use std::{io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    pin::PinError,
    programs::{ProgramError, links::LinkError, tc::TcError},
};

/// A failure at the kernel's programs or maps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel did not take the object.
    #[error(
        "the kernel does not take steer's programs; is it 5.10 or newer, with BTF, and are you root?"
    )]
    Object(#[source] Box<EbpfError>),
    /// The kernel did not take one program.
    #[error("the kernel does not take the program {program}{hint}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What may help.
        hint: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// The object has no such part: the binary was built wrongly.
    #[error("the embedded object has no {name}; rebuild steer")]
    Missing {
        /// The program or map.
        name: &'static str,
    },
    /// A map could not be read or written.
    #[error("the map {map} cannot be used")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// More rules than any map takes.
    #[error("{count} rules are more than a map of the kernel takes; use shorter lists")]
    TooManyRules {
        /// How many there are.
        count: usize,
    },
    /// The kernel does not say whether it has tcx.
    #[error("the kernel does not say what is attached to lo; are you root?")]
    Probe(#[source] Box<ProgramError>),
    /// A socket to learn something by.
    #[error("no socket of 127.0.0.1 can be made and connected; is the interface lo up?")]
    Socket(#[source] io::Error),
    /// The qdisc whose filters the programs are to be cannot be added.
    #[error("the qdisc clsact cannot be added to {bridge}{hint}")]
    Qdisc {
        /// The bridge.
        bridge: String,
        /// What may help.
        hint: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<TcError>,
    },
    /// There is another qdisc in the place of clsact.
    #[error(
        "{bridge} has the qdisc {kind}, which leaves no room for clsact; whoever made it must use clsact instead, or name other bridges with --bridge NAME"
    )]
    NoClsact {
        /// The bridge.
        bridge: String,
        /// The kind of what is there.
        kind: String,
    },
    /// Somebody else's filter is where steer's would be.
    #[error(
        "{bridge} has a filter of another's ({kind}) at {hook} pref {preference}, where steer's would be; give that filter another preference"
    )]
    Taken {
        /// The bridge.
        bridge: String,
        /// The side.
        hook: &'static str,
        /// The kind of the other filter.
        kind: String,
        /// The place.
        preference: u16,
    },
    /// Filters or qdiscs could not be listed or deleted.
    #[error("cannot {what} {interface}")]
    Tc {
        /// What was to be done.
        what: &'static str,
        /// Where.
        interface: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A program could not be attached.
    #[error("{program} cannot be attached to {target}{hint}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The cgroup or bridge.
        target: String,
        /// What may help.
        hint: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A link cannot be kept.
    #[error("the link of {program} to {target} cannot be kept")]
    Link {
        /// The program.
        program: &'static str,
        /// The cgroup or bridge.
        target: String,
        /// What the kernel said.
        #[source]
        source: Box<LinkError>,
    },
    /// Something could not be pinned.
    #[error("{} cannot be pinned; is a bpf file system mounted there (mount -t bpf bpf /sys/fs/bpf)?", path.display())]
    Pin {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Box<PinError>,
    },
    /// What is pinned cannot be opened.
    #[error("{} cannot be opened; only root may", path.display())]
    Pinned {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// What is pinned means something else than this binary would read in it.
    #[error(
        "another version of steer pinned what is in {}; use that version's steer, or end it with steer cleanup",
        folder.display()
    )]
    OtherLayout {
        /// The folder.
        folder: PathBuf,
    },
    /// Another run has its pins there.
    #[error("another run of steer has its programs pinned in {}; stop it first", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder is somebody else's.
    #[error(
        "{} is none of steer's, so nothing in {} is touched; name a folder with --bpffs that is not there yet, which steer makes itself",
        entry.display(),
        folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// What is there.
        entry: PathBuf,
    },
    /// A file or directory could not be used.
    #[error("{} cannot be {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was to be done with it.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether what was to be attached to is gone.
    pub fn is_gone(&self) -> bool {
        let number = match self {
            Self::Attach { source, .. } => number(source),
            Self::Qdisc { source, .. } => tc_number(source),
            Self::Tc { source, .. } => source.raw_os_error(),
            Self::File { source, .. } => return source.kind() == io::ErrorKind::NotFound,
            _ => None,
        };
        matches!(number, Some(libc::ENODEV | libc::ENXIO))
    }

    pub(super) fn tc(what: &'static str, interface: &str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Tc {
            what,
            interface: interface.to_owned(),
            source,
        }
    }
}

/// What may help against a refusal, if it can be told from the error number.
pub(super) fn hint(error: &ProgramError) -> &'static str {
    if let ProgramError::TcError(error) = error {
        return tc_hint(error);
    }
    if let ProgramError::LoadError { verifier_log, .. } = error
        && !verifier_log.to_string().is_empty()
    {
        return " (its verifier refuses, which is a fault of steer's: report it with what follows)";
    }
    match number(error) {
        Some(libc::EPERM | libc::EACCES) => {
            " (needs root, or CAP_BPF and CAP_NET_ADMIN; before 5.11 a larger RLIMIT_MEMLOCK too)"
        }
        Some(libc::ENODEV) => " (it is gone)",
        Some(libc::EINVAL) => " (is the kernel older than 5.10?)",
        _ => "",
    }
}

/// The same where a program is attached to a cgroup.
pub(super) fn cgroup_hint(error: &ProgramError) -> &'static str {
    match number(error) {
        Some(libc::EPERM | libc::EACCES) => {
            " (needs root, or CAP_NET_ADMIN; if that is there, another's program has the cgroup, or one above it, to itself: \
             `bpftool cgroup tree` lists it, and attached with \"multi\" it leaves room)"
        }
        _ => hint(error),
    }
}

/// The same for qdiscs and filters.
pub(super) fn tc_hint(error: &TcError) -> &'static str {
    match tc_number(error) {
        Some(libc::EPERM | libc::EACCES) => " (needs root, or CAP_NET_ADMIN)",
        Some(libc::ENODEV) => " (it is gone)",
        Some(libc::ENOENT) => {
            " (the kernel lacks a module: sch_ingress or cls_bpf; install the package with all of its modules)"
        }
        _ => "",
    }
}

fn number(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::TcError(error) => tc_number(error),
        _ => None,
    }
}

fn tc_number(error: &TcError) -> Option<i32> {
    match error {
        TcError::IoError(error) => error.raw_os_error(),
        TcError::NetlinkError(error) => error.raw_os_error(),
        _ => None,
    }
}
