//! Classifiers on bridges where the kernel has no tcx (before 6.6): filters of the qdisc clsact.
//!
//! A filter stays when its maker dies, and no file tells of it. So what is steer's tells so itself: by its preference, its
//! handle and its name, whatever becomes of pins and records. The handle also tells whether the qdisc was there before.

mod tc;

use std::{collections::BTreeMap, io};

use aya::{
    Ebpf,
    programs::{
        SchedClassifier, TcAttachType,
        tc::{
            NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
        },
    },
};

use self::tc::{Filter, Qdisc, Tc};
use super::{
    attach::{BRIDGE, Refused, hook_name, interface, is_before},
    error::{Error, tc_hint},
    pins::{Intent, Pins},
};

/// The preference of steer's filters, the number of its table and first rule. Those that the kernel numbers by itself
/// (from 32768 on) come after it, those that somebody put before all others (from 1 on) come before it.
const PREFERENCE: u16 = 7350;
/// The handle of a filter on a qdisc that was there before.
const ON_THEIRS: TcHandle = TcHandle::new(0, 0x7350);
/// The handle of a filter on a qdisc that steer made.
const ON_OURS: TcHandle = TcHandle::new(0, 0x7351);
/// `ETH_P_ALL` in network order.
const ANY_PROTOCOL: u16 = (libc::ETH_P_ALL as u16).to_be();

const CLSACT: &str = "clsact";

/// The filters on a bridge; dropped, they are deleted.
#[derive(Debug)]
pub(super) struct Filters {
    bridge: String,
    index: u32,
    /// Whether the qdisc was added for them. Their handles say so, too, once they are there.
    made: bool,
}

impl Drop for Filters {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.bridge, self.index, self.made) {
            tracing::error!("{}", crate::error::sentence(&error));
        }
    }
}

impl Filters {
    /// Adds them, and the qdisc if it is not there; filters that a killed run left are replaced at once. Says of others
    /// that are run before them.
    pub(super) fn attach(
        ebpf: &mut Ebpf,
        pins: Option<&Pins>,
        bridge: &str,
        index: u32,
    ) -> Result<(Self, Vec<String>), Error> {
        let failed = |what| Error::tc(what, bridge);
        let tc = Tc::open().map_err(failed("list the filters of"))?;
        let (made, _intent) = ready(&tc, pins, bridge, index)?;
        // From here on, what fails takes away what was added.
        let filters = Self {
            bridge: bridge.to_owned(),
            index,
            made,
        };
        let notes = filters.put(ebpf, &tc)?;
        Ok((filters, notes))
    }

    /// Puts those back that are not there any more, and says of others that are run before them.
    pub(super) fn restore(
        &mut self,
        ebpf: &mut Ebpf,
        pins: Option<&Pins>,
    ) -> Result<Vec<String>, Error> {
        let tc = Tc::open().map_err(Error::tc("list the filters of", &self.bridge))?;
        // A qdisc that is there may be another's by now; whether it is not, a filter that is left tells.
        let (made, _intent) = ready(&tc, pins, &self.bridge, self.index)?;
        self.made = made;
        self.put(ebpf, &tc)
    }

    /// Adds the filters, or replaces those that are there.
    fn put(&self, ebpf: &mut Ebpf, tc: &Tc) -> Result<Vec<String>, Error> {
        let Self {
            ref bridge,
            index,
            made,
        } = *self;
        let failed = |what| Error::tc(what, bridge);
        let mut handle = if made { ON_OURS } else { ON_THEIRS };
        let mut there = Vec::new();
        let mut notes = Vec::new();
        for (program, hook) in BRIDGE {
            let listed = tc
                .filters(index, hook)
                .map_err(failed("list the filters of"))?;
            if let Some(other) = listed.iter().find(|filter| filter.is_in_the_way(program)) {
                return Err(Error::Taken {
                    bridge: bridge.to_owned(),
                    hook: hook_name(hook),
                    kind: other.kind.clone(),
                    preference: PREFERENCE,
                });
            }
            // A filter may be listed in several parts.
            let before: BTreeMap<_, _> = listed
                .iter()
                .filter(|filter| filter.chain == 0 && filter.preference < PREFERENCE)
                .map(|filter| (filter.preference, &filter.kind))
                .collect();
            notes.extend(before.iter().map(|(preference, kind)| {
                let place = format!("{} pref {preference}", hook_name(hook));
                is_before(bridge, &format!("filter ({kind})"), &place)
            }));
            let ours = listed.iter().find(|filter| filter.is_ours(program));
            if let Some(ours) = ours {
                handle = ours.handle.into();
            }
            there.push(ours.map(|filter| TcHandle::from(filter.handle)));
        }
        for ((program, hook), there) in BRIDGE.into_iter().zip(there) {
            put(ebpf, program, bridge, hook, there, handle)
                .map_err(|refused| refused.on_bridge(program, bridge))?;
        }
        Ok(notes)
    }

    /// Whether both are there, for anybody may delete them.
    pub(super) fn are_there(&self) -> Result<bool, Error> {
        let failed = Error::tc("list the filters of", &self.bridge);
        let tc = Tc::open().map_err(&failed)?;
        for (program, hook) in BRIDGE {
            let listed = tc.filters(self.index, hook).map_err(&failed)?;
            if !listed.iter().any(|filter| filter.is_ours(program)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Filter {
    fn is_ours(&self, program: &str) -> bool {
        self.is_in_our_place()
            && self.protocol == ANY_PROTOCOL
            && [ON_THEIRS, ON_OURS].contains(&self.handle.into())
            && self.kind == "bpf"
            && self.name.as_deref() == Some(program)
    }

    /// Whether steer's filter cannot be beside it.
    fn is_in_the_way(&self, program: &str) -> bool {
        // What bpf filters of one preference and protocol have in common is no filter.
        let is_common = self.handle == 0 && self.kind == "bpf" && self.protocol == ANY_PROTOCOL;
        self.is_in_our_place() && !is_common && !self.is_ours(program)
    }

    fn is_in_our_place(&self) -> bool {
        self.preference == PREFERENCE && self.chain == 0
    }
}

/// Deletes what a killed run left on the bridges of this network namespace, but for those in `keep`, and says what that
/// was.
pub(super) fn sweep(keep: impl Fn(u32) -> bool) -> Result<Vec<String>, Error> {
    let all = "the interfaces";
    let tc = Tc::open().map_err(Error::tc("list the qdiscs of", all))?;
    let qdiscs = tc.qdiscs().map_err(Error::tc("list the qdiscs of", all))?;
    let mut done = Vec::new();
    for qdisc in qdiscs {
        if qdisc.kind == CLSACT && !keep(qdisc.index) {
            let bridge = interface(qdisc.index);
            done.extend(remove(&bridge, qdisc.index, false)?);
        }
    }
    Ok(done)
}

/// Deletes the qdiscs that a killed run added and had no time to put a filter on.
pub(super) fn undo(pins: &Pins) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    for index in pins.intended()? {
        let _intent = pins.intend(index)?;
        done.extend(remove(&interface(index), index, true)?);
    }
    Ok(done)
}

/// Makes sure of the qdisc, and says whether steer made it, with what tells so until there are filters.
fn ready(
    tc: &Tc,
    pins: Option<&Pins>,
    bridge: &str,
    index: u32,
) -> Result<(bool, Option<Intent>), Error> {
    let qdiscs = tc
        .qdiscs()
        .map_err(Error::tc("list the qdiscs of", bridge))?;
    let there = qdiscs.into_iter().find(|qdisc| qdisc.index == index);
    if let Some(other) = there.as_ref().filter(|qdisc| qdisc.kind != CLSACT) {
        return Err(Error::NoClsact {
            bridge: bridge.to_owned(),
            kind: other.kind.clone(),
        });
    }
    let was_intended = match pins {
        Some(pins) => pins.intended()?.contains(&index),
        None => false,
    };
    if there.is_some() && !was_intended {
        return Ok((false, None));
    }
    let intent = pins.map(|pins| pins.intend(index)).transpose()?;
    if there.is_none() {
        qdisc_add_clsact(bridge).map_err(|source| Error::Qdisc {
            bridge: bridge.to_owned(),
            hint: tc_hint(&source),
            source: Box::new(source),
        })?;
    }
    Ok((true, intent))
}

/// Adds a filter, or puts the program into the one that is there, at once.
fn put(
    ebpf: &mut Ebpf,
    program: &'static str,
    bridge: &str,
    hook: TcAttachType,
    there: Option<TcHandle>,
    handle: TcHandle,
) -> Result<(), Refused> {
    let program = ebpf.program_mut(program).ok_or(Refused::Missing)?;
    let program: &mut SchedClassifier = program.try_into()?;
    let id = match there {
        Some(there) => {
            let link = SchedClassifierLink::attached(bridge, hook, PREFERENCE, there, None)
                .map_err(TcError::from)
                .map_err(aya::programs::ProgramError::from)?;
            program.attach_to_link(link)?
        }
        None => {
            let options = NlOptions {
                priority: PREFERENCE,
                handle,
                classid: None,
            };
            program.attach_with_options(bridge, hook, TcAttachOptions::Netlink(options))?
        }
    };
    // Dropped, it would delete the filter and tell nobody whether that went well.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Deletes steer's filters on an interface, and the qdisc if steer made it, as is known or as a filter says, and nobody
/// else has come to use it. What is gone already is as good.
fn remove(bridge: &str, index: u32, made: bool) -> Result<Vec<String>, Error> {
    let failed = |what| Error::tc(what, bridge);
    let tc = Tc::open().map_err(failed("list the filters of"))?;
    let mut done = Vec::new();
    let mut ours = made;
    let mut others = false;
    for (program, hook) in BRIDGE {
        for filter in tc
            .filters(index, hook)
            .map_err(failed("list the filters of"))?
        {
            if !filter.is_ours(program) {
                others |= !(filter.is_in_our_place() && filter.handle == 0);
                continue;
            }
            gone(tc.delete_filter(index, hook, &filter)).map_err(failed("delete a filter of"))?;
            ours |= filter.handle == u32::from(ON_OURS);
            done.push(format!(
                "tc filter del dev {bridge} {} pref {PREFERENCE} handle {:#x} bpf",
                hook_name(hook),
                filter.handle
            ));
        }
    }
    let is_there = |qdisc: &Qdisc| qdisc.index == index && qdisc.kind == CLSACT;
    let qdiscs = tc.qdiscs().map_err(failed("list the qdiscs of"))?;
    if ours && !others && qdiscs.iter().any(is_there) {
        gone(tc.delete_clsact(index)).map_err(failed("delete the qdisc clsact of"))?;
        done.push(format!("tc qdisc del dev {bridge} clsact"));
    }
    Ok(done)
}

/// An interface that is gone took its filters along.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(()),
        other => other,
    }
}
