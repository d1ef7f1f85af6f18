//! TCP segments put together.

use std::time::Instant;

use fastrand::Rng;
use steer::learn::{
    messages::{Message, Messages},
    stream::{Limits, Outcome, Segment, Streams},
};

/// A seed of eight octets, and what a stream carries: cut into segments that come in any order, some of them twice and
/// overlapping, it has the messages that it has in one piece. Segments of anything from anywhere do no harm.
pub fn check(octets: &[u8]) {
    let Some((seed, octets)) = octets.split_first_chunk() else {
        return;
    };
    let mut rng = Rng::with_seed(u64::from_le_bytes(*seed));
    assert_eq!(by_segments(octets, &mut rng), in_one_piece(octets));
    anything(octets, &mut rng);
}

/// Most pieces that a stream is cut into: fewer than are kept out of order.
const PIECES: usize = 40;

fn by_segments(octets: &[u8], rng: &mut Rng) -> Vec<Message> {
    let first = rng.u32(..);
    let mut pieces = pieces(octets.len(), rng);
    rng.shuffle(&mut pieces);
    let mut streams = Streams::new(Messages, Limits::default());
    let mut found = Vec::new();
    for (from, to) in pieces {
        let segment = Segment {
            first,
            sequence: first.wrapping_add(from as u32),
            octets: &octets[from..to],
        };
        for ((), outcome) in streams.segment(&(), segment, Instant::now()) {
            match outcome {
                Outcome::Found(message) => found.push(message),
                Outcome::GivenUp(why) => panic!("given up because {why}"),
            }
        }
    }
    found
}

/// Ranges that cover all octets, and some of them more than once.
pub(crate) fn pieces(size: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let mut cuts: Vec<_> = (0..rng.usize(..PIECES))
        .map(|_| rng.usize(..=size))
        .collect();
    cuts.extend([0, size]);
    cuts.sort_unstable();
    let mut pieces: Vec<_> = cuts.windows(2).map(|cut| (cut[0], cut[1])).collect();
    for _ in 0..rng.usize(..8) {
        let (a, b) = (rng.usize(..=size), rng.usize(..=size));
        pieces.push((a.min(b), a.max(b)));
    }
    pieces
}

fn in_one_piece(mut octets: &[u8]) -> Vec<Message> {
    const HEADER: usize = 12;
    let mut messages = Vec::new();
    while let Some((length, rest)) = octets.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        if length < HEADER {
            messages.push(Message::Foreign);
            break;
        }
        let Some(message) = rest.get(..length) else {
            break;
        };
        messages.push(Message::Whole(message.to_vec()));
        octets = &rest[length..];
    }
    messages
}

fn anything(octets: &[u8], rng: &mut Rng) {
    let limits = Limits {
        flows: 2,
        octets: 300,
        ahead: 3,
        ..Limits::default()
    };
    let mut streams = Streams::new(Messages, limits);
    for piece in octets.chunks(100) {
        let segment = Segment {
            first: rng.u32(..3),
            sequence: if rng.bool() {
                rng.u32(..400)
            } else {
                rng.u32(..)
            },
            octets: piece,
        };
        streams.segment(&rng.u8(..4), segment, Instant::now());
        assert!(
            streams.len() <= limits.flows,
            "{} flows are kept",
            streams.len()
        );
    }
}
