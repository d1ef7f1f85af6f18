//! The kernel's side: load, configure, attach, pin, and take away again.

mod adopt;
mod attach;
mod bpf;
mod clsact;
mod error;
mod learn;
mod link;
mod maps;
mod netns;
mod pins;
mod reenter;
mod rules;
mod scopes;
mod usage;
mod view;

use std::{collections::BTreeSet, os::fd::AsFd as _, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::{Program, ProgramError},
};
use steer_common::{
    stats::Stats,
    types::{AddrEntry, Address, Config, FlowEntry, FlowKey, NameEntry, NameKey, NetEntry},
};

pub use self::{
    adopt::{Inherited, Legacy, Unfit},
    attach::Attachment,
    error::Error,
    learn::Lesson,
    pins::{Left, Pins, Targets, cgroup_id},
    rules::NewRules,
    scopes::{Listeners, Processes, Scopes},
    view::{Table, View},
};
use self::{
    attach::Attached,
    error::hint,
    maps::{MAPS, PinnedMap},
    pins::Hold,
    rules::entries,
};
use crate::host::NetnsCookie;

/// The object, as `cargo xtask build-ebpf` made it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("STEER_EBPF_OBJECT"));

/// The programs by name, as `bpftool prog` shows them: those for bridges, then those for cgroups.
pub fn programs() -> impl Iterator<Item = &'static str> {
    attach::BRIDGE
        .iter()
        .map(|(name, _)| *name)
        .chain(attach::CGROUP)
}

/// How much there is room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Suffixes of names.
    pub rules: usize,
    /// Networks of addresses.
    pub nets: usize,
    /// What the programs remember.
    pub tables: Tables,
}

/// How much of what the programs remember there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Addresses that have a verdict, and as many names that they have it by.
    pub addresses: u32,
    /// Flows that keep a path, and as many that are known to go direct.
    pub flows: u32,
}

impl Tables {
    /// The maps that have it, each with its own.
    const fn of_maps(self) -> [(&'static str, u32); 4] {
        [
            ("ADDRS", self.addresses),
            ("NAMES", self.addresses),
            ("FLOWS", self.flows),
            ("DIRECT", self.flows),
        ]
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            addresses: 65_536,
            flows: 65_536,
        }
    }
}

/// A network of addresses with its rule, as the kernel's map has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// Its first address.
    pub address: Address,
    /// Bits of the address that count, of 128.
    pub prefix: u32,
    /// Its rule.
    pub entry: NetEntry,
}

/// Removes what a killed run left pinned and attached in this network namespace, and says what that was.
///
/// # Errors
/// When a run holds it, or something stays.
pub fn cleanup(pins: &Pins) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    if let Some(left) = pins.left()? {
        // Before the folder goes that tells of them.
        done.extend(clsact::undo(pins)?);
        left.remove()?;
        done.push(format!("rm -r {}", pins.folder().display()));
    }
    done.extend(clsact::sweep(|_| false)?);
    Ok(done)
}

/// The programs in the kernel, and what they are attached to.
#[derive(Debug)]
pub struct Datapath {
    ebpf: Ebpf,
    attachment: Attachment,
    pins: Option<(Pins, Hold)>,
    attached: Attached,
    /// What `HOME` has.
    home: BTreeSet<crate::rules::Net>,
    /// How often that changed ([`Config::home`]).
    homes: u32,
    config: Config,
    /// Whether tables go on that were made with other room than is asked for now.
    other_room: bool,
}

impl Datapath {
    /// Loads the programs, with room for that many rules; nothing is attached or pinned yet. Without a level the verifier
    /// removes what would log.
    ///
    /// # Errors
    /// When the kernel refuses a program or a map.
    pub fn load(level: Option<aya_log::Level>, room: Room) -> Result<Self, Error> {
        Self::with_programs(open(level, room, None)?)
    }

    /// Loads the programs as [`Self::load`] does, but on the maps that a killed run left in `pins` if they fit. What was
    /// left stays as it is until [`Self::pin_over`].
    ///
    /// # Errors
    /// As for [`Self::load`], and when another run lives there.
    pub fn load_over(
        pins: &Pins,
        netns: Option<NetnsCookie>,
        level: Option<aya_log::Level>,
        room: Room,
    ) -> Result<(Self, Legacy), Error> {
        // Maps of one's own are made first, to compare with, so that nothing but the object says what they are like.
        let own = open(level, room, None)?;
        let legacy = match pins.left()? {
            Some(left) => Legacy::of(left, &own, netns),
            None => Legacy::None,
        };
        let ebpf = match legacy.left() {
            Some(left) => {
                drop(own);
                open(level, room, Some(left))?
            }
            None => own,
        };
        Ok((Self::with_programs(ebpf)?, legacy))
    }

    fn with_programs(mut ebpf: Ebpf) -> Result<Self, Error> {
        for name in programs() {
            let program = ebpf.program_mut(name).ok_or(Error::Missing { name })?;
            load_program(program).map_err(|source| Error::Program {
                program: name,
                hint: hint(&source),
                source: Box::new(source),
            })?;
        }
        Ok(Self {
            ebpf,
            attachment: Attachment::probe()?,
            pins: None,
            attached: Attached::default(),
            home: BTreeSet::new(),
            homes: 1,
            config: Config::default(),
            other_room: false,
        })
    }

    /// How bridges will be attached to.
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// Attaches to bridges so from now on, rather than by what the kernel offers.
    pub fn attach_by(&mut self, attachment: Attachment) {
        self.attachment = attachment;
    }

    /// Pins maps and programs, and from now on links, in a new folder.
    ///
    /// # Errors
    /// When the folder is there already or cannot be made.
    pub fn pin(&mut self, pins: &Pins) -> Result<(), Error> {
        self.pins = Some((pins.clone(), pins.create()?));
        self.pin_maps(pins, |_| true)?;
        self.pin_programs(pins)
    }

    /// Pins as [`Self::pin`] does, in place of what a killed run left. If this was loaded on its maps, what it attached
    /// goes on with its programs until this is attached there; else it is taken away, and the result says why.
    ///
    /// # Errors
    /// When something cannot be pinned or taken away.
    pub fn pin_over(&mut self, pins: &Pins, legacy: Legacy) -> Result<Option<Unfit>, Error> {
        match legacy {
            Legacy::None => self.pin(pins).map(|()| None),
            Legacy::Unfit(left, why) => {
                clsact::undo(pins)?;
                left.remove()?;
                self.pin(pins).map(|()| Some(why))
            }
            Legacy::Fit(left, _, other_room) => {
                self.other_room = other_room;
                self.pins = Some((pins.clone(), left.into_hold()));
                self.pin_maps(pins, |map| !map.kept)?;
                self.pin_programs(pins).map(|()| None)
            }
        }
    }

    /// Detaches from what a killed run was attached to and this one is not.
    ///
    /// # Errors
    /// When something stays.
    pub fn detach_others(&mut self) -> Result<(), Error> {
        if let Some((pins, _)) = &self.pins {
            let removed = pins.remove_links(|path| self.attached.has_pin(path))?;
            tracing::debug!("{removed} links of a killed run removed");
            clsact::undo(pins)?;
        }
        let filters = clsact::sweep(|index| self.attached.has_filters(index))?;
        filters.iter().for_each(|done| tracing::debug!("{done}"));
        Ok(())
    }

    fn pin_maps(&self, pins: &Pins, which: impl Fn(&PinnedMap) -> bool) -> Result<(), Error> {
        for PinnedMap { name, .. } in MAPS.into_iter().filter(which) {
            let map = self.ebpf.map(name).ok_or(Error::Missing { name })?;
            pins.replace(pins.map(name), |path| map.pin(path))?;
        }
        Ok(())
    }

    fn pin_programs(&mut self, pins: &Pins) -> Result<(), Error> {
        for name in programs() {
            let program = self.ebpf.program_mut(name).ok_or(Error::Missing { name })?;
            pins.replace(pins.program(name), |path| program.pin(path))?;
        }
        Ok(())
    }

    /// Tells the programs what user space knows.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn configure(&mut self, config: &Config) -> Result<(), Error> {
        self.config = *config;
        self.tell()
    }

    /// Tells the programs what they were told last, and which `HOME` is in force.
    fn tell(&mut self) -> Result<(), Error> {
        let map = self
            .ebpf
            .map_mut("CONFIG")
            .ok_or(Error::Missing { name: "CONFIG" })?;
        let config = Config {
            home: self.homes,
            ..self.config
        };
        Array::<_, Config>::try_from(map)
            .and_then(|mut map| map.set(0, config, 0))
            .map_err(in_map("CONFIG"))
    }

    /// Attaches the programs for processes to a cgroup and all below it.
    ///
    /// # Errors
    /// When the kernel refuses; what was attached to it before then is detached again.
    pub fn attach_cgroup(&mut self, cgroup: &Path) -> Result<(), Error> {
        self.attached.cgroup(
            &mut self.ebpf,
            self.pins.as_ref().map(|(pins, _)| pins),
            cgroup,
        )
    }

    /// Attaches the programs for containers to a bridge, and says what the user should know of it.
    ///
    /// # Errors
    /// As for [`Self::attach_cgroup`].
    pub fn attach_bridge(&mut self, name: &str, index: u32) -> Result<Vec<String>, Error> {
        self.attached.bridge(
            &mut self.ebpf,
            self.attachment,
            self.pins.as_ref().map(|(pins, _)| pins),
            name,
            index,
        )
    }

    /// Puts those programs back on a bridge that somebody else has taken away, and says what should be known then. `None` if
    /// both are there.
    ///
    /// # Errors
    /// When the kernel refuses: [`Error::is_gone`] where the bridge is not there.
    pub fn restore_bridge(&mut self, name: &str, index: u32) -> Result<Option<Vec<String>>, Error> {
        let pins = self.pins.as_ref().map(|(pins, _)| pins);
        self.attached.restore(&mut self.ebpf, pins, name, index)
    }

    /// Forgets a bridge that is gone, or detaches from one that is not.
    pub fn detach_bridge(&mut self, index: u32) {
        self.attached.remove_bridge(index);
    }

    /// Forgets a cgroup that is gone, or detaches from one that is not.
    pub fn detach_cgroup(&mut self, id: u64) {
        self.attached.remove_cgroup(id);
    }

    /// Counters, summed over the CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        let map = self
            .ebpf
            .map("STATS")
            .ok_or(Error::Missing { name: "STATS" })?;
        PerCpuArray::try_from(map)
            .and_then(|map| view::summed(map, Stats::add))
            .map_err(in_map("STATS"))
    }

    /// The ring buffer of events, to be waited for; once, and after [`Self::pin`].
    ///
    /// # Errors
    /// When it was taken already.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, Error> {
        self.take_ring("EVENTS")
    }

    /// The ring buffer of pieces of what connections begin with, likewise.
    ///
    /// # Errors
    /// When it was taken already.
    pub fn take_segments(&mut self) -> Result<RingBuf<MapData>, Error> {
        self.take_ring("SEGMENTS")
    }

    fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>, Error> {
        let map = self.ebpf.take_map(name).ok_or(Error::Missing { name })?;
        RingBuf::try_from(map).map_err(in_map(name))
    }

    /// The addresses learned.
    ///
    /// # Errors
    /// When the map cannot be used.
    pub fn addresses(&mut self) -> Result<HashMap<&mut MapData, Address, AddrEntry>, Error> {
        self.hash_mut("ADDRS")
    }

    /// By which names they were learned.
    ///
    /// # Errors
    /// When the map cannot be used.
    pub fn names(&mut self) -> Result<HashMap<&mut MapData, NameKey, NameEntry>, Error> {
        self.hash_mut("NAMES")
    }

    /// The flows that keep a path: those on the VPN, and of scopes those on the direct path too.
    ///
    /// # Errors
    /// When the map cannot be used.
    pub fn flows(&mut self) -> Result<HashMap<&mut MapData, FlowKey, FlowEntry>, Error> {
        self.hash_mut("FLOWS")
    }

    /// All that stands in [`Self::addresses`], read at once: one by one it takes two calls an entry.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn all_addresses(&self) -> Result<Vec<(Address, AddrEntry)>, Error> {
        self.all("ADDRS")
    }

    /// All that stands in [`Self::names`], likewise.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn all_names(&self) -> Result<Vec<(NameKey, NameEntry)>, Error> {
        self.all("NAMES")
    }

    /// All that stands in [`Self::flows`], likewise.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn all_flows(&self) -> Result<Vec<(FlowKey, FlowEntry)>, Error> {
        self.all("FLOWS")
    }

    fn all<K: aya::Pod, V: aya::Pod>(&self, name: &'static str) -> Result<Vec<(K, V)>, Error> {
        let map = self.ebpf.map(name).and_then(adopt::data);
        whole(name, map.ok_or(Error::Missing { name })?)
    }

    /// One of the programs, for those who run it by hand.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.ebpf.program(name)
    }

    /// For aya-log, which takes its ring buffer from the object.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Detaches all and removes what was pinned.
    ///
    /// # Errors
    /// When something stays pinned; what is not pinned is gone all the same.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.attached = Attached::default();
        match self.pins.take() {
            Some((pins, hold)) => {
                drop(hold);
                // Also what a killed run left, where this one ends before it is attached there.
                cleanup(&pins).map(drop)
            }
            None => Ok(()),
        }
    }

    fn hash_mut<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, K, V>, Error> {
        let map = self.ebpf.map_mut(name).ok_or(Error::Missing { name })?;
        HashMap::try_from(map).map_err(in_map(name))
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::error!("{}", crate::error::sentence(&error));
        }
    }
}

/// Makes the maps, or takes those that are to be kept from what was left.
fn open(level: Option<aya_log::Level>, room: Room, left: Option<&Left>) -> Result<Ebpf, Error> {
    let level = level.map_or(0, |level| level as u8);
    let mut loader = loader(room)?;
    loader.override_global("AYA_LOG_LEVEL", &level, false);
    if let Some(left) = left {
        for name in maps::kept() {
            loader.map_pin_path(name, left.pins().map(name));
        }
    }
    load_object(loader)
}

/// Makes the maps of the rules, to be taken from the object, and the others of it as small as can be. So they have the
/// types that `bpftool map dump` tells: those of the maps in force are had with `CAP_SYS_ADMIN` alone (6.18).
fn open_rules(room: Room) -> Result<Ebpf, Error> {
    let mut loader = loader(room)?;
    loader.btf(None);
    for map in MAPS {
        if let Some(least) = map.least {
            loader.map_max_entries(map.name, least);
        }
    }
    load_object(loader)
}

/// Loads the object with room for so many rules.
fn loader<'a>(room: Room) -> Result<EbpfLoader<'a>, Error> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("RULES", entries(room.rules)?)
        .map_max_entries("NETS", entries(room.nets)?);
    for (name, entries) in room.tables.of_maps() {
        loader.map_max_entries(name, entries);
    }
    Ok(loader)
}

/// All that stands in a map, in one call.
fn whole<K: aya::Pod, V: aya::Pod>(
    name: &'static str,
    map: &MapData,
) -> Result<Vec<(K, V)>, Error> {
    let room = map.info().map_err(in_map(name))?.max_entries() as usize;
    bpf::lookup_batch(map.fd().as_fd(), room)
        .map_err(|source| in_map(name)(MapError::IoError(source)))
}

fn load_object(mut loader: EbpfLoader<'_>) -> Result<Ebpf, Error> {
    loader
        .load(OBJECT)
        .map_err(|error| Error::Object(Box::new(error)))
}

/// Loads a program. The verifier gives up when a signal comes meanwhile (EAGAIN), and is then asked again.
fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    const TRIES: u32 = 10;
    for _ in 1..TRIES {
        match try_load(program) {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    try_load(program)
}

fn try_load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

pub(crate) fn in_map(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map {
        map,
        source: Box::new(source),
    }
}
