//! Rules for names.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use steer::datapath::Room;

use super::{draw, measure as measured, sizes, take, turns};
use crate::{
    kernel::{
        Clock, Kernel, Lesson, Timed, address,
        frame::{ACK, Ends},
    },
    options::Options,
    report::model::Recorder,
};

const GROUP: &str = "growth of rules";
/// Answers in one run: what they teach has room among the events.
const ANSWERS: usize = 700;
/// Addresses of an answer.
const ADDRESSES: usize = 4;

/// The name of a rule, of the same length for each.
fn name(number: u64) -> String {
    format!("d{number:07}.z{:02}.example", number % 97)
}

/// Measures them.
pub fn measure(random: &mut Rng, options: &Options, recorder: &mut Recorder) -> Result<()> {
    for size in sizes(options, 10, 1_000_000) {
        let mut kernel = Kernel::load(Room {
            rules: size as usize,
            nets: 1,
            ..Room::default()
        })?;
        let names: Vec<_> = (0..size).map(name).collect();
        let begin = Instant::now();
        kernel.steers(names.iter().map(String::as_str))?;
        let seconds = begin.elapsed().as_secs_f64();
        let filling = measured(GROUP, "rules into the kernel", "s");
        recorder.add(&filling, None, Some(size), seconds);
        let memory = measured(GROUP, "the kernel's memory for a rule", "octets");
        let octets = octets_of_rules(&mut kernel)?;
        recorder.add(&memory, None, Some(size), octets as f64 / size as f64);

        let flow = |to: usize| Ends {
            near: [172, 17, 0, 2].into(),
            near_port: 9,
            far: address(to).into(),
            far_port: 443,
        };
        kernel.holds([flow(0)].into_iter())?;
        let mut clock = Clock::new()?;
        for (what, to) in [("a packet of a flow on the VPN", 0), ("of no flow", 1)] {
            let timed = Timed::Same {
                frame: flow(to).tcp(ACK, &[]),
                interface: 0,
                repeat: super::PACKETS,
            };
            clock.add(&kernel, what, "bridge_ingress", timed)?;
        }
        let drawn = draw(random, ANSWERS, size);
        // As long as the names that have a rule, and in as many zones.
        let others = |number: usize| format!("o{:07}.y{:02}.example", number, number % 97);
        let ruled = |number: usize| name(drawn[number]);
        // What of the table is asked for again and again stays in the caches.
        let (ten_others, ten_ruled) = (|number| others(number % 10), |number| ruled(number % 10));
        let of: [(&str, &dyn Fn(usize) -> String); 4] = [
            ("an answer, no rule matches", &others),
            (
                "an answer, no rule matches, for ten names in turn",
                &ten_others,
            ),
            ("an answer with 4 addresses, a rule matches", &ruled),
            (
                "an answer with 4 addresses, a rule matches, for ten names in turn",
                &ten_ruled,
            ),
        ];
        for (what, name) in of {
            let lesson = Lesson {
                name,
                address: &address,
                count: ANSWERS,
                addresses: ADDRESSES,
            };
            clock.add(
                &kernel,
                what,
                "bridge_egress",
                lesson.timed(&kernel, false)?,
            )?;
        }
        take(
            recorder,
            GROUP,
            size,
            &clock.run(&mut kernel, turns(options))?,
        );
        let known = kernel.datapath().addresses()?.keys().flatten().count();
        ensure!(
            known >= ANSWERS * ADDRESSES,
            "answers taught {known} addresses"
        );
    }
    Ok(())
}

/// What the table of rules takes, as the kernel tells it (6.4 and later count what there is; before, the most there can be).
fn octets_of_rules(kernel: &mut Kernel) -> Result<u64> {
    let map = kernel.datapath().ebpf_mut().map("RULES");
    let Some(aya::maps::Map::HashMap(map)) = map else {
        anyhow::bail!("there is no map RULES");
    };
    let file = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let told = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = told.lines().find_map(|line| line.strip_prefix("memlock:"));
    let octets = line.context("the kernel does not tell a map's memory")?;
    Ok(octets.trim().parse()?)
}
