//! Addresses that were learned.

use anyhow::Result;
use fastrand::Rng;
use steer::datapath::{Room, Tables};

use super::{PACKETS, TAPE, TOLD, draw, in_turn, sizes, take, turns};
use crate::{
    kernel::{
        Clock, Kernel, Lesson, address,
        frame::{Ends, SYN},
    },
    options::Options,
    report::model::Recorder,
};

const GROUP: &str = "growth of learned addresses";
/// As many as are measured.
const MOST: u64 = 250_000;
/// Answers in one run.
const ANSWERS: usize = 700;

/// Measures them.
pub fn measure(random: &mut Rng, options: &Options, recorder: &mut Recorder) -> Result<()> {
    let mut kernel = Kernel::load(Room {
        rules: 1,
        nets: 1,
        tables: Tables {
            addresses: 262_144,
            flows: 262_144,
        },
    })?;
    kernel.steers(["blocked.example"].into_iter())?;
    let mut known = 0;
    for size in sizes(options, 1, MOST) {
        kernel.knows((known..size).map(|it| address(it as usize).into()))?;
        known = size;
        let mut clock = Clock::new()?;
        for (what, first, packets) in [
            ("SYN to a known address", 0, TOLD),
            ("SYN to an unknown address", MOST, PACKETS),
        ] {
            // One flow for each address; those of the VPN are held.
            let frames = draw(random, TAPE.min(size as usize), size);
            let frames = frames.into_iter().map(|number| {
                let ends = Ends {
                    near: [172, 17, 0, 2].into(),
                    near_port: 9,
                    far: address((first + number) as usize).into(),
                    far_port: 443,
                };
                ends.tcp(SYN, &[])
            });
            let timed = in_turn(frames, packets)?;
            clock.add(&kernel, what, "bridge_ingress", timed)?;
        }
        let drawn = draw(random, ANSWERS * 4, size);
        let lesson = Lesson {
            name: &|number| format!("n{number:05}.blocked.example"),
            address: &|number| address(drawn[number] as usize),
            count: ANSWERS,
            addresses: 4,
        };
        let what = "an answer with 4 known addresses";
        clock.add(
            &kernel,
            what,
            "bridge_egress",
            lesson.timed(&kernel, false)?,
        )?;
        take(
            recorder,
            GROUP,
            size,
            &clock.run(&mut kernel, turns(options))?,
        );
    }
    Ok(())
}
