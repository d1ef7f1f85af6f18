//! DNS messages (RFC 1035 section 4), read in bounded steps that the kernel's verifier can follow.

use crate::{
    slot::Slot,
    suffix::{Hasher, Key, keep, lower},
    types::Address,
    unaligned,
};

/// The port of DNS.
pub const PORT: u16 = 53;
/// Octets of a message that are read; the rest is not looked at. A power of two.
pub const SIZE: usize = 4096;
/// Octets of the header.
pub const HEADER: u32 = 12;

/// More than a name has labels, or words that its hash takes in: its 255 octets are at most 127 labels. A power of two.
pub const LABELS: u32 = 128;
/// Labels and compression pointers of a name that are read before giving up.
pub const NAME_STEPS: u32 = 2 * LABELS;
/// Labels, records, parameters and hints of an answer that are read before giving up.
pub const STEPS: u32 = 512;
/// Aliases of an answer that are looked at; resolvers follow no longer chains.
pub const ALIASES: u32 = 16;

const MASK: u32 = SIZE as u32 - 1;
/// A read at any masked offset stays within the buffer, an address of 16 octets too.
const SLACK: usize = 16;
const TYPE_A: u32 = 1;
const TYPE_CNAME: u32 = 5;
const TYPE_AAAA: u32 = 28;
const TYPE_SVCB: u32 = 64;
const TYPE_HTTPS: u32 = 65;
const CLASS_IN: u32 = 1;
const LABEL_MAX: u32 = 63;
const NAME_MAX: u32 = 255;
/// The two high bits of a length octet: the rest and the next octet are an offset (RFC 1035 section 4.1.4).
const POINTER: u32 = 0xc0;

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
    /// An address, which stands in the [`Found`]: of an A or AAAA record, or a hint of an HTTPS or SVCB record.
    Address,
    /// Another name that the name asked for leads to, which [`Message::begin_alias`] begins to read.
    Alias,
}

/// An address in an answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The address.
    pub address: Address,
    /// Seconds it may be kept.
    pub ttl: u32,
}

/// Where in the answer section [`Message::step`] is.
mod part {
    /// In a record's owner, or behind it.
    pub const RECORD: u32 = 0;
    /// In the target name of an HTTPS or SVCB record.
    pub const TARGET: u32 = 1;
    /// Between its parameters.
    pub const PARAMETER: u32 = 2;
    /// In its IPv4 hints.
    pub const HINTS4: u32 = 3;
    /// In its IPv6 hints.
    pub const HINTS6: u32 = 4;
}

/// A message and how far it was read.
#[repr(C, align(8))]
pub struct Message {
    /// Puts the question's name, which follows the header, at a multiple of eight: it is copied by words.
    pad: [u8; 4],
    octets: [u8; SIZE + SLACK],
    size: Slot,
    /// Where the next label of a name is read.
    at: Slot,
    /// Where a name that is read goes on behind its first pointer; zero before that.
    behind: Slot,
    /// A pointer leads to before here; in a name taken from text, where its last label begins.
    floor: Slot,
    /// Octets of the name read so far.
    length: Slot,
    labels: Slot,
    starts: [u16; LABELS as usize],
    label: Slot,
    fed: Slot,
    /// Octets of the question's name without its root.
    name_size: Slot,
    /// Where the answer section begins.
    answers: Slot,
    part: Slot,
    /// Where the answer section is read.
    cursor: Slot,
    /// Records that were not begun yet.
    left: Slot,
    /// Where the record that is read ends.
    record_end: Slot,
    /// Where the hints that are read end.
    hints_end: Slot,
    /// Where the name of [`Step::Alias`] begins.
    alias: Slot,
    /// How many there were.
    aliases: Slot,
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
            size: ZERO,
            at: ZERO,
            behind: ZERO,
            floor: ZERO,
            length: ZERO,
            labels: ZERO,
            starts: [0; LABELS as usize],
            label: ZERO,
            fed: ZERO,
            name_size: ZERO,
            answers: ZERO,
            part: ZERO,
            cursor: ZERO,
            left: ZERO,
            record_end: ZERO,
            hints_end: ZERO,
            alias: ZERO,
            aliases: ZERO,
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

    /// Begins to read the question's name, by [`Self::read_label`].
    #[inline(always)]
    pub fn begin_question(&mut self) {
        self.begin_name(HEADER);
    }

    /// Begins to read the name that [`Self::step`] came to, by [`Self::read_label`].
    #[inline(always)]
    pub fn begin_alias(&mut self) {
        self.begin_name(self.alias.get());
    }

    #[inline(always)]
    fn begin_name(&mut self, at: u32) {
        self.at.set(at);
        self.floor.set(at);
        self.behind.set(0);
        self.length.set(1);
        self.labels.set(0);
    }

    /// Reads a label of a name, or follows a compression pointer, which leads backwards only (RFC 1035 section 4.1.4);
    /// `true` behind the root. Asked [`NAME_STEPS`] times, it has read any name that is in use.
    #[inline(always)]
    pub fn read_label(&mut self) -> Result<bool, Error> {
        let at = self.at.get();
        if at >= self.size.get() {
            return Err(Error::CutShort);
        }
        let octet = u32::from(self.octet(at));
        if octet >= POINTER {
            if at + 2 > self.size.get() {
                return Err(Error::CutShort);
            }
            let target = self.short(at) & !(POINTER << 8);
            if target < HEADER || target >= self.floor.get() {
                return Err(Error::Malformed);
            }
            if self.behind.get() == 0 {
                self.behind.set(at + 2);
            }
            self.floor.set(target);
            self.at.set(target);
            return Ok(false);
        }
        if octet == 0 {
            if self.behind.get() == 0 {
                self.behind.set(at + 1);
            }
            return Ok(true);
        }
        let length = self.length.get() + 1 + octet;
        if octet > LABEL_MAX || length > NAME_MAX {
            return Err(Error::Malformed);
        }
        self.length.set(length);
        let label = self.labels.get();
        self.starts[(label & (LABELS - 1)) as usize] = at as u16;
        self.labels.set(label + 1);
        self.at.set(at + 1 + octet);
        Ok(false)
    }

    /// After the question's name, which is never compressed for there is nothing before it: type and class.
    #[inline(always)]
    pub fn end_question(&mut self) -> Result<(), Error> {
        const TYPE_AND_CLASS: u32 = 4;
        let answers = self.behind.get() + TYPE_AND_CLASS;
        if answers > self.size.get() {
            return Err(Error::CutShort);
        }
        self.name_size.set(self.length.get() - 1);
        self.answers.set(answers);
        Ok(())
    }

    /// Reads the whole question.
    ///
    /// # Errors
    /// When there is none.
    pub fn read_question(&mut self) -> Result<(), Error> {
        self.begin_question();
        self.read_name()?;
        self.end_question()
    }

    /// Reads the whole of a name that was begun.
    ///
    /// # Errors
    /// When it is none, or goes on beyond the message.
    pub fn read_name(&mut self) -> Result<(), Error> {
        for _ in 0..NAME_STEPS {
            if self.read_label()? {
                return Ok(());
            }
        }
        Err(Error::Malformed)
    }

    /// Begins to hash the name that was read. False for the root, which has no suffix.
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
        let start = u32::from(self.starts[(label & (LABELS - 1)) as usize]);
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

    /// Hashes the name that was read, and shows each suffix's hash on the way, the shortest first; `true` with the last,
    /// which is the whole name.
    pub fn hash_name(&mut self, key: &Key, mut each: impl FnMut(u64, bool)) -> u64 {
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

    /// The labels of the name that was read, the first one first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.labels.get()).map(|label| {
            let start = usize::from(self.starts[(label & (LABELS - 1)) as usize]);
            let size = usize::from(self.octets[start]);
            &self.octets[start + 1..start + 1 + size]
        })
    }

    /// Begins to take a name in from text, as if it were the question's, by [`Self::take_octet`].
    #[inline(always)]
    pub fn begin_text(&mut self) {
        self.begin_name(HEADER);
    }

    /// Takes in the next octet of a name that is well-formed text without a trailing dot; zero behind its last.
    #[inline(always)]
    pub fn take_octet(&mut self, octet: u8) {
        let at = self.at.get();
        let begin = self.floor.get();
        let length = at.wrapping_sub(begin);
        self.at.set(at + 1);
        if octet != b'.' && octet != 0 {
            self.octets[((at + 1) & MASK) as usize] = octet;
            return;
        }
        self.octets[(begin & MASK) as usize] = length as u8;
        let label = self.labels.get();
        self.starts[(label & (LABELS - 1)) as usize] = begin as u16;
        self.labels.set(label + 1);
        self.floor.set(at + 1);
        self.name_size.set((at + 1).wrapping_sub(HEADER));
    }

    /// Octets of the question's name without its root, from [`HEADER`] on.
    #[inline(always)]
    pub fn name_size(&self) -> u32 {
        self.name_size.get()
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

    /// Begins to read the answer section, by [`Self::step`], after the question was read; as often as wanted.
    #[inline(always)]
    pub fn begin_answers(&mut self) {
        self.part.set(part::RECORD);
        self.cursor.set(self.answers.get());
        self.left.set(self.short(6));
        self.aliases.set(0);
    }

    /// Reads on in the answer section by a label, a record, a parameter or a hint. Whoever asks no more than [`STEPS`]
    /// times reads any answer that is in use, and no hostile one for long.
    #[inline(always)]
    pub fn step(&mut self, found: &mut Found) -> Result<Step, Error> {
        let at = self.cursor.get();
        match self.part.get() {
            part::RECORD => self.record(at, found),
            part::TARGET => self.target(at),
            part::PARAMETER => self.parameter(at),
            part::HINTS4 => self.hint(at, 4, found),
            _ => self.hint(at, 16, found),
        }
    }

    #[inline(always)]
    fn record(&mut self, at: u32, found: &mut Found) -> Result<Step, Error> {
        const FIXED: u32 = 10;
        let left = self.left.get();
        if left == 0 {
            return Ok(Step::End);
        }
        let size = self.size.get();
        if at >= size {
            return Err(Error::CutShort);
        }
        let octet = u32::from(self.octet(at));
        let record = match octet {
            0 => at + 1,
            POINTER.. => at + 2,
            1..=LABEL_MAX => {
                self.cursor.set(at + 1 + octet);
                return Ok(Step::On);
            }
            _ => return Err(Error::Malformed),
        };
        let data = record + FIXED;
        if data > size {
            return Err(Error::CutShort);
        }
        let octets = self.short(record + 8);
        let end = data + octets;
        if end > size {
            return Err(Error::CutShort);
        }
        self.left.set(left - 1);
        self.cursor.set(end);
        if self.short(record + 2) != CLASS_IN {
            return Ok(Step::On);
        }
        found.ttl = self.ttl(record + 4);
        found.address = match (self.short(record), octets) {
            (TYPE_A, 4) => self.v4(data),
            (TYPE_AAAA, 16) => self.v6(data),
            (TYPE_CNAME, 1..) => return Ok(self.leads_to(data)),
            (TYPE_HTTPS | TYPE_SVCB, 3..) => return Ok(self.service(data, end)),
            (TYPE_A | TYPE_AAAA | TYPE_CNAME | TYPE_HTTPS | TYPE_SVCB, _) => {
                return Err(Error::Malformed);
            }
            _ => return Ok(Step::On),
        };
        Ok(Step::Address)
    }

    /// An HTTPS or SVCB record (RFC 9460 section 2.2): its target is another name of the service, unless it is the root.
    /// In alias mode, which is priority zero, parameters say nothing.
    #[inline(always)]
    fn service(&mut self, data: u32, end: u32) -> Step {
        const PRIORITY: u32 = 2;
        let target = data + PRIORITY;
        if self.short(data) != 0 {
            self.part.set(part::TARGET);
            self.cursor.set(target);
            self.record_end.set(end);
        }
        if self.octet(target) == 0 {
            return Step::On;
        }
        self.leads_to(target)
    }

    #[inline(always)]
    fn leads_to(&mut self, name: u32) -> Step {
        let aliases = self.aliases.get();
        if aliases >= ALIASES {
            return Step::On;
        }
        self.aliases.set(aliases + 1);
        self.alias.set(name);
        Step::Alias
    }

    #[inline(always)]
    fn target(&mut self, at: u32) -> Result<Step, Error> {
        if at >= self.record_end.get() {
            return Err(Error::Malformed);
        }
        let octet = u32::from(self.octet(at));
        let after = match octet {
            0 => at + 1,
            POINTER.. => at + 2,
            1..=LABEL_MAX => {
                self.cursor.set(at + 1 + octet);
                return Ok(Step::On);
            }
            _ => return Err(Error::Malformed),
        };
        self.part.set(part::PARAMETER);
        self.cursor.set(after);
        Ok(Step::On)
    }

    #[inline(always)]
    fn parameter(&mut self, at: u32) -> Result<Step, Error> {
        const KEY_AND_LENGTH: u32 = 4;
        const IPV4_HINT: u32 = 4;
        const IPV6_HINT: u32 = 6;
        let end = self.record_end.get();
        if at == end {
            self.part.set(part::RECORD);
            return Ok(Step::On);
        }
        let value = at + KEY_AND_LENGTH;
        let after = value + self.short(at + 2);
        if value > end || after > end {
            return Err(Error::Malformed);
        }
        let part = match self.short(at) {
            IPV4_HINT => part::HINTS4,
            IPV6_HINT => part::HINTS6,
            _ => {
                self.cursor.set(after);
                return Ok(Step::On);
            }
        };
        self.part.set(part);
        self.hints_end.set(after);
        self.cursor.set(value);
        Ok(Step::On)
    }

    #[inline(always)]
    fn hint(&mut self, at: u32, octets: u32, found: &mut Found) -> Result<Step, Error> {
        let end = self.hints_end.get();
        if at == end {
            self.part.set(part::PARAMETER);
            return Ok(Step::On);
        }
        if at + octets > end {
            return Err(Error::Malformed);
        }
        found.address = if octets == 4 {
            self.v4(at)
        } else {
            self.v6(at)
        };
        self.cursor.set(at + octets);
        Ok(Step::Address)
    }

    #[inline(always)]
    fn octet(&self, at: u32) -> u8 {
        self.octets[(at & MASK) as usize]
    }

    #[inline(always)]
    fn short(&self, at: u32) -> u32 {
        // SAFETY: as many are left from there on.
        let short = unsafe { unaligned::two(self.from(at)) };
        u32::from(u16::from_be(short))
    }

    /// A TTL has 31 bits; one with the highest set counts as zero (RFC 2181 section 8).
    #[inline(always)]
    fn ttl(&self, at: u32) -> u32 {
        let ttl = u32::from_be(self.half(at));
        if ttl > i32::MAX as u32 { 0 } else { ttl }
    }

    #[inline(always)]
    fn v4(&self, at: u32) -> Address {
        Address::of_v4_word(self.half(at))
    }

    #[inline(always)]
    fn v6(&self, at: u32) -> Address {
        Address::of_words([0, 4, 8, 12].map(|from| self.half(at + from)))
    }

    #[inline(always)]
    fn half(&self, at: u32) -> u32 {
        // SAFETY: as in `short`.
        unsafe { unaligned::four(self.from(at)) }
    }

    #[inline(always)]
    fn word(&self, at: u32) -> u64 {
        // SAFETY: as in `short`.
        u64::from_le(unsafe { unaligned::eight(self.from(at)) })
    }

    /// Where octets begin of which [`SLACK`] are left.
    #[inline(always)]
    fn from(&self, at: u32) -> *const u8 {
        // SAFETY: a masked offset lies within the octets.
        unsafe { self.octets.as_ptr().add((at & MASK) as usize) }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}
