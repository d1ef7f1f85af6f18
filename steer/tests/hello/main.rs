//! The readers of first octets against what others make and read: ClientHellos of rustls against rustls's own server,
//! Initials of quinn and of the specifications.
//!
//! `STEER_HELLOS` is how many of each are made.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::{fmt, ops::Range};

mod client;
mod quic;
mod tls;
mod vectors;

/// How many to make of what is compared.
fn count() -> u32 {
    const DEFAULT: u32 = 2000;
    std::env::var("STEER_HELLOS").map_or(DEFAULT, |text| text.parse().unwrap())
}

/// Random numbers, another sequence with each run.
struct Dice {
    random: fastrand::Rng,
    seed: u64,
}

impl Dice {
    fn new() -> Self {
        let seed = fastrand::u64(..);
        Self {
            random: fastrand::Rng::with_seed(seed),
            seed,
        }
    }

    fn next(&mut self) -> u64 {
        self.random.u64(..)
    }

    /// A number below another.
    fn below(&mut self, end: usize) -> usize {
        self.random.usize(..end)
    }

    /// Whether what happens once in so many times happens.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn octets(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.next() as u8).collect()
    }

    fn octets_of(&mut self, sizes: Range<usize>) -> Vec<u8> {
        let size = sizes.start + self.below(sizes.len());
        self.octets(size)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        self.random.shuffle(items);
    }

    /// Cuts octets into at most so many pieces, and tells where each begins.
    fn cut(&mut self, octets: &[u8], most: usize) -> Vec<(usize, Vec<u8>)> {
        let cuts = self.below(most);
        let mut ends: Vec<_> = (0..cuts).map(|_| self.below(octets.len() + 1)).collect();
        ends.extend([0, octets.len()]);
        ends.sort_unstable();
        ends.dedup();
        ends.windows(2)
            .map(|ends| (ends[0], octets[ends[0]..ends[1]].to_vec()))
            .collect()
    }

    /// The name of a server.
    fn name(&mut self) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let longest = if self.once_in(10) { 63 } else { 16 };
        let most = if self.once_in(20) { 100 } else { 5 };
        let labels = 1 + self.below(most);
        let mut name = String::new();
        for _ in 0..labels {
            let mut label = String::new();
            for _ in 0..=self.below(longest - 1) {
                label.push(char::from(LETTERS[self.below(LETTERS.len())]));
            }
            if self.once_in(8) && label.len() > 2 {
                label.replace_range(1..2, if self.once_in(2) { "_" } else { "-" });
            }
            if name.len() + label.len() + 5 > 253 {
                break;
            }
            name.push_str(&label);
            name.push('.');
        }
        name.push_str("test");
        name
    }
}

impl fmt::Display for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {:#x}", self.seed)
    }
}
