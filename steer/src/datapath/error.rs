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
        "the kernel does not take steer's programs; is it 6.6 or newer, with BTF, and are you root?"
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
    /// Another run has its pins there.
    #[error("another run of steer has its programs pinned in {}; stop it first", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
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
        let source = match self {
            Self::Attach { source, .. } => source,
            Self::File { source, .. } => return source.kind() == io::ErrorKind::NotFound,
            _ => return false,
        };
        match &**source {
            ProgramError::SyscallError(error) => {
                error.io_error.raw_os_error() == Some(libc::ENODEV)
            }
            ProgramError::TcError(TcError::IoError(error)) => {
                matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
            }
            _ => false,
        }
    }
}

/// What may help against a refusal, if it can be told from the error number.
pub(super) fn hint(error: &ProgramError) -> &'static str {
    let number = match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error(),
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match number {
        Some(libc::EPERM | libc::EACCES) => {
            " (needs root, or CAP_BPF and CAP_NET_ADMIN; before 5.11 a larger RLIMIT_MEMLOCK too)"
        }
        Some(libc::ENODEV) => " (it is gone)",
        Some(libc::EINVAL) => " (is the kernel older than 6.6?)",
        _ => "",
    }
}
