//! Answers of the DNS: made up, read by steer-common, and read by hickory-proto for comparison.

mod compose;
mod generate;
mod model;
mod names;
mod ours;
mod walk;

use std::{collections::BTreeMap, net::IpAddr};

use steer_common::{
    stats::Outcome,
    types::{Path, RuleEntry, Verdict},
};

pub use compose::{Composer, Style};
pub use generate::{ID, Kind, Made, generate};
pub use model::{Leniency, Reading};
pub use names::Name;

/// A rule: a name, and what it says of the name itself and of those below it.
pub type Rule = (&'static str, RuleEntry);

/// The rules that the made-up answers are judged by.
pub const RULES: &[Rule] = &[
    ("vpn.test", entry(Verdict::VPN, Verdict::VPN)),
    ("direct.vpn.test", entry(Verdict::DIRECT, Verdict::DIRECT)),
    ("exact.test", entry(Verdict::VPN, Verdict::NONE)),
    ("below.test", entry(Verdict::NONE, Verdict::VPN)),
    ("plain.test", entry(Verdict::DIRECT, Verdict::DIRECT)),
    ("block.test", entry(Verdict::BLOCK, Verdict::BLOCK)),
    ("us.test", entry(US, US)),
];

/// A certain VPN.
pub const US: Verdict = Verdict::by(Path::vpn(2));

/// Seconds that an answer grants at most.
const DAY: u32 = 86_400;

/// What an answer to a question that was asked teaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// What becomes of the answer.
    pub outcome: Outcome,
    /// The addresses learned, each with the seconds that it is granted and its verdict.
    pub addresses: BTreeMap<IpAddr, (u32, Verdict)>,
}

impl Lesson {
    fn none(outcome: Outcome) -> Self {
        Self {
            outcome,
            addresses: BTreeMap::new(),
        }
    }

    fn learn(&mut self, address: IpAddr, ttl: u32, verdict: Verdict) {
        let granted = self.addresses.entry(address).or_insert((0, verdict));
        granted.0 = granted.0.max(ttl.min(DAY));
    }
}

/// A question that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its ID.
    pub id: u16,
    /// The name.
    pub name: Name,
}

/// What steer-common, as the kernel programs call it, learns from `octets` as the answer to `asked`.
pub fn learned(asked: &Asked, octets: &[u8]) -> Lesson {
    ours::learn(asked, octets)
}

/// What is to be learned by what hickory-proto reads, and where it had to be more lenient to read as much.
pub fn expected(asked: &Asked, octets: &[u8]) -> (Lesson, Reading) {
    let reading = model::read(octets);
    (model::learn(asked, &reading), reading)
}

/// Octets as an answer: steer-common and the model learn the same of it, in a bounded number of steps, by the octets
/// of the message alone.
pub fn check(octets: &[u8]) {
    let asked = Asked {
        id: octets.first_chunk().map_or(0, |id| u16::from_be_bytes(*id)),
        name: Name::of_question(octets).unwrap_or_default(),
    };
    let ours = learned(&asked, octets);
    let (theirs, reading) = expected(&asked, octets);
    assert_eq!(
        ours, theirs,
        "steer-common differs from the model: {reading:?}"
    );
}

const fn entry(exact: Verdict, below: Verdict) -> RuleEntry {
    RuleEntry { exact, below }
}
