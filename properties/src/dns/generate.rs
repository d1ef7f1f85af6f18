//! Answers made up by a seeded generator: as servers send them, as the RFCs allow them, and broken.

use fastrand::Rng;

use super::{
    Asked, Name,
    compose::{Composer, Section, Style},
};

/// The ID of every made-up answer.
pub const ID: u16 = 7;

/// What sort of answer was made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// As a server sends it.
    Valid,
    /// As nobody sends it, and yet by the RFCs or harmless.
    Odd,
    /// It contradicts itself or is cut off.
    Broken,
}

/// A made-up answer.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its sort.
    pub kind: Kind,
    /// The name that was asked for, as it stands in the question.
    pub asked: String,
    /// The message.
    pub octets: Vec<u8>,
}

impl Made {
    /// The question that was asked.
    pub fn question(&self) -> Asked {
        Asked {
            id: ID,
            name: Name::of_text(&self.asked),
        }
    }
}

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
const IN: u16 = 1;

const ANSWER: u16 = 0x8180;
const TRUNCATED: u16 = 0x0200;

/// Names with a rule of each kind, and without one.
const NAMES: &[&str] = &[
    "vpn.test",
    "a.vpn.test",
    "deep.er.vpn.test",
    "direct.vpn.test",
    "x.direct.vpn.test",
    "exact.test",
    "a.exact.test",
    "below.test",
    "a.below.test",
    "plain.test",
    "cdn.plain.test",
    "block.test",
    "a.block.test",
    "us.test",
    "unknown.example",
    "edge.cdn.example",
];

/// Makes up an answer.
pub fn generate(rng: &mut Rng) -> Made {
    let kind = match rng.u8(..10) {
        0..4 => Kind::Valid,
        4..7 => Kind::Odd,
        _ => Kind::Broken,
    };
    let asked = any_case(any_name(rng), rng);
    let mut octets = match kind {
        Kind::Valid => valid(&asked, rng),
        Kind::Odd => odd(&asked, rng),
        Kind::Broken if rng.bool() => odd(&asked, rng),
        Kind::Broken => valid(&asked, rng),
    };
    if kind == Kind::Broken {
        break_it(&mut octets, rng);
    }
    Made {
        kind,
        asked,
        octets,
    }
}

fn any_name(rng: &mut Rng) -> &'static str {
    NAMES[rng.usize(..NAMES.len())]
}

/// A client that mixes capitals in finds its own spelling in the answer again.
fn any_case(name: &str, rng: &mut Rng) -> String {
    if rng.bool() {
        return name.to_owned();
    }
    let mix = |c: char| {
        if rng.bool() {
            c.to_ascii_uppercase()
        } else {
            c
        }
    };
    name.chars().map(mix).collect()
}

fn style(rng: &mut Rng) -> Style {
    match rng.u8(..4) {
        0 => Style::Plain,
        1 => Style::Chained,
        _ => Style::Compressed,
    }
}

struct Maker<'a> {
    message: Composer,
    rng: &'a mut Rng,
    style: Style,
}

fn valid(asked: &str, rng: &mut Rng) -> Vec<u8> {
    let style = style(rng);
    let mut maker = Maker {
        message: Composer::new(ID, ANSWER),
        rng,
        style,
    };
    maker
        .message
        .question(asked, [A, AAAA, HTTPS][maker.rng.usize(..3)]);
    let mut owner = asked.to_owned();
    for _ in 0..[0, 0, 0, 1, 1, 2, 5][maker.rng.usize(..7)] {
        let alias = any_name(maker.rng).to_owned();
        maker.alias(&owner, &alias);
        owner = alias;
    }
    let many = maker.rng.u8(..20) == 0;
    let count = maker.rng.usize(if many { 0..180 } else { 0..8 });
    let service = maker.rng.u8(..5) == 0;
    for _ in 0..count {
        if service && maker.rng.bool() {
            maker.service(&owner);
        } else {
            maker.address(&owner, IN);
        }
    }
    maker.authority();
    maker.message.finish()
}

fn odd(asked: &str, rng: &mut Rng) -> Vec<u8> {
    let flags = ANSWER | if rng.u8(..4) == 0 { TRUNCATED } else { 0 };
    let style = style(rng);
    let mut maker = Maker {
        message: Composer::new(ID, flags),
        rng,
        style,
    };
    maker.message.question(asked, maker.rng.u16(..300));
    for _ in 0..maker.rng.usize(0..10) {
        maker.style = self::style(maker.rng);
        let (owner, other) = (any_name(maker.rng), any_name(maker.rng));
        let owner = if maker.rng.bool() { asked } else { owner };
        let (class, kind) = (maker.rng.u16(..5), maker.rng.u16(256..));
        match maker.rng.u8(..9) {
            0 => maker.address(owner, class),
            1 | 2 => maker.alias(owner, other),
            3 => maker.service(owner),
            4 => maker.other(Section::Answer, owner, TXT),
            5 => maker.other(Section::Answer, owner, MX),
            6 => maker.other(Section::Answer, owner, kind),
            _ => maker.address(owner, IN),
        }
    }
    maker.authority();
    if maker.rng.u8(..4) == 0 {
        let rest = maker.rng.usize(..20);
        let octets: Vec<_> = (0..rest).map(|_| maker.rng.u8(..)).collect();
        maker.message.raw(octets);
    }
    maker.message.finish()
}

impl Maker<'_> {
    fn record(&mut self, section: Section, owner: &str, kind: u16, class: u16) {
        let ttl = match self.rng.u8(..6) {
            0 => self.rng.u32(..),
            1 => 0,
            _ => self.rng.u32(..100_000),
        };
        let owner = (owner, self.style);
        self.message
            .begin_record(section, owner, (kind, class), ttl, self.rng);
    }

    fn address(&mut self, owner: &str, class: u16) {
        if self.rng.bool() {
            self.record(Section::Answer, owner, A, class);
            let v4 = self.v4();
            self.message.raw(v4);
        } else {
            self.record(Section::Answer, owner, AAAA, class);
            let v6 = self.v6();
            self.message.raw(v6);
        }
        self.message.end_length();
    }

    fn alias(&mut self, owner: &str, target: &str) {
        self.record(Section::Answer, owner, CNAME, IN);
        self.message.name(target, self.style, self.rng);
        self.message.end_length();
    }

    /// HTTPS or SVCB (RFC 9460) with hints, among other parameters in the order of their keys.
    fn service(&mut self, owner: &str) {
        const MANDATORY: u16 = 0;
        const ALPN: u16 = 1;
        const PORT: u16 = 3;
        const IPV4_HINT: u16 = 4;
        const IPV6_HINT: u16 = 6;
        let kind = if self.rng.bool() { HTTPS } else { SVCB };
        self.record(Section::Answer, owner, kind, IN);
        let priority = self.rng.u16(..3);
        self.message.short(priority);
        // Its target is never compressed (RFC 9460 section 2.2).
        let target = if self.rng.bool() {
            ""
        } else {
            any_name(self.rng)
        };
        self.message.name(target, Style::Plain, self.rng);
        if priority > 0 {
            if self.rng.u8(..4) == 0 {
                self.parameter(MANDATORY, vec![0, ALPN as u8]);
            }
            self.parameter(ALPN, b"\x02h2\x02h3".to_vec());
            if self.rng.bool() {
                self.parameter(PORT, vec![1, 187]);
            }
            if self.rng.u8(..4) > 0 {
                let hints = (0..self.rng.u8(1..4)).flat_map(|_| self.v4()).collect();
                self.parameter(IPV4_HINT, hints);
            }
            if self.rng.u8(..4) > 0 {
                let hints = (0..self.rng.u8(1..3)).flat_map(|_| self.v6()).collect();
                self.parameter(IPV6_HINT, hints);
            }
            if self.rng.u8(..4) == 0 {
                let key = self.rng.u16(32_768..65_000);
                self.parameter(key, vec![1, 2, 3]);
            }
        }
        self.message.end_length();
    }

    fn parameter(&mut self, key: u16, value: Vec<u8>) {
        self.message.short(key);
        self.message.begin_length();
        self.message.raw(value);
        self.message.end_length();
    }

    /// A record that is nobody's address.
    fn other(&mut self, section: Section, owner: &str, kind: u16) {
        self.record(section, owner, kind, IN);
        match kind {
            TXT => self.message.raw(*b"\x05hello"),
            MX => {
                self.message.short(10);
                self.message.name("mail.example", self.style, self.rng);
            }
            NS => self.message.name("ns.plain.test", self.style, self.rng),
            SOA => {
                self.message.name("ns.plain.test", self.style, self.rng);
                self.message.name("root.plain.test", self.style, self.rng);
                self.message.raw([0; 20]);
            }
            _ => {
                let octets: Vec<_> = (0..self.rng.usize(0..30))
                    .map(|_| self.rng.u8(..))
                    .collect();
                self.message.raw(octets);
            }
        }
        self.message.end_length();
    }

    /// What comes behind the answers: name servers, their addresses (which nobody asked for), EDNS (RFC 6891).
    fn authority(&mut self) {
        for _ in 0..self.rng.usize(0..3) {
            let kind = if self.rng.bool() { NS } else { SOA };
            self.other(Section::Authority, "plain.test", kind);
        }
        if self.rng.bool() {
            self.record(Section::Additional, "ns.plain.test", A, IN);
            let v4 = self.v4();
            self.message.raw(v4);
            self.message.end_length();
        }
        if self.rng.bool() {
            self.record(Section::Additional, "", OPT, 4096);
            self.message.end_length();
        }
    }

    fn v4(&mut self) -> [u8; 4] {
        match self.rng.u8(..12) {
            0 => [127, 0, 0, self.rng.u8(..)],
            1 => self.rng.u32(..).to_be_bytes(),
            _ => [203, 0, 113, self.rng.u8(..)],
        }
    }

    fn v6(&mut self) -> [u8; 16] {
        match self.rng.u8(..12) {
            0 => [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            1 => self.rng.u128(..).to_be_bytes(),
            // IPv4 in mapped form.
            2 => [
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0xff,
                0xff,
                203,
                0,
                113,
                self.rng.u8(..),
            ],
            _ => [
                0x20,
                1,
                0x0d,
                0xb8,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                self.rng.u8(..),
            ],
        }
    }
}

fn break_it(octets: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..octets.len());
        match rng.u8(..7) {
            // A mutation of the records is more telling than one of the header.
            0 | 1 => octets[at] = rng.u8(..),
            2 => octets[at] ^= 1 << rng.u8(..8),
            3 if octets.len() > 12 => octets.truncate(rng.usize(12..octets.len())),
            4 if at + 1 < octets.len() => {
                let to = if rng.bool() { at } else { rng.usize(..0x3fff) };
                octets[at] = 0xc0 | (to >> 8) as u8;
                octets[at + 1] = to as u8;
            }
            // Counts of the sections.
            5 if octets.len() > 12 => octets[7] = rng.u8(..),
            _ => {
                // A length of two octets that says nothing or too much.
                let lie = if rng.bool() { 0 } else { rng.u8(..) };
                octets[at] = lie;
            }
        }
        if octets.is_empty() {
            octets.push(0);
        }
    }
}
