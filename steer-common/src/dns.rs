//! DNS messages (RFC 1035 section 4), read in bounded steps that the kernel's verifier can follow.

use crate::{
    slot::Slot,
    suffix::{Hasher, Key, keep, lower},
    types::Address,
};

/// The port of DNS.
pub const PORT: u16 = 53;
/// Octets of a message that are read; the rest is not looked at. A power of two.
pub const SIZE: usize = 2048;
/// Octets of the header.
pub const HEADER: u32 = 12;

/// More than a name has labels, or words that its hash takes in: its 255 octets are at most 127 labels. A power of two.
pub const LABELS: u32 = 128;

const MASK: u32 = SIZE as u32 - 1;
/// A read at any masked offset stays within the buffer, an address of 16 octets too.
const SLACK: usize = 16;
/// Labels and records of an answer that are read before giving up.
pub const STEPS: u32 = 224;
const TYPE_A: u32 = 1;
const TYPE_AAAA: u32 = 28;
const CLASS_IN: u32 = 1;

/// A name in wire form, as words so that it is copied fast; their octets are in the order of the wire.
pub type Name = [u64; 32];

/// Why a message teaches nothing, or nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It contradicts itself or RFC 1035.
    Malformed,
    /// It ends in the middle of something, or goes on beyond what is read.
    CutShort,
}

/// Whether a message asks or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A question.
    Question,
    /// An answer without an error.
    Answer,
    /// Anything else: an error, an update, a status.
    Other,
}

/// What [`Message::hash_word`] took in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// A part of a label.
    Word,
    /// The last word of a label: the hash is a suffix's.
    Suffix,
    /// The last word of the first label: the hash is the whole name's.
    Name,
}

/// What [`Message::step`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    On,
    /// The end of the answer section.
    End,
    /// An A or AAAA record, which stands in the [`Found`].
    Address,
}

/// An A or AAAA record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The address.
    pub address: Address,
    /// Seconds it may be kept.
    pub ttl: u32,
}

/// A message and how far it was read.
#[repr(C, align(8))]
pub struct Message {
    /// Puts the question's name, which follows the header, at a multiple of eight: it is copied by words.
    pad: [u8; 4],
    octets: [u8; SIZE + SLACK],
    starts: [u8; LABELS as usize],
    size: Slot,
    at: Slot,
    labels: Slot,
    label: Slot,
    fed: Slot,
    left: Slot,
    hasher: Hasher,
    hash: u64,
}

impl Message {
    /// An empty message.
    pub const fn new() -> Self {
        const ZERO: Slot = Slot::zero();
        Self {
            pad: [0; 4],
            octets: [0; SIZE + SLACK],
            starts: [0; LABELS as usize],
            size: ZERO,
            at: ZERO,
            labels: ZERO,
            label: ZERO,
            fed: ZERO,
            left: ZERO,
            hasher: Hasher::empty(),
            hash: 0,
        }
    }

    /// Where the octets of the message go; [`Self::filled`] says how many came.
    #[inline(always)]
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.octets[..SIZE]
    }

    /// The first `size` octets of the buffer are a message.
    #[inline(always)]
    pub fn filled(&mut self, size: u32) {
        self.size.set(size);
    }

    /// The ID, as it stands in the message.
    #[inline(always)]
    pub fn id(&self) -> u16 {
        u16::from_ne_bytes([self.octets[0], self.octets[1]])
    }

    /// What the header says; a standard query of one question is all that is read (RFC 9619).
    #[inline(always)]
    pub fn role(&self) -> Role {
        const RESPONSE: u8 = 0x80;
        const OPCODE: u8 = 0x78;
        const RCODE: u8 = 0x0f;
        let o = &self.octets;
        if self.size.get() < HEADER || o[2] & OPCODE != 0 || o[4] != 0 || o[5] != 1 {
            return Role::Other;
        }
        if o[2] & RESPONSE == 0 {
            return Role::Question;
        }
        if o[3] & RCODE == 0 {
            Role::Answer
        } else {
            Role::Other
        }
    }

    /// Begins to read the question.
    #[inline(always)]
    pub fn begin(&mut self) {
        self.at.set(HEADER);
        self.labels.set(0);
    }

    /// Reads a label of the question's name, or behind the last one the type and class; whether that was all, and the
    /// first answer comes next. Asked [`LABELS`] times, it has read any name.
    #[inline(always)]
    pub fn read_label(&mut self) -> Result<bool, Error> {
        const TYPE_AND_CLASS: u32 = 4;
        const NAME_OCTETS: u32 = 255;
        let at = self.at.get();
        if at >= self.size.get() {
            return Err(Error::CutShort);
        }
        let length = u32::from(self.octet(at));
        let before = at.wrapping_sub(HEADER);
        if length == 0 {
            let after = at + 1 + TYPE_AND_CLASS;
            if after > self.size.get() {
                return Err(Error::CutShort);
            }
            self.at.set(after);
            self.left.set(self.short(6));
            return Ok(true);
        }
        if length > 63 || before + length + 2 > NAME_OCTETS {
            return Err(Error::Malformed);
        }
        let label = self.labels.get();
        self.starts[(label & (LABELS - 1)) as usize] = before as u8;
        self.labels.set(label + 1);
        self.at.set(at + 1 + length);
        Ok(false)
    }

    /// Reads the whole question by [`Self::read_label`].
    pub fn read_question(&mut self) -> Result<(), Error> {
        self.begin();
        for _ in 0..LABELS {
            if self.read_label()? {
                return Ok(());
            }
        }
        Err(Error::Malformed)
    }

    /// Begins to hash the question's name, which was read. False for the root, which has no suffix.
    #[inline(always)]
    pub fn begin_hash(&mut self, key: &Key) -> bool {
        self.hasher = Hasher::new(key);
        let labels = self.labels.get();
        if labels == 0 {
            self.hash = self.hasher.finish();
            return false;
        }
        self.fed.set(0);
        self.label.set(labels - 1);
        true
    }

    /// Takes the next word of the name into the hash. A label of n octets takes one word for each eight of its n + 1,
    /// so asked [`LABELS`] times, it has taken in any name.
    #[inline(always)]
    pub fn hash_word(&mut self) -> Hashed {
        let label = self.label.get();
        let fed = self.fed.get();
        let start = HEADER + u32::from(self.starts[(label & (LABELS - 1)) as usize]);
        let rest = (u32::from(self.octet(start)) + 1).wrapping_sub(fed);
        self.hasher.word(lower(keep(self.word(start + fed), rest)));
        if rest > 8 {
            self.fed.set(fed + 8);
            return Hashed::Word;
        }
        self.hash = self.hasher.finish();
        if label == 0 {
            return Hashed::Name;
        }
        self.label.set(label - 1);
        self.fed.set(0);
        Hashed::Suffix
    }

    /// The hash of the longest suffix that was taken in whole.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Hashes the question's name by [`Self::hash_word`], and shows each suffix's hash on the way, the shortest first;
    /// `true` with the last, which is the whole name.
    pub fn hash_question(&mut self, key: &Key, mut each: impl FnMut(u64, bool)) -> u64 {
        if self.begin_hash(key) {
            for _ in 0..LABELS {
                match self.hash_word() {
                    Hashed::Word => {}
                    Hashed::Suffix => each(self.hash, false),
                    Hashed::Name => {
                        each(self.hash, true);
                        break;
                    }
                }
            }
        }
        self.hash
    }

    /// Octets of the question's name without its root, from [`HEADER`] on.
    #[inline(always)]
    pub fn name_size(&self) -> u32 {
        let last = self.labels.get();
        if last == 0 {
            return 0;
        }
        let start = u32::from(self.starts[((last - 1) & (LABELS - 1)) as usize]);
        start + 1 + u32::from(self.octet(HEADER + start))
    }

    /// The octets from the question's name on, of which [`Self::name_size`] count.
    #[inline(always)]
    pub fn name(&self) -> &Name {
        const AT: usize = core::mem::offset_of!(Message, octets) + HEADER as usize;
        const {
            assert!(
                AT.is_multiple_of(align_of::<Name>())
                    && HEADER as usize + size_of::<Name>() <= SIZE
            )
        };
        // SAFETY: the name lies within this struct, aligned, and any octets are words.
        unsafe { &*(&raw const *self).byte_add(AT).cast::<Name>() }
    }

    /// Reads on by one label or one record of the answer section, after [`Self::read_question`]. Whoever asks no more
    /// than [`STEPS`] times reads any answer that is in use, and no hostile one for long.
    #[inline(always)]
    pub fn step(&mut self, found: &mut Found) -> Result<Step, Error> {
        const POINTER: u8 = 0xc0;
        const FIXED: u32 = 10;
        let left = self.left.get();
        if left == 0 {
            return Ok(Step::End);
        }
        let at = self.at.get();
        let size = self.size.get();
        if at >= size {
            return Err(Error::CutShort);
        }
        let length = self.octet(at);
        let record = match length {
            0 => at + 1,
            POINTER.. => at + 2,
            1..=63 => {
                self.at.set(at + 1 + u32::from(length));
                return Ok(Step::On);
            }
            _ => return Err(Error::Malformed),
        };
        let data = record + FIXED;
        if data > size {
            return Err(Error::CutShort);
        }
        let octets = self.short(record + 8);
        if data + octets > size {
            return Err(Error::CutShort);
        }
        self.left.set(left - 1);
        self.at.set(data + octets);
        found.ttl = self.ttl(record + 4);
        found.address = match (self.short(record + 2), self.short(record), octets) {
            (CLASS_IN, TYPE_A, 4) => Address::v4(self.array(data)),
            (CLASS_IN, TYPE_AAAA, 16) => Address::new(self.array(data)),
            (CLASS_IN, TYPE_A | TYPE_AAAA, _) => return Err(Error::Malformed),
            _ => return Ok(Step::On),
        };
        Ok(Step::Address)
    }

    #[inline(always)]
    fn octet(&self, at: u32) -> u8 {
        self.octets[(at & MASK) as usize]
    }

    #[inline(always)]
    fn short(&self, at: u32) -> u32 {
        let [a, b] = self.array(at);
        u32::from(a) << 8 | u32::from(b)
    }

    /// A TTL has 31 bits; one with the highest set counts as zero (RFC 2181 section 8).
    #[inline(always)]
    fn ttl(&self, at: u32) -> u32 {
        let ttl = u32::from_be_bytes(self.array(at));
        if ttl > i32::MAX as u32 { 0 } else { ttl }
    }

    #[inline(always)]
    fn word(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    #[inline(always)]
    fn array<const N: usize>(&self, at: u32) -> [u8; N] {
        const { assert!(N <= SLACK) };
        let at = (at & MASK) as usize;
        core::array::from_fn(|i| self.octets[at + i])
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}
