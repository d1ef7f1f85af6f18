//! The server's name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), read in bounded steps that the
//! kernel's verifier can follow.

use crate::{
    opening::{Name, Opening, Spelling, Step},
    slot::Slot,
};

/// Steps in which any hello that is in use is read: 253 octets of a name and its extensions, GREASE (RFC 8701) included.
pub const STEPS: u32 = 384;

/// Octets of a record's header (RFC 8446 section 5.1).
pub const RECORD_HEADER: u32 = 5;
/// Content type of a record that carries handshake messages.
pub const HANDSHAKE: u8 = 22;
/// Most octets that a record carries.
pub const RECORD: u32 = 1 << 14;

const CLIENT_HELLO: u8 = 1;
const MAJOR: u8 = 3;
const SERVER_NAME: u32 = 0;
const HOST_NAME: u8 = 0;
const ENCRYPTED_CLIENT_HELLO: u32 = 0xfe0d;

/// How far a ClientHello was read. It may be cut off anywhere: a name that stands in what is here is found, and that
/// there is none is said of a whole hello only.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Hello {
    /// What can be read ends there: with what is here, or with the first record.
    limit: Slot,
    /// The first record ends there.
    record: Slot,
    /// The hello ends there.
    end: Slot,
    at: Slot,
    stage: Slot,
    name_at: Slot,
    name_size: Slot,
    ech: Slot,
    spelling: Spelling,
}

const EXTENSIONS: u32 = 0;
const TEXT: u32 = 1;

impl Hello {
    /// Nothing read yet.
    pub const fn new() -> Self {
        Self {
            limit: Slot::zero(),
            record: Slot::zero(),
            end: Slot::zero(),
            at: Slot::zero(),
            stage: Slot::zero(),
            name_at: Slot::zero(),
            name_size: Slot::zero(),
            ech: Slot::zero(),
            spelling: Spelling::new(),
        }
    }

    /// Whether the hello has an encrypted one within (RFC 9849), as far as it was read. The name is then the outer one:
    /// that of the provider, not of the site.
    #[inline(always)]
    pub fn ech(&self) -> bool {
        self.ech.get() != 0
    }

    /// Begins with what a TCP flow carries: a record, and the hello in it up to its extensions.
    #[inline(always)]
    pub fn begin<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        let size = opening.size();
        if size > 0 && opening.octet(0) != HANDSHAKE || size > 1 && opening.octet(1) != MAJOR {
            return Step::Foreign;
        }
        if size < RECORD_HEADER {
            return Step::More;
        }
        let length = opening.short(3);
        if length == 0 || length > RECORD {
            return Step::Foreign;
        }
        self.begin_at(opening, RECORD_HEADER, RECORD_HEADER + length)
    }

    /// Begins with a hello whose records were joined, their headers taken out, or that never had any (QUIC).
    #[inline(always)]
    pub fn begin_joined<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        self.begin_at(opening, 0, u32::MAX)
    }

    #[inline(always)]
    fn begin_at<const SIZE: usize>(
        &mut self,
        opening: &Opening<SIZE>,
        start: u32,
        record: u32,
    ) -> Step {
        const HEADER: u32 = 4;
        const RANDOM: u32 = 32;
        const SESSION_ID: u32 = 32;
        let size = opening.size();
        let limit = if size < record { size } else { record };
        self.limit.set(limit);
        self.record.set(record);
        self.end.set(u32::MAX);
        self.stage.set(EXTENSIONS);
        self.name_size.set(0);
        self.ech.set(0);

        if start < limit && opening.octet(start) != CLIENT_HELLO {
            return Step::Foreign;
        }
        let body = start + HEADER;
        let mut at = body + 2 + RANDOM;
        if let Some(step) = self.lacks(opening, at + 1) {
            return step;
        }
        let end = body + (u32::from(opening.octet(start + 1)) << 16 | opening.short(start + 2));
        self.end.set(end);
        let session = u32::from(opening.octet(at));
        if session > SESSION_ID {
            return Step::Foreign;
        }
        at += 1 + session;
        if let Some(step) = self.lacks(opening, at + 2) {
            return step;
        }
        let suites = opening.short(at);
        if suites == 0 || suites & 1 != 0 {
            return Step::Foreign;
        }
        at += 2 + suites;
        if let Some(step) = self.lacks(opening, at + 1) {
            return step;
        }
        let methods = u32::from(opening.octet(at));
        if methods == 0 {
            return Step::Foreign;
        }
        at += 1 + methods;
        // A hello may end here: extensions came with TLS 1.2.
        if at == end {
            return self.ended(opening);
        }
        if let Some(step) = self.lacks(opening, at + 2) {
            return step;
        }
        if at + 2 + opening.short(at) != end {
            return Step::Foreign;
        }
        self.at.set(at + 2);
        Step::On
    }

    /// Reads on by one extension or by one octet of the name, after [`Self::begin`]. Once the name is found, it looks for
    /// an encrypted hello in what is here, and nothing that comes makes the name another one.
    #[inline(always)]
    pub fn step<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        if self.stage.get() == TEXT {
            self.text(opening)
        } else {
            self.extension(opening)
        }
    }

    /// Reads a hello by [`Self::step`], after [`Self::begin`] has said `begun`.
    pub fn read<const SIZE: usize>(&mut self, opening: &Opening<SIZE>, begun: Step) -> Step {
        let mut step = begun;
        while step == Step::On {
            step = self.step(opening);
        }
        step
    }

    #[inline(always)]
    fn extension<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        const HEADER: u32 = 4;
        let at = self.at.get();
        let end = self.end.get();
        if at == end {
            return self.ended(opening);
        }
        let data = at + HEADER;
        if let Some(step) = self.lacks(opening, data) {
            return step;
        }
        let next = data + opening.short(at + 2);
        if next > end {
            return self.found_or(Step::Foreign);
        }
        self.at.set(next);
        match opening.short(at) {
            SERVER_NAME if self.name_size.get() == 0 => self.names(opening, data, next),
            ENCRYPTED_CLIENT_HELLO => {
                self.ech.set(1);
                Step::On
            }
            _ => Step::On,
        }
    }

    /// Reads the list of server names. It has one entry: no other type than that of a host's name was ever defined, and
    /// behind one of an unknown type nobody knows where the next begins.
    #[inline(always)]
    fn names<const SIZE: usize>(&mut self, opening: &Opening<SIZE>, data: u32, next: u32) -> Step {
        const HEADER: u32 = 5;
        let text = data + HEADER;
        if text >= next {
            return Step::Foreign;
        }
        if let Some(step) = self.lacks(opening, text) {
            return step;
        }
        if data + 2 + opening.short(data) != next {
            return Step::Foreign;
        }
        if opening.octet(data + 2) != HOST_NAME {
            return Step::On;
        }
        let size = opening.short(data + 3);
        if size == 0 || text + size > next {
            return Step::Foreign;
        }
        if let Some(step) = self.lacks(opening, text + size) {
            return step;
        }
        self.spelling.begin(opening, text, size);
        self.stage.set(TEXT);
        Step::On
    }

    #[inline(always)]
    fn text<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        let step = self.spelling.step(opening);
        let Step::Name(name) = step else {
            return step;
        };
        self.name_at.set(name.at);
        self.name_size.set(name.size);
        self.stage.set(EXTENSIONS);
        Step::On
    }

    /// Why what ends at `to` cannot be read, if so.
    #[inline(always)]
    fn lacks<const SIZE: usize>(&self, opening: &Opening<SIZE>, to: u32) -> Option<Step> {
        if to > self.end.get() {
            return Some(self.found_or(Step::Foreign));
        }
        (to > self.limit.get()).then(|| self.cut(opening))
    }

    #[inline(always)]
    fn ended<const SIZE: usize>(&self, opening: &Opening<SIZE>) -> Step {
        if self.end.get() > self.limit.get() {
            return self.cut(opening);
        }
        self.found_or(Step::NoName)
    }

    #[inline(always)]
    fn cut<const SIZE: usize>(&self, opening: &Opening<SIZE>) -> Step {
        self.found_or(if self.record.get() <= opening.size() {
            Step::Records
        } else {
            Step::More
        })
    }

    #[inline(always)]
    fn found_or(&self, otherwise: Step) -> Step {
        match self.name_size.get() {
            0 => otherwise,
            size => Step::Name(Name {
                at: self.name_at.get(),
                size,
            }),
        }
    }
}
