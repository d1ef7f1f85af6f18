//! What steer's programs take as there is more of something: rules, addresses, flows, bridges and containers.
//!
//! Which of them a packet is about is drawn at random, and the next packet is about another, so that what caches do not hold is
//! paid for. The figures are what is above an empty program on the same packets.

mod addresses;
mod bridges;
mod flows;
mod rules;

use anyhow::Result;
use fastrand::Rng;

use crate::{
    kernel::{self, Tape, Time, Timed, frame::Ends},
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
            let mut random = Rng::with_seed(round.into());
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

/// So many numbers below a limit.
fn draw(random: &mut Rng, count: usize, limit: u64) -> Vec<u64> {
    (0..count).map(|_| random.u64(..limit)).collect()
}

/// Packets of flows in turn, so many in one run.
fn in_turn(frames: impl Iterator<Item = Vec<u8>>, packets: u32) -> Result<Timed> {
    Ok(Timed::Each {
        tape: Tape::new(frames, Ends::place_v4())?,
        before: None,
        anew: false,
        packets,
    })
}
