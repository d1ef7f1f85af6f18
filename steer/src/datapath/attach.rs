//! What the programs are attached to, link by link.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError, SchedClassifier,
        TcAttachType,
        links::{FdLink, LinkError, LinkOrder, PinnedLink},
        tc::TcAttachOptions,
    },
};

use super::{
    bpf,
    clsact::Filters,
    error::{Error, cgroup_hint, hint},
    link,
    pins::{self, Pins},
};

/// How classifiers are put on bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// By links (tcx, 6.6), which detach when the last who holds them lets go.
    Tcx,
    /// By filters of the qdisc clsact, which stay until they are deleted.
    Clsact,
}

impl Attachment {
    /// What this kernel takes: it is asked for the tcx programs of `lo`.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn probe() -> Result<Self, Error> {
        match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
            Ok(_) => Ok(Self::Tcx),
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                Ok(Self::Clsact)
            }
            Err(source) => Err(Error::Probe(Box::new(source))),
        }
    }
}

/// The programs of a bridge, and where on it each is.
pub(super) const BRIDGE: [(&str, TcAttachType); 2] = [
    ("bridge_ingress", TcAttachType::Ingress),
    ("bridge_egress", TcAttachType::Egress),
];
/// The programs of a cgroup.
pub(super) const CGROUP: [&str; 9] = [
    "cgroup_egress",
    "cgroup_ingress",
    "sock_create",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
];

/// Links by what they hold on to: dropped, they detach.
#[derive(Debug, Default)]
pub(super) struct Attached {
    bridges: BTreeMap<u32, Classifiers>,
    cgroups: BTreeMap<u64, Vec<Link>>,
}

/// What holds the programs on a bridge.
#[derive(Debug)]
enum Classifiers {
    Links(Vec<Link>),
    Filters(Filters),
}

impl Attached {
    pub(super) fn bridge(
        &mut self,
        ebpf: &mut Ebpf,
        attachment: Attachment,
        pins: Option<&Pins>,
        name: &str,
        index: u32,
    ) -> Result<Vec<String>, Error> {
        let (classifiers, notes) = match attachment {
            Attachment::Tcx => {
                let links = BRIDGE.map(|place| on_bridge(ebpf, pins, place, name, index));
                let links = links.into_iter().collect::<Result<_, _>>()?;
                let notes = programs_before(ebpf, name, index)?;
                (Classifiers::Links(links), notes)
            }
            Attachment::Clsact => {
                let (filters, notes) = Filters::attach(ebpf, pins, name, index)?;
                (Classifiers::Filters(filters), notes)
            }
        };
        self.bridges.insert(index, classifiers);
        Ok(notes)
    }

    /// Puts those programs back on a bridge that somebody else has taken away, and says what should be known then. `None` if
    /// both are there.
    pub(super) fn restore(
        &mut self,
        ebpf: &mut Ebpf,
        pins: Option<&Pins>,
        name: &str,
        index: u32,
    ) -> Result<Option<Vec<String>>, Error> {
        match self.bridges.get_mut(&index) {
            None => Ok(None),
            Some(Classifiers::Filters(filters)) if filters.are_there()? => Ok(None),
            Some(Classifiers::Filters(filters)) => filters.restore(ebpf, pins).map(Some),
            Some(Classifiers::Links(links)) => {
                let mut restored = false;
                for ((program, direction), link) in BRIDGE.into_iter().zip(links) {
                    let there = bpf::tcx(index, direction)
                        .map_err(Error::tc("list the programs of", name))?;
                    if there.contains(&id(ebpf, program, name)?) {
                        continue;
                    }
                    let new = on_bridge(ebpf, pins, (program, direction), name, index)?;
                    // The file is the new one's by now.
                    link.pin = None;
                    *link = new;
                    restored = true;
                }
                let notes = || programs_before(ebpf, name, index);
                restored.then(notes).transpose()
            }
        }
    }

    /// Whether a link of these is pinned there.
    pub(super) fn has_pin(&self, path: &Path) -> bool {
        let of_bridges = self.bridges.values().filter_map(|it| match it {
            Classifiers::Links(links) => Some(links),
            Classifiers::Filters(_) => None,
        });
        of_bridges
            .chain(self.cgroups.values())
            .flatten()
            .any(|link| link.pin.as_deref() == Some(path))
    }

    /// Whether there are filters of these on a bridge.
    pub(super) fn has_filters(&self, index: u32) -> bool {
        matches!(self.bridges.get(&index), Some(Classifiers::Filters(_)))
    }

    pub(super) fn remove_bridge(&mut self, index: u32) {
        self.bridges.remove(&index);
    }

    pub(super) fn remove_cgroup(&mut self, id: u64) {
        self.cgroups.remove(&id);
    }

    pub(super) fn cgroup(
        &mut self,
        ebpf: &mut Ebpf,
        pins: Option<&Pins>,
        cgroup: &Path,
    ) -> Result<(), Error> {
        let folder = File::open(cgroup).map_err(|source| pins::file(cgroup, "opened", source))?;
        let id = pins::cgroup_id(cgroup)?;
        let links = CGROUP.map(|program| {
            let pin = pins.map(|pins| pins.cgroup(id, program));
            Link::new(ebpf, program, pin, |ebpf| {
                process(ebpf, program, &folder)
                    .map_err(|refused| refused.on_cgroup(program, cgroup))
            })
        });
        self.cgroups
            .insert(id, links.into_iter().collect::<Result<_, _>>()?);
        Ok(())
    }
}

/// A link that detaches when dropped, pinned or not.
#[derive(Debug)]
struct Link {
    /// Dropped after the pin is gone: closing a link detaches at once, removing its last file some time later.
    _handle: Handle,
    pin: Option<PathBuf>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held, for closing it detaches")]
enum Handle {
    Loose(FdLink),
    Pinned(PinnedLink),
    Adopted(OwnedFd),
}

impl Link {
    /// Puts the program into the link that a killed run left at `pin`, or else attaches it.
    fn new(
        ebpf: &mut Ebpf,
        program: &'static str,
        pin: Option<PathBuf>,
        attach: impl FnOnce(&mut Ebpf) -> Result<FdLink, Error>,
    ) -> Result<Self, Error> {
        if let Some(path) = &pin {
            let program = ebpf
                .program(program)
                .and_then(|program| program.fd().ok())
                .ok_or(Error::Missing { name: program })?;
            if let Some(link) = link::replace(path, program.as_fd())? {
                return Ok(Self {
                    _handle: Handle::Adopted(link),
                    pin,
                });
            }
        }
        Self::keep(attach(ebpf)?, pin)
    }

    fn keep(link: FdLink, pin: Option<PathBuf>) -> Result<Self, Error> {
        let handle = match &pin {
            None => Handle::Loose(link),
            Some(path) => Handle::Pinned(link.pin(path).map_err(|source| Error::Pin {
                path: path.clone(),
                source: Box::new(source),
            })?),
        };
        Ok(Self {
            _handle: handle,
            pin,
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.pin.as_deref().map(pins::unlink) {
            tracing::error!("{}", crate::error::sentence(&error));
        }
    }
}

/// Why a program is not on its target.
pub(super) enum Refused {
    Missing,
    Program(ProgramError),
    Link(LinkError),
}

impl From<ProgramError> for Refused {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

impl Refused {
    pub(super) fn on_bridge(self, program: &'static str, bridge: &str) -> Error {
        self.on(program, bridge.to_owned(), hint)
    }

    pub(super) fn on_cgroup(self, program: &'static str, cgroup: &Path) -> Error {
        self.on(program, cgroup.display().to_string(), cgroup_hint)
    }

    fn on(
        self,
        program: &'static str,
        target: String,
        hint: impl Fn(&ProgramError) -> &'static str,
    ) -> Error {
        match self {
            Self::Missing => Error::Missing { name: program },
            Self::Program(source) => Error::Attach {
                program,
                target,
                hint: hint(&source),
                source: Box::new(source),
            },
            Self::Link(source) => Error::Link {
                program,
                target,
                source: Box::new(source),
            },
        }
    }
}

/// What is told of others' programs that run before steer's on a bridge.
fn programs_before(ebpf: &Ebpf, bridge: &str, index: u32) -> Result<Vec<String>, Error> {
    let failed = Error::tc("list the programs of", bridge);
    let mut notes = Vec::new();
    for (name, hook) in BRIDGE {
        let ours = id(ebpf, name, bridge)?;
        let there = bpf::tcx(index, hook).map_err(&failed)?;
        let before = there.into_iter().take_while(|&id| id != ours);
        notes.extend(
            before.map(|id| is_before(bridge, &format!("program (id {id})"), hook_name(hook))),
        );
    }
    Ok(notes)
}

/// The kernel's number of a classifier, which is about a bridge.
fn id(ebpf: &Ebpf, name: &'static str, bridge: &str) -> Result<u32, Error> {
    let program = ebpf.program(name).ok_or(Error::Missing { name })?;
    let info = <&SchedClassifier>::try_from(program).and_then(|program| program.info());
    info.map(|info| info.id())
        .map_err(|error| Refused::Program(error).on_bridge(name, bridge))
}

/// What is told of something of others' on a bridge that has packets before steer has.
pub(super) fn is_before(bridge: &str, what: &str, place: &str) -> String {
    format!(
        "{bridge} has another's {what} at {place}, before steer's: what that does not let on to the next is not steered"
    )
}

/// The name of an interface that may have gone.
pub(super) fn interface(index: u32) -> String {
    let name = nix::net::if_::if_indextoname(index);
    name.map_or_else(
        |_| format!("interface {index}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

pub(super) fn hook_name(hook: TcAttachType) -> &'static str {
    match hook {
        TcAttachType::Egress => "egress",
        TcAttachType::Ingress | TcAttachType::Custom(_) => "ingress",
    }
}

/// A link of a classifier to a bridge.
fn on_bridge(
    ebpf: &mut Ebpf,
    pins: Option<&Pins>,
    (program, direction): (&'static str, TcAttachType),
    bridge: &str,
    index: u32,
) -> Result<Link, Error> {
    let pin = pins.map(|pins| pins.bridge(index, program));
    Link::new(ebpf, program, pin, |ebpf| {
        classifier(ebpf, program, bridge, direction)
            .map_err(|refused| refused.on_bridge(program, bridge))
    })
}

/// Beside what others have there, behind the last of them.
fn classifier(
    ebpf: &mut Ebpf,
    name: &str,
    bridge: &str,
    direction: TcAttachType,
) -> Result<FdLink, Refused> {
    let program = ebpf.program_mut(name).ok_or(Refused::Missing)?;
    let program: &mut SchedClassifier = program.try_into()?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::last());
    let id = program.attach_with_options(bridge, direction, options)?;
    FdLink::try_from(program.take_link(id)?).map_err(Refused::Link)
}

/// Beside what others have there: with links the kernel runs all of them, and `Single` is the mode without flags, which
/// is the only one that links take.
pub(super) fn process(ebpf: &mut Ebpf, name: &str, cgroup: &File) -> Result<FdLink, Refused> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    let link = match ebpf.program_mut(name).ok_or(Refused::Missing)? {
        Program::CgroupSkb(program) => {
            let direction = if name == "cgroup_egress" {
                CgroupSkbAttachType::Egress
            } else {
                CgroupSkbAttachType::Ingress
            };
            let id = program.attach(cgroup, direction, MODE)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, MODE)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, MODE)?;
            FdLink::try_from(program.take_link(id)?)
        }
        _ => return Err(Refused::Missing),
    };
    link.map_err(Refused::Link)
}
