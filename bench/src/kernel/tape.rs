//! Packets that differ from one run of a program to the next, in the one loop of a test run.
//!
//! A test run gives a program one packet as often as it is told. So a program of the benchmark's own goes before: it writes the
//! next row of a tape into the packet and then calls the program (a tail call). What that costs is known by an empty program
//! behind it.

use std::{
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    bpf::{self, Type},
    code::{self, Player},
};

/// Packets of one size, of which a part differs.
pub struct Tape {
    frame: Vec<u8>,
    at: usize,
    size: usize,
    count: usize,
    rows: OwnedFd,
    turn: OwnedFd,
    then: OwnedFd,
    player: OwnedFd,
}

impl Tape {
    /// From frames that are alike outside of `part`, and then a program to give them to.
    ///
    /// # Errors
    /// When there are none, they have several sizes, or the kernel refuses.
    pub fn new(frames: impl Iterator<Item = Vec<u8>>, part: Range<usize>) -> Result<Self> {
        let size = part.len();
        // As the array of the kernel has them: each in whole words.
        let wide = size.next_multiple_of(8);
        let mut first: Option<Vec<u8>> = None;
        let mut octets = Vec::new();
        let mut count = 0;
        for frame in frames {
            let row = frame.get(part.clone());
            let row = row.context("a frame is shorter than the part of it that differs")?;
            octets.extend(row);
            octets.resize(octets.len() + wide - size, 0);
            count += 1;
            let first = first.get_or_insert_with(|| frame.clone());
            ensure!(first.len() == frame.len(), "frames are of several sizes");
        }
        let frame = first.context("there are no frames")?;
        let rows = bpf::array(wide as u32, count as u32)?;
        bpf::fill(rows.as_fd(), &octets, wide)?;
        let (turn, then) = (bpf::array(8, 1)?, bpf::program_array()?);
        let code = Player {
            turn: turn.as_raw_fd(),
            rows: rows.as_raw_fd(),
            then: then.as_raw_fd(),
            count: i32::try_from(count)?,
            at: i32::try_from(part.start)?,
            size: i32::try_from(size)?,
        }
        .code();
        let player = bpf::load(Type::CLASSIFIER, &code)?;
        Ok(Self {
            frame,
            at: part.start,
            size,
            count,
            rows,
            turn,
            then,
            player,
        })
    }

    /// How many packets there are.
    pub fn count(&self) -> u32 {
        self.count as u32
    }

    /// From now on the first is next.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rewind(&self) -> Result<()> {
        bpf::set_first(self.turn.as_fd(), &0_u64)
    }

    /// Gives a program so many packets, which follow those of the call before; returns the nanoseconds of one.
    ///
    /// # Errors
    /// When it cannot.
    pub fn play(&self, program: BorrowedFd<'_>, packets: u32) -> Result<u32> {
        bpf::set_first(self.then.as_fd(), &program.as_raw_fd())?;
        let run = bpf::Run {
            frame: &self.frame,
            interface: 0,
            repeat: packets,
        };
        let (result, nanoseconds) = bpf::test_run(self.player.as_fd(), run)?;
        ensure!(
            result != code::STUCK,
            "the program was not reached (row of {} octets at {}, map {})",
            self.size,
            self.at,
            self.rows.as_raw_fd()
        );
        Ok(nanoseconds)
    }
}
