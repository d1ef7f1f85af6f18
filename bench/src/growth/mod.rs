//! What steer's programs take as there is more of something: rules, addresses, flows, bridges and containers.
//!
//! Which of them a packet is about is drawn at random, and the next packet is about another, so that what caches do not hold is
//! paid for. The figures are what is above an empty program on the same packets.

mod addresses;
mod bridges;
mod flows;
mod rules;

use anyhow::Result;

use crate::{
    kernel::{self, Time},
    options::Options,
    report::model::{Better, Measure, Recorder},
};

/// The group.
pub const NAMES: &[&str] = &["growth"];

/// Most packets of a tape: more than caches hold what they are about.
const TAPE: usize = 200_000;
/// Packets in one run.
const PACKETS: u32 = 20_000;
/// Of those that user space is told of: there is no room for more.
const TOLD: u32 = 8_000;

/// Measures them.
///
/// # Errors
/// When the kernel refuses something.
pub fn run(options: &Options, recorder: &mut Recorder) -> Result<()> {
    recorder.note(
        "growth: nanoseconds above an empty program, by BPF_PROG_TEST_RUN, the least of many runs; which of the rules, addresses, \
         flows or containers a packet is about is drawn at random for each.",
    );
    kernel::within(|| {
        for round in 0..options.rounds() {
            let mut random = Random::new(round);
            rules::measure(&mut random, options, recorder)?;
            addresses::measure(&mut random, options, recorder)?;
            flows::measure(&mut random, options, recorder)?;
            bridges::measure(options, recorder)?;
        }
        Ok(())
    })
}

/// Powers of ten up to the most, and that; quickly the first and another one.
fn sizes(options: &Options, least: u64, most: u64) -> Vec<u64> {
    if options.quick {
        return vec![least, least * 1_000];
    }
    let powers = (0..).map(|power| least * 10_u64.pow(power));
    let mut sizes: Vec<_> = powers.take_while(|size| *size < most).collect();
    sizes.push(most);
    sizes
}

/// How often each thing has its turn.
fn turns(options: &Options) -> u32 {
    if options.quick { 3 } else { 25 }
}

/// Takes what was timed as points at this size.
fn take(recorder: &mut Recorder, group: &'static str, size: u64, times: &[Time]) {
    for time in times {
        let measure = measure(group, &time.what, "ns");
        recorder.add(&measure, None, Some(size), time.above());
    }
}

fn measure(group: &'static str, title: &str, unit: &'static str) -> Measure {
    Measure {
        group,
        what: title.replace([' ', ','], "-").replace("--", "-"),
        title: title.to_owned(),
        unit,
        better: Better::Lower,
    }
}

/// Numbers that look random and are the same in every run: those of SplitMix64.
struct Random(u64);

impl Random {
    fn new(round: u32) -> Self {
        Self(u64::from(round) + 1)
    }

    /// The next one below a limit.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }

    /// So many numbers below a limit.
    fn draw(&mut self, count: usize, limit: u64) -> Vec<u64> {
        (0..count).map(|_| self.below(limit)).collect()
    }
}
