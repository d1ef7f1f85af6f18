//! Questions of the DNS and their answers. A question allows one answer, so they are many.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use super::{Kernel, Tape, Timed, frame::Ends};
use crate::load::wire;

/// Who asks.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// Whom.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// Questions and their answers.
pub struct Lesson<'a> {
    /// The name asked for by its number, of one length.
    pub name: &'a dyn Fn(usize) -> String,
    /// An address of an answer, by its number among all of all.
    pub address: &'a dyn Fn(usize) -> Ipv4Addr,
    /// How many questions there are.
    pub count: usize,
    /// How many addresses an answer has.
    pub addresses: usize,
}

impl Lesson<'_> {
    /// The questions of this, as the client sends them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn questions(&self) -> Result<Tape> {
        let frames = self.each().map(|(ends, question, _)| ends.udp(&question));
        tape(frames.collect())
    }

    /// What is timed: the answers, each after its question.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn timed(&self, kernel: &Kernel, anew: bool) -> Result<Timed> {
        Ok(Timed::Each {
            tape: self.answers()?,
            before: Some((self.questions()?, kernel.program("bridge_ingress")?)),
            anew,
            packets: self.count as u32,
        })
    }

    fn answers(&self) -> Result<Tape> {
        let frames = self.each().map(|(ends, question, addresses)| {
            let answer = wire::answer(&question, &addresses);
            let answer = answer.context("an answer cannot be written")?;
            Ok(ends.turned().udp(&answer))
        });
        let frames: Result<Vec<_>> = frames.collect();
        tape(frames?)
    }

    fn each(&self) -> impl Iterator<Item = (Ends, Vec<u8>, Vec<Ipv4Addr>)> {
        (0..self.count).map(|number| {
            let ends = Ends {
                near: CLIENT.into(),
                near_port: 20_000 + (number % 40_000) as u16,
                far: RESOLVER.into(),
                far_port: 53,
            };
            let question = wire::question(number as u16, &(self.name)(number));
            let first = number * self.addresses;
            let addresses = (first..first + self.addresses).map(self.address).collect();
            (ends, question, addresses)
        })
    }
}

fn tape(frames: Vec<Vec<u8>>) -> Result<Tape> {
    let end = frames.first().map_or(0, Vec::len);
    Tape::new(frames.into_iter(), Ends::place_v4().start..end)
}

/// The address with this number, in 11.0.0.0/8.
pub fn address(number: usize) -> Ipv4Addr {
    (11 << 24 | (number as u32 + 256) & 0xff_ffff).into()
}
