//! How long a run takes: the least of many short ones, those of an empty program among them.
//!
//! Whatever else a machine does can only make a run longer: a neighbour, an interrupt, a processor that has slept. So
//! of short runs, a millisecond or two each, some are undisturbed, and the shortest is the nearest to what the program
//! takes by itself. The empty program takes its turns between the others, because the speed of a processor changes.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Result;

use super::{
    Kernel, Kind, Tape,
    bpf::{self, Type},
    code,
};

/// What is run.
pub enum Timed {
    /// A packet, again and again, so many times at once.
    Same {
        /// The packet.
        frame: Vec<u8>,
        /// The interface that it is on; zero for `lo`.
        interface: u32,
        /// How many times.
        repeat: u32,
    },
    /// The packets of a tape, so many at once, and those that must come before them, each time.
    Each {
        /// The packets.
        tape: Tape,
        /// For which program.
        before: Option<(Tape, OwnedFd)>,
        /// Whether what was learned is forgotten each time before.
        anew: bool,
        /// How many.
        packets: u32,
    },
}

/// Something that is to be timed.
struct Entry {
    what: String,
    kind: Kind,
    program: OwnedFd,
    timed: Timed,
    steer: u32,
    empty: u32,
}

/// Times several things in turn.
pub struct Clock {
    entries: Vec<Entry>,
    bridge: OwnedFd,
    sent: OwnedFd,
    received: OwnedFd,
}

/// What was timed, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Time {
    /// What it is.
    pub what: String,
    /// Of steer's program.
    pub steer: u32,
    /// Of an empty one.
    pub empty: u32,
}

impl Time {
    /// How much longer steer's takes.
    pub fn above(&self) -> f64 {
        f64::from(self.steer) - f64::from(self.empty)
    }
}

impl Clock {
    /// With nothing to time.
    ///
    /// # Errors
    /// When the empty programs do not load.
    pub fn new() -> Result<Self> {
        /// What steer's return for a packet that goes on: `TC_ACT_UNSPEC`, and that it is let through.
        const NEXT: i32 = -1;
        const PASS: i32 = 1;
        Ok(Self {
            entries: Vec::new(),
            bridge: bpf::load(Type::CLASSIFIER, &code::empty(NEXT))?,
            sent: bpf::load(Type::CGROUP_EGRESS, &code::empty(PASS))?,
            received: bpf::load(Type::CGROUP_INGRESS, &code::empty(PASS))?,
        })
    }

    /// Adds something to time: how `program` of the kernel handles what is `timed`.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn add(&mut self, kernel: &Kernel, what: &str, program: &str, timed: Timed) -> Result<()> {
        let kind = match program {
            "cgroup_egress" => Kind::Sent,
            "cgroup_ingress" => Kind::Received,
            _ => Kind::Bridge,
        };
        self.entries.push(Entry {
            what: what.to_owned(),
            kind,
            program: kernel.program(program)?,
            timed,
            steer: u32::MAX,
            empty: u32::MAX,
        });
        Ok(())
    }

    /// Runs everything so many times in turn and tells the least of each.
    ///
    /// # Errors
    /// When something cannot be run.
    pub fn run(mut self, kernel: &mut Kernel, turns: u32) -> Result<Vec<Time>> {
        for _ in 0..turns {
            for entry in &mut self.entries {
                let empty = match entry.kind {
                    Kind::Bridge => &self.bridge,
                    Kind::Sent => &self.sent,
                    Kind::Received => &self.received,
                };
                entry.turn(kernel, empty)?;
            }
        }
        let timed = self.entries.into_iter().map(|entry| Time {
            what: entry.what,
            steer: entry.steer,
            empty: entry.empty,
        });
        Ok(timed.collect())
    }
}

impl Entry {
    fn turn(&mut self, kernel: &mut Kernel, empty: &OwnedFd) -> Result<()> {
        let (steer, none) = match &self.timed {
            Timed::Same {
                frame,
                interface,
                repeat,
            } => {
                let run = bpf::Run {
                    frame,
                    interface: *interface,
                    repeat: *repeat,
                };
                (
                    bpf::test_run(self.program.as_fd(), run)?.1,
                    bpf::test_run(empty.as_fd(), run)?.1,
                )
            }
            Timed::Each {
                tape,
                before,
                anew,
                packets,
            } => {
                if *anew {
                    kernel.forget_learned()?;
                }
                if let Some((before, program)) = before {
                    before.rewind()?;
                    before.play(program.as_fd(), before.count())?;
                    tape.rewind()?;
                }
                let steer = tape.play(self.program.as_fd(), *packets)?;
                (steer, tape.play(empty.as_fd(), *packets)?)
            }
        };
        self.steer = self.steer.min(steer);
        self.empty = self.empty.min(none);
        kernel.drain();
        Ok(())
    }
}
