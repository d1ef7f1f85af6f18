//! What the programs tell and what user space learns by itself, told in one way.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use steer_common::{
    packet::TCP,
    types::{FlowEntry, FlowKey, Port, Verdict},
};

use super::{Engine, Error, pieces::owner, upkeep::monotonic};
use crate::{
    datapath::Lesson,
    error::sentence,
    events::{Event, Late, Learned, Steered},
    learn::reset::Connection,
    route::VpnId,
};

/// Looks for the other names of a contested address are that far apart, for each goes through the whole table of names.
const APART: Duration = Duration::from_secs(1);

impl Engine {
    /// Grants an address what an answer with it would; whether it is one that can be steered to at all.
    ///
    /// What a program writes into the same entry at that very moment may be lost: the time of another answer, or a direct
    /// verdict beside the VPN's, which decides nothing.
    pub(super) fn learn(&mut self, lesson: &Lesson<'_>) -> Result<bool, Error> {
        if !lesson.address.is_steerable() {
            return Ok(false);
        }
        if let Some(news) = self.datapath.learn(lesson, &self.config, monotonic())? {
            self.tell(&Event::Learned(news.into()))?;
        }
        Ok(true)
    }

    /// Tells what happened, and does what is to be done then.
    pub(super) fn tell(&mut self, event: &Event) -> Result<(), Error> {
        self.report.event(event, &self.rulebook, &self.bridges);
        match event {
            Event::Late(late) if late.stopped => self.end(&connection(late), late.origin)?,
            Event::Refused(it) => {
                if let Some(local) = it.local {
                    self.refuse(it.protocol, local, it.remote, it.sequence);
                }
            }
            Event::Steered(it) => self.refuse_while_down(it)?,
            Event::Waits(who) => self.waits(*who),
            Event::Learned(learned) => {
                if let Some(rule) = learned.contested_by {
                    self.tell_contested(learned, rule)?;
                }
            }
            Event::Late(_) => {}
        }
        Ok(())
    }

    fn tell_contested(&mut self, learned: &Learned, rule: u64) -> Result<(), Error> {
        let now = Instant::now();
        let others = if self.contested.is_some_and(|last| now - last < APART) {
            Vec::new()
        } else {
            self.contested = Some(now);
            self.datapath.names_of(learned.address.into())?
        };
        let entry = self.datapath.addresses()?.get(&learned.address.into(), 0);
        let verdict = entry.map_or(learned.verdict, |entry| entry.at(monotonic()).verdict);
        let path = if verdict == Verdict::DIRECT {
            "direct"
        } else {
            "vpn"
        };
        self.report
            .contested(learned, rule, &others, path, &self.rulebook);
        Ok(())
    }

    /// Tells a container at once that its VPN is down: the kernel tells each of them twice in a row, and then once in some seconds.
    fn refuse_while_down(&mut self, it: &Steered) -> Result<(), Error> {
        let vpn = VpnId::of(it.path).and_then(|id| self.vpns.get(id.0));
        let (Some((address, port)), Some(vpn)) = (it.local, vpn) else {
            return Ok(());
        };
        if vpn.is_up() || vpn.is_open() {
            return Ok(());
        }
        let (remote, remote_port) = it.remote;
        let key = FlowKey {
            origin: it.origin,
            local: address.into(),
            remote: remote.into(),
            local_port: Port::new(port),
            remote_port: Port::new(remote_port),
            protocol: it.protocol,
        };
        // It may have begun long ago, while the VPN was up: such a flow keeps its path.
        let begins = |entry: FlowEntry| entry.state == FlowEntry::BEGUN;
        if !self.datapath.flows()?.get(&key, 0).is_ok_and(begins) {
            return Ok(());
        }
        self.refuse(
            it.protocol,
            (address, port).into(),
            it.remote.into(),
            it.sequence,
        );
        if it.protocol == TCP {
            // Its client may try again and again, and each try is a flow.
            self.datapath.forget_flow(&key)?;
        }
        Ok(())
    }

    /// Tells a container at once that what it begins goes nowhere; `sequence` is that of a TCP segment.
    pub(super) fn refuse(
        &mut self,
        protocol: u32,
        local: SocketAddr,
        remote: SocketAddr,
        sequence: u32,
    ) {
        let answered = self.refusals.answer(protocol, local, remote, sequence);
        if let Err(error) = answered {
            self.report.trouble(&sentence(&error));
        }
    }
}

/// A connection that was stopped by its name.
fn connection(late: &Late) -> Connection {
    Connection {
        owner: owner(late.process, late.origin),
        local: late.local.into(),
        remote: late.remote.into(),
        sequence: late.sequence,
        acknowledgment: late.acknowledgment,
    }
}
