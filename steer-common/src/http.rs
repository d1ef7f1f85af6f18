//! The server's name in an HTTP/1 request (RFC 9112 section 3), read in bounded steps that the kernel's verifier can
//! follow.

use crate::{
    opening::{Opening, Spelling, Step},
    slot::Slot,
};

/// Steps in which most requests are read: browsers, curl and package managers send the host first of all fields.
pub const STEPS: u32 = 1024;

const SPACE: u8 = b' ';
const TAB: u8 = b'\t';
const RETURN: u8 = b'\r';
const LINE: u8 = b'\n';

/// How far a request was read. The name is that of a target in absolute form (RFC 9112 section 3.2.2), else that of
/// the field `Host`, without a port.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Request {
    at: Slot,
    stage: Slot,
    /// Octets of what is expected that were seen.
    seen: Slot,
    from: Slot,
    /// Where the target's host ends; zero if it has none.
    to: Slot,
    spelling: Spelling,
}

const METHOD: u32 = 0;
const SCHEME: u32 = 1;
const AUTHORITY: u32 = 2;
const TARGET: u32 = 3;
const VERSION: u32 = 4;
const VERSION_END: u32 = 5;
const FIELD: u32 = 6;
const FIELD_NAME: u32 = 7;
const FIELD_END: u32 = 8;
const VALUE: u32 = 9;
const HOST: u32 = 10;
const TEXT: u32 = 11;

impl Request {
    /// Nothing read yet.
    pub const fn new() -> Self {
        Self {
            at: Slot::zero(),
            stage: Slot::zero(),
            seen: Slot::zero(),
            from: Slot::zero(),
            to: Slot::zero(),
            spelling: Spelling::new(),
        }
    }

    /// Begins with the first octets of a flow.
    #[inline(always)]
    pub fn begin(&mut self) {
        self.at.set(0);
        self.to.set(0);
        self.enter(METHOD);
    }

    /// Reads on by one octet, or by eight of a field that does not matter.
    #[inline(always)]
    pub fn step<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        let stage = self.stage.get();
        if stage == TEXT {
            return self.spelling.step(opening);
        }
        let at = self.at.get();
        if at >= opening.size() {
            return Step::More;
        }
        let octet = opening.octet(at);
        self.at.set(at + 1);
        match stage {
            METHOD => self.method(octet),
            SCHEME => self.scheme(at, octet),
            AUTHORITY => self.authority(at, octet),
            TARGET => self.target(octet),
            VERSION => self.version(octet),
            VERSION_END => self.version_end(opening, octet),
            FIELD => self.field(at, octet),
            FIELD_NAME => self.field_name(at, octet),
            FIELD_END => self.field_end(opening, at, octet),
            VALUE => self.value(at, octet),
            _ => self.host(opening, at, octet),
        }
    }

    /// Reads a request by [`Self::step`], from its beginning on.
    pub fn read<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        self.begin();
        let mut step = Step::On;
        while step == Step::On {
            step = self.step(opening);
        }
        step
    }

    #[inline(always)]
    fn enter(&mut self, stage: u32) {
        self.stage.set(stage);
        self.seen.set(0);
    }

    /// Goes on with a stage that looks at the present octet again.
    #[inline(always)]
    fn again(&mut self, at: u32, stage: u32) -> Step {
        self.at.set(at);
        self.enter(stage);
        Step::On
    }

    /// Registered methods are of capital letters and hyphens; empty lines may come before them (RFC 9112 section 2.2).
    #[inline(always)]
    fn method(&mut self, octet: u8) -> Step {
        const LONGEST: u32 = 24;
        let seen = self.seen.get();
        match octet {
            b'A'..=b'Z' | b'-' if seen < LONGEST => self.seen.set(seen + 1),
            RETURN | LINE if seen == 0 => {}
            SPACE if seen > 0 => self.enter(SCHEME),
            _ => return Step::Foreign,
        }
        Step::On
    }

    /// Looks for the `://` of a target in absolute form.
    #[inline(always)]
    fn scheme(&mut self, at: u32, octet: u8) -> Step {
        match (self.seen.get(), octet) {
            (0, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.') => {}
            (0, b':') => self.seen.set(1),
            (1, b'/') => self.seen.set(2),
            (2, b'/') => {
                self.from.set(at + 1);
                self.enter(AUTHORITY);
            }
            _ => return self.again(at, TARGET),
        }
        Step::On
    }

    #[inline(always)]
    fn authority(&mut self, at: u32, octet: u8) -> Step {
        match octet {
            b'@' => {
                self.from.set(at + 1);
                self.to.set(0);
            }
            b':' | b'/' | b'?' | b'#' | SPACE => {
                if self.to.get() == 0 {
                    self.to.set(at);
                }
                if octet != b':' {
                    return self.again(at, TARGET);
                }
            }
            0..SPACE => return Step::Foreign,
            _ => {}
        }
        Step::On
    }

    #[inline(always)]
    fn target(&mut self, octet: u8) -> Step {
        match octet {
            SPACE => self.enter(VERSION),
            0..SPACE => return Step::Foreign,
            _ => {}
        }
        Step::On
    }

    #[inline(always)]
    fn version(&mut self, octet: u8) -> Step {
        const EXPECTED: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
        const DIGIT: u32 = 7;
        let seen = self.seen.get();
        if seen == DIGIT {
            self.enter(VERSION_END);
            return if octet.is_ascii_digit() {
                Step::On
            } else {
                Step::Foreign
            };
        }
        self.seen.set(seen + 1);
        if octet == (EXPECTED >> (seen * 8)) as u8 {
            Step::On
        } else {
            Step::Foreign
        }
    }

    #[inline(always)]
    fn version_end<const SIZE: usize>(&mut self, opening: &Opening<SIZE>, octet: u8) -> Step {
        match octet {
            RETURN => Step::On,
            LINE if self.to.get() != 0 => self.spell(opening, self.to.get()),
            LINE => {
                self.enter(FIELD);
                Step::On
            }
            _ => Step::Foreign,
        }
    }

    #[inline(always)]
    fn field(&mut self, at: u32, octet: u8) -> Step {
        match octet {
            RETURN => Step::On,
            LINE => Step::NoName,
            _ => self.again(at, FIELD_NAME),
        }
    }

    #[inline(always)]
    fn field_name(&mut self, at: u32, octet: u8) -> Step {
        const EXPECTED: u64 = u64::from_le_bytes(*b"host:\0\0\0");
        const LAST: u32 = 4;
        const LOWER: u8 = 0x20;
        let seen = self.seen.get();
        let octet = if seen < LAST { octet | LOWER } else { octet };
        if octet != (EXPECTED >> (seen * 8)) as u8 {
            return self.again(at, FIELD_END);
        } else if seen == LAST {
            self.enter(VALUE);
        } else {
            self.seen.set(seen + 1);
        }
        Step::On
    }

    #[inline(always)]
    fn field_end<const SIZE: usize>(
        &mut self,
        opening: &Opening<SIZE>,
        at: u32,
        octet: u8,
    ) -> Step {
        const EACH: u64 = 0x0101_0101_0101_0101;
        const WORD: u32 = 8;
        if octet == LINE {
            self.enter(FIELD);
            return Step::On;
        }
        // A borrow makes other octets than a line's end look like one, which only costs time.
        let differs = opening.word(at) ^ (EACH * LINE as u64);
        let none = differs.wrapping_sub(EACH) & !differs & (EACH << 7) == 0;
        if none && at + WORD <= opening.size() {
            self.at.set(at + WORD);
        }
        Step::On
    }

    #[inline(always)]
    fn value(&mut self, at: u32, octet: u8) -> Step {
        if matches!(octet, SPACE | TAB) {
            return Step::On;
        }
        self.from.set(at);
        self.again(at, HOST)
    }

    #[inline(always)]
    fn host<const SIZE: usize>(&mut self, opening: &Opening<SIZE>, at: u32, octet: u8) -> Step {
        match octet {
            b':' | SPACE | TAB | RETURN | LINE => self.spell(opening, at),
            _ => Step::On,
        }
    }

    #[inline(always)]
    fn spell<const SIZE: usize>(&mut self, opening: &Opening<SIZE>, to: u32) -> Step {
        let from = self.from.get();
        self.spelling.begin(opening, from, to.wrapping_sub(from));
        self.enter(TEXT);
        Step::On
    }
}
