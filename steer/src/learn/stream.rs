//! The first octets of TCP streams, put together from segments that come in any order, twice, or overlapping.

use std::{
    collections::BTreeMap,
    fmt,
    hash::Hash,
    time::{Duration, Instant},
};

use super::table::{State, Table};

/// Looks for something in the octets of a stream.
pub trait Reader {
    /// What it looks for.
    type Found;

    /// Looks at the octets from the beginning of the stream on, or from where [`Read::Next`] has left off.
    fn read(&mut self, octets: &[u8]) -> Read<Self::Found>;
}

/// What a [`Reader`] made of the octets at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<F> {
    /// They end too early to tell.
    More,
    /// Something was found, and more is looked for behind so many octets, at least one.
    Next(F, usize),
    /// Something was found, and nothing more is looked for.
    Last(F),
}

/// A TCP segment, of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Sequence number of the stream's first octet: that of the SYN and one.
    pub first: u32,
    /// Sequence number of the segment's first octet.
    pub sequence: u32,
    /// What it carries.
    pub octets: &'a [u8],
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flows that are known at once.
    pub flows: usize,
    /// Octets of a flow that are kept at once, from the first one that was not read on.
    pub octets: usize,
    /// Pieces of a flow that are kept at once because something before them is missing.
    pub ahead: usize,
    /// How long a flow is waited for of which nothing comes.
    pub idle: Duration,
}

impl Default for Limits {
    /// Room for a DNS message of the greatest size, behind its length; 64 MiB for all at the worst.
    fn default() -> Self {
        Self {
            flows: 1024,
            octets: 2 + 65_535,
            ahead: 64,
            idle: Duration::from_secs(10),
        }
    }
}

/// What became of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<F> {
    /// The reader has found something.
    Found(F),
    /// It is looked at no more, and nothing was found at its end.
    GivenUp(Why),
}

/// Why a flow is looked at no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// More octets than are kept.
    TooLong,
    /// More pieces out of order than are kept.
    Scattered,
    /// Nothing came for too long.
    Idle,
    /// Too many others are looked at.
    Crowded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it is longer than what is kept of a flow",
            Self::Scattered => "it came in too many pieces out of order",
            Self::Idle => "the rest of it did not come",
            Self::Crowded => "too many other flows are being read",
        })
    }
}

/// Streams, told apart by `K`, in which a reader looks for something.
#[derive(Debug)]
pub struct Streams<K, R> {
    reader: R,
    limits: Limits,
    streams: Table<K, Stream>,
}

#[derive(Debug)]
struct Stream {
    first: u32,
    /// What is kept; `None` of a stream that is looked at no more.
    kept: Option<Kept>,
}

impl State for Stream {
    fn waits(&self) -> bool {
        self.kept.is_some()
    }
}

impl<K: Clone + Eq + Hash, R: Reader> Streams<K, R> {
    /// No streams yet.
    pub fn new(reader: R, limits: Limits) -> Self {
        Self {
            reader,
            limits,
            streams: Table::new(limits.flows, limits.idle),
        }
    }

    /// Takes in a segment, and returns what came of it, in order. That may be of another stream, which made room.
    pub fn segment(
        &mut self,
        key: &K,
        segment: Segment<'_>,
        now: Instant,
    ) -> Vec<(K, Outcome<R::Found>)> {
        let first = segment.first;
        let (stream, left) = self.streams.touch(
            key,
            now,
            |stream| stream.first == first,
            || Stream {
                first,
                kept: Some(Kept::new(first)),
            },
        );
        let mut outcomes: Vec<_> = left
            .map(|left| (left, Outcome::GivenUp(Why::Crowded)))
            .into_iter()
            .collect();
        let Some(kept) = &mut stream.kept else {
            return outcomes;
        };
        let end = kept.read(segment, &self.limits, &mut self.reader, |found| {
            outcomes.push((key.clone(), Outcome::Found(found)));
        });
        if end != End::No {
            stream.kept = None;
        }
        if let End::Because(why) = end {
            outcomes.push((key.clone(), Outcome::GivenUp(why)));
        }
        outcomes
    }

    /// Forgets a stream, which has ended; whether something was still looked for in it.
    pub fn forget(&mut self, key: &K) -> bool {
        self.streams.forget(key)
    }

    /// Gives up the streams of which nothing came for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<(K, Outcome<R::Found>)> {
        let expired = self.streams.expire(now).into_iter();
        expired
            .map(|key| (key, Outcome::GivenUp(Why::Idle)))
            .collect()
    }

    /// Streams that are known.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether no stream is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Octets of a stream from the first one that was not read on.
#[derive(Debug)]
pub(super) struct Kept {
    /// Sequence number of the first octet.
    first: u32,
    /// All octets from the first to the first one that is missing.
    pub(super) octets: Vec<u8>,
    /// Pieces behind one that is missing, by their distance from the first octet.
    ahead: BTreeMap<usize, Vec<u8>>,
}

impl Kept {
    pub(super) fn new(first: u32) -> Self {
        Self {
            first,
            octets: Vec::new(),
            ahead: BTreeMap::new(),
        }
    }

    /// Takes in a segment and reads on. A long one is taken in parts, as reading makes room for them.
    fn read<R: Reader>(
        &mut self,
        mut segment: Segment<'_>,
        limits: &Limits,
        reader: &mut R,
        mut found: impl FnMut(R::Found),
    ) -> End {
        loop {
            let taken = match self.take(segment, limits) {
                Ok(taken) => taken,
                Err(why) => return End::Because(why),
            };
            let mut made_room = false;
            loop {
                match reader.read(&self.octets) {
                    Read::More => break,
                    Read::Next(what, size) => {
                        found(what);
                        self.drop_first(size.max(1));
                        made_room = true;
                    }
                    Read::Last(what) => {
                        found(what);
                        return End::Read;
                    }
                }
            }
            if taken == segment.octets.len() {
                return End::No;
            }
            if !made_room {
                return End::Because(Why::TooLong);
            }
            segment.octets = &segment.octets[taken..];
            segment.sequence = segment.sequence.wrapping_add(taken as u32);
        }
    }

    /// Takes in as many octets of a segment as there is room for, and returns their number. Of octets that come twice,
    /// the first ones stay, as the receiver keeps them.
    pub(super) fn take(&mut self, segment: Segment<'_>, limits: &Limits) -> Result<usize, Why> {
        let size = segment.octets.len();
        // Sequence numbers wrap; what is less than half the way round ahead is ahead (RFC 9293 section 3.4).
        let distance = segment.sequence.wrapping_sub(self.first) as i32;
        let behind = distance.min(0).unsigned_abs() as usize;
        if behind >= size {
            return Ok(size);
        }
        let at = distance.max(0) as usize;
        let room = limits.octets.saturating_sub(at);
        let taken = size.min(behind + room);
        let piece = &segment.octets[behind..taken];
        if at <= self.octets.len() {
            self.append(at, piece);
            while let Some(entry) = self.ahead.first_entry()
                && *entry.key() <= self.octets.len()
            {
                let (at, piece) = entry.remove_entry();
                self.append(at, &piece);
            }
        } else if !piece.is_empty() {
            let held = self.ahead.entry(at).or_default();
            if held.len() < piece.len() {
                held.extend_from_slice(&piece[held.len()..]);
            }
            if self.ahead.len() > limits.ahead {
                return Err(Why::Scattered);
            }
        }
        Ok(taken)
    }

    fn append(&mut self, at: usize, piece: &[u8]) {
        let known = self.octets.len() - at;
        if let Some(new) = piece.get(known..) {
            self.octets.extend_from_slice(new);
        }
    }

    fn drop_first(&mut self, size: usize) {
        let size = size.min(self.octets.len());
        self.octets.drain(..size);
        self.first = self.first.wrapping_add(size as u32);
        self.ahead = std::mem::take(&mut self.ahead)
            .into_iter()
            .map(|(at, piece)| (at - size, piece))
            .collect();
    }
}

/// Whether a stream is looked at no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    Read,
    Because(Why),
}
