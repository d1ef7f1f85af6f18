//! What the programs tell and what user space learns by itself, told in one way.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use steer_common::types::Verdict;

use super::{Engine, Error, pieces::owner, upkeep::monotonic};
use crate::{
    datapath::Lesson,
    error::sentence,
    events::{Event, Late, Learned},
    learn::reset::Connection,
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
            Event::Waits(who) => self.waits(*who),
            Event::Learned(learned) => {
                if let Some(rule) = learned.contested_by {
                    self.tell_contested(learned, rule)?;
                }
            }
            _ => {}
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

    /// Tells a container at once that what it begins is blocked; `sequence` is that of a TCP segment.
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
