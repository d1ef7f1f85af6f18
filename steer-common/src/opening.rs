//! The first octets of a flow, and the name of a server that stands in them as text.

use crate::{slot::Slot, unaligned};

/// A read at any masked offset stays within the buffer, a word too.
const SLACK: usize = 8;
/// Most octets of a name in text form, without a trailing dot: its wire form has 255 (RFC 1035 section 2.3.4).
const NAME: u32 = 253;
/// Most octets of a label (RFC 1035 section 2.3.4).
const LABEL: u32 = 63;

/// The first octets that a client sends, as far as they are here. `SIZE` is a power of two.
#[repr(C, align(8))]
pub struct Opening<const SIZE: usize> {
    octets: [u8; SIZE],
    slack: [u8; SLACK],
    size: Slot,
}

/// A server's name in an [`Opening`]: letters, digits, hyphens and underscores in labels of 1 to 63 octets with dots in
/// between, 253 octets at most, without a trailing dot. An address is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Where it begins.
    pub at: u32,
    /// Its octets.
    pub size: u32,
}

/// What reading on by one step found. All but [`Step::On`] end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    On,
    /// The server's name.
    Name(Name),
    /// The client has said all that it says there, and names no server.
    NoName,
    /// What is here ends too early to tell.
    More,
    /// The first TLS record ends too early to tell: the records have to be joined ([`crate::tls::Hello::begin_joined`]).
    Records,
    /// It is definitely not what was looked for.
    Foreign,
}

impl<const SIZE: usize> Opening<SIZE> {
    const MASK: u32 = {
        assert!(SIZE.is_power_of_two() && SIZE <= 1 << 24);
        SIZE as u32 - 1
    };

    /// An empty opening.
    pub const fn new() -> Self {
        Self {
            octets: [0; SIZE],
            slack: [0; SLACK],
            size: Slot::zero(),
        }
    }

    /// Where the octets go; [`Self::filled`] says how many came.
    #[inline(always)]
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.octets
    }

    /// The first `size` octets of the buffer are the flow's.
    #[inline(always)]
    pub fn filled(&mut self, size: u32) {
        self.size.set(size);
    }

    /// Octets that are here.
    #[inline(always)]
    pub fn size(&self) -> u32 {
        self.size.get()
    }

    /// Takes in the first octets of a flow, as many as fit.
    pub fn fill(&mut self, octets: &[u8]) {
        let size = octets.len().min(SIZE);
        self.octets[..size].copy_from_slice(&octets[..size]);
        self.filled(size as u32);
    }

    /// The octets of a name.
    pub fn text(&self, name: Name) -> &[u8] {
        let at = name.at as usize;
        &self.octets[at..at + name.size as usize]
    }

    /// The octet at an offset.
    #[inline(always)]
    pub fn octet(&self, at: u32) -> u8 {
        self.octets[(at & Self::MASK) as usize]
    }

    /// The number of two octets at an offset.
    #[inline(always)]
    pub fn short(&self, at: u32) -> u32 {
        // SAFETY: as many are left from there on.
        let short = unsafe { unaligned::two(self.from(at)) };
        u32::from(u16::from_be(short))
    }

    /// The eight octets at an offset, the first one lowest.
    #[inline(always)]
    pub fn word(&self, at: u32) -> u64 {
        // SAFETY: as many are left from there on.
        u64::from_le(unsafe { unaligned::eight(self.from(at)) })
    }

    /// Where octets begin of which [`SLACK`] are left: they stand at the beginning of this struct, and the slack behind them.
    #[inline(always)]
    fn from(&self, at: u32) -> *const u8 {
        let at = (at & Self::MASK) as usize;
        // SAFETY: a masked offset lies within the octets.
        unsafe { (&raw const *self).cast::<u8>().add(at) }
    }
}

impl<const SIZE: usize> Default for Opening<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a text is the name of a server, octet by octet.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Spelling {
    from: Slot,
    to: Slot,
    at: Slot,
    label: Slot,
    digits: Slot,
}

impl Spelling {
    pub(crate) const fn new() -> Self {
        Self {
            from: Slot::zero(),
            to: Slot::zero(),
            at: Slot::zero(),
            label: Slot::zero(),
            digits: Slot::zero(),
        }
    }

    /// Begins with a text that is here whole.
    #[inline(always)]
    pub(crate) fn begin<const SIZE: usize>(&mut self, opening: &Opening<SIZE>, at: u32, size: u32) {
        let mut to = at + size;
        if size > 1 && opening.octet(to - 1) == b'.' {
            to -= 1;
        }
        self.from.set(at);
        self.to.set(to);
        self.at.set(at);
        self.begin_label(at);
    }

    /// Looks at the next octet. [`Step::NoName`] if it is no name.
    #[inline(always)]
    pub(crate) fn step<const SIZE: usize>(&mut self, opening: &Opening<SIZE>) -> Step {
        let from = self.from.get();
        let to = self.to.get();
        let at = self.at.get();
        let ends = at >= to;
        let octet = if ends { b'.' } else { opening.octet(at) };
        self.at.set(at + 1);
        match octet {
            b'0'..=b'9' => Step::On,
            b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => {
                self.digits.set(0);
                Step::On
            }
            b'.' => {
                let label = at - self.label.get();
                if label == 0 || label > LABEL || at - from > NAME {
                    return Step::NoName;
                }
                if !ends {
                    self.begin_label(at + 1);
                    return Step::On;
                }
                // No top-level domain is all digits (RFC 3696 section 2): it is an address.
                if self.digits.get() != 0 {
                    return Step::NoName;
                }
                Step::Name(Name {
                    at: from,
                    size: at - from,
                })
            }
            _ => Step::NoName,
        }
    }

    #[inline(always)]
    fn begin_label(&mut self, at: u32) {
        self.label.set(at);
        self.digits.set(1);
    }
}
