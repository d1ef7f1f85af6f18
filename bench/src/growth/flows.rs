//! Flows that are held on the VPN.

use anyhow::Result;
use fastrand::Rng;
use steer::datapath::{Room, Tables};

use super::{PACKETS, TAPE, TOLD, draw, in_turn, sizes, take, turns};
use crate::{
    kernel::{
        Clock, Kernel, address,
        frame::{ACK, Ends, SYN},
    },
    options::Options,
    report::model::Recorder,
};

const GROUP: &str = "growth of flows";

/// The flow with this number, from a port of those that are said to.
fn flow(number: u64, ports: u16) -> Ends {
    let low = (number % 256) as u8;
    Ends {
        near: [172, 17, low, 2].into(),
        near_port: ports + (number / 256 % 16_384) as u16,
        far: address((number / 1_000) as usize).into(),
        far_port: 443,
    }
}

/// Ports of flows that are held, that are not, and that begin.
const HELD: u16 = 1_024;
const OTHER: u16 = 20_000;
const NEW: u16 = 40_000;

/// Measures them.
pub fn measure(random: &mut Rng, options: &Options, recorder: &mut Recorder) -> Result<()> {
    let mut kernel = Kernel::load(Room {
        rules: 1,
        nets: 1,
        tables: Tables {
            addresses: 65_536,
            flows: 1_100_000,
        },
    })?;
    // All that flows here go to.
    kernel.knows((0..1_001).map(|number| address(number).into()))?;
    let mut held = 0;
    for size in sizes(options, 1, 1_000_000) {
        kernel.holds((held..size).map(|number| flow(number, HELD)))?;
        held = size;
        let mut clock = Clock::new()?;
        for (what, ports, flags, packets) in [
            ("a packet of a flow on the VPN", HELD, ACK, PACKETS),
            ("of no flow", OTHER, ACK, PACKETS),
            ("SYN of a new flow", NEW, SYN, TOLD),
        ] {
            let count = if flags == SYN { TOLD as usize } else { TAPE };
            let drawn = draw(random, count.min(size as usize).max(1), size);
            let frames = drawn
                .into_iter()
                .map(|number| flow(number, ports).tcp(flags, &[]));
            let timed = in_turn(frames, packets)?;
            clock.add(&kernel, what, "bridge_ingress", timed)?;
        }
        take(
            recorder,
            GROUP,
            size,
            &clock.run(&mut kernel, turns(options))?,
        );
    }
    Ok(())
}
