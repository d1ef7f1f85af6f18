//! What the kernel programs take of each kind of packet and connection, by themselves: against an empty program.

mod answers;
mod connect;
mod packets;

use anyhow::Result;
use steer::datapath::Room;

use crate::{
    kernel::{self, Kernel, Time},
    options::Options,
    report::model::{Better, Measure, Recorder},
};

/// The group.
pub const NAMES: &[&str] = &[NAME];
const NAME: &str = "programs";

/// How they are told apart in the report.
const STEER: &str = "steer's";
const EMPTY: &str = "an empty one";
const ABOVE: &str = "the difference";

/// Measures them.
///
/// # Errors
/// When the kernel refuses something.
pub fn run(options: &Options, recorder: &mut Recorder) -> Result<()> {
    recorder.note(
        "programs: by BPF_PROG_TEST_RUN, each kind the least of many runs of a few milliseconds, with those of an empty program \
         between them. Another load on the machine only ever lengthens a run, so the least is the nearest to what a program takes. \
         Caches are warm: what they cost otherwise is in the curves of growth.",
    );
    kernel::within(|| {
        for _ in 0..options.rounds() {
            let mut kernel = Kernel::load(Room {
                rules: 16,
                nets: 16,
                ..Room::default()
            })?;
            packets::measure(&mut kernel, options, recorder)?;
            answers::measure(&mut kernel, options, recorder)?;
            connect::measure(&mut kernel, options, recorder)?;
        }
        Ok(())
    })
}

/// How often each thing has its turn.
fn turns(options: &Options) -> u32 {
    if options.quick { 3 } else { 60 }
}

fn take(recorder: &mut Recorder, times: &[Time]) {
    for time in times {
        let parts = [
            (STEER, f64::from(time.steer)),
            (EMPTY, f64::from(time.empty)),
            (ABOVE, time.above()),
        ];
        for (whose, nanoseconds) in parts {
            recorder.of_contender(&measure(&time.what), whose, nanoseconds);
        }
    }
}

fn measure(title: &str) -> Measure {
    let words = title.split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    Measure {
        group: NAME,
        what: words.join("-"),
        title: title.to_owned(),
        unit: "ns",
        better: Better::Lower,
    }
}
