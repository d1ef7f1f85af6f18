//! Questions and answers of the DNS, and hellos of TLS: each is taken once, so they are many of a kind.
//!
//! A question allows one answer. So as many questions as a run takes answers pass the programs before it, and the answers, each
//! to its question, are the run.

use anyhow::{Context as _, Result, ensure};

use super::{take, turns};
use crate::{
    kernel::{
        CLIENT, Clock, Kernel, Lesson, RESOLVER, Tape, Timed, address,
        frame::{ACK, Ends, SYN},
        message,
    },
    load::wire,
    options::Options,
    report::model::Recorder,
};

/// The one rule.
const RULE: &str = "blocked.example";
/// Most events that there is room for until somebody takes them.
const EVENTS: usize = 2_800;
/// Most flows and questions that are awaited here at once, a part of what there is room for.
const MOST: usize = 2_000;

/// Measures them.
pub fn measure(kernel: &mut Kernel, options: &Options, recorder: &mut Recorder) -> Result<()> {
    kernel.steers([RULE].into_iter())?;
    let name = |number: usize| format!("n{number:05}.registry.{RULE}");
    let other = |number: usize| format!("n{number:05}.registry.other.example");
    // Of 253 octets.
    let labels = ["a"; 123].join(".");
    let many = |number: usize| format!("n{number:05}.{labels}");
    let lesson = |name, addresses: usize| Lesson {
        name,
        address: &address,
        count: (EVENTS / addresses).min(MOST),
        addresses,
    };
    let free = lesson(&other, 4);
    let mut clock = Clock::new()?;
    clock.add(
        kernel,
        "DNS question",
        "bridge_ingress",
        Timed::Each {
            tape: free.questions()?,
            before: None,
            anew: false,
            packets: free.count as u32,
        },
    )?;
    let mut unasked = wire::question(7, &name(7));
    unasked = wire::answer(&unasked, &[CLIENT; 4]).context("an answer cannot be written")?;
    let from_resolver = Ends {
        near: RESOLVER.into(),
        near_port: 53,
        far: CLIENT.into(),
        far_port: 9,
    };
    clock.add(
        kernel,
        "DNS answer that nobody asked for",
        "bridge_egress",
        Timed::Same {
            frame: from_resolver.udp(&unasked),
            interface: 0,
            repeat: 20_000,
        },
    )?;
    let many = lesson(&many, 1);
    for (what, lesson) in [
        ("DNS answer with 4 addresses, no rule matches", &free),
        (
            "DNS answer for a name of 124 labels, no rule matches",
            &many,
        ),
    ] {
        clock.add(kernel, what, "bridge_egress", lesson.timed(kernel, false)?)?;
    }
    clock.add(
        kernel,
        "ClientHello, no rule matches",
        "bridge_ingress",
        hellos(kernel)?,
    )?;
    take(recorder, &clock.run(kernel, turns(options))?);

    for addresses in [1, 4, 72] {
        let lesson = lesson(&name, addresses);
        let noun = if addresses == 1 {
            "address"
        } else {
            "addresses"
        };
        for (how, anew) in [("learned anew", true), ("known already", false)] {
            let what = format!("DNS answer, {addresses} {noun} {how}");
            let mut clock = Clock::new()?;
            clock.add(kernel, &what, "bridge_egress", lesson.timed(kernel, anew)?)?;
            // Going through the tables to forget takes longer than the runs.
            take(recorder, &clock.run(kernel, turns(options).div_ceil(2))?);
            let known = kernel.datapath().addresses()?.keys().flatten().count();
            let taught = lesson.count * lesson.addresses;
            ensure!(
                known >= taught,
                "answers with {taught} addresses taught {known}"
            );
        }
        kernel.forget_learned()?;
    }
    Ok(())
}

/// What connections begin with, each after its SYN.
fn hellos(kernel: &Kernel) -> Result<Timed> {
    let hello = message::hello("registry.other.example");
    let frames = |payload: &[u8], flags: u8| {
        let ends = (0..MOST).map(|number| Ends {
            near: CLIENT.into(),
            near_port: 20_000 + number as u16,
            far: address(0).into(),
            far_port: 443,
        });
        let frames: Vec<_> = ends.map(|ends| ends.tcp(flags, payload)).collect();
        Tape::new(frames.into_iter(), Ends::place_v4())
    };
    Ok(Timed::Each {
        tape: frames(&hello, ACK)?,
        before: Some((frames(&[], SYN)?, kernel.program("bridge_ingress")?)),
        anew: false,
        packets: MOST as u32,
    })
}
