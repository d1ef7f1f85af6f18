//! Made-up answers of the DNS: the kernel program, steer-common on the host and hickory-proto learn the same; needs root.
//!
//! `STEER_ANSWERS` says how many answers, `STEER_SEED` which: the first line of output tells both.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

#[path = "../datapath/kernel.rs"]
#[expect(dead_code, reason = "the rest of it serves the tests of the datapath")]
mod kernel;
#[path = "../datapath/message.rs"]
#[expect(dead_code, reason = "the rest of it serves the tests of the datapath")]
mod message;
#[path = "../datapath/packet.rs"]
#[expect(dead_code, reason = "the rest of it serves the tests of the datapath")]
mod packet;

use std::{
    collections::BTreeMap,
    env,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use steer_common::{
    stats::Outcome,
    types::{NameEntry, Verdict},
};
use steer_properties::dns::{self, Lesson, Made};

use crate::{
    kernel::{DROP, Kernel, NEXT},
    packet::udp,
};

const CLIENT: &str = "172.17.0.2";
const RESOLVER: &str = "192.0.2.53";
const PORT: u16 = 40_000;
/// What a kernel takes for a test run at most, less the headers: a page without room for its own structures.
const LARGEST: usize = 3_500;
/// Seconds that the tests' configuration grants at least.
const FLOOR: u32 = 60;
const SECOND: u64 = 1_000_000_000;

#[test]
fn answers_teach_the_same_in_the_kernel_on_the_host_and_by_hickory() {
    let answers = number("STEER_ANSWERS").unwrap_or(1_000);
    let seed = number("STEER_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs()
    });
    println!("\n{answers} answers, seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut kernel = Kernel::new();
    kernel.rules(dns::RULES);
    let mut tally = Tally::default();
    for turn in 0..answers {
        let made = dns::generate(&mut rng);
        let (expected, reading) = dns::expected(&made.question(), &made.octets);
        let host = dns::learned(&made.question(), &made.octets);
        let context = || format!("answer {turn} of seed {seed}: {made:?}, read as {reading:?}");
        assert_eq!(host, expected, "the host: {}", context());
        if made.octets.len() > LARGEST {
            tally.too_large += 1;
        } else {
            let learned = run(&mut kernel, &made);
            assert_eq!(learned, granted(&expected), "the kernel: {}", context());
        }
        tally.add(&made, &expected, &reading);
    }
    tally.print();
    assert!(
        number("STEER_ANSWERS").is_some() || tally.is_telling(),
        "too few of a kind"
    );
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {value}")),
    )
}

/// Has a container ask, and its bridge carry the answer; returns what was learned, and forgets it.
fn run(kernel: &mut Kernel, made: &Made) -> Lesson {
    let question = message::question(dns::ID, &made.asked);
    let frame = udp(CLIENT, PORT, RESOLVER, 53, &question);
    assert_eq!(kernel.run("bridge_ingress", &frame, 0), (NEXT, 0));
    let frame = udp(RESOLVER, 53, CLIENT, PORT, &made.octets);
    let outcome = kernel.outcome(|kernel| {
        let (action, mark) = kernel.run("bridge_egress", &frame, 0);
        assert!(
            mark == 0 && (action == NEXT || action == DROP),
            "{action}, {mark}"
        );
    });
    kernel.learned_names();
    let granted = take_names(kernel);
    let mut learned = kernel.datapath.addresses().unwrap();
    let entries: Vec<_> = learned.iter().map(Result::unwrap).collect();
    for (address, entry) in &entries {
        learned.remove(address).unwrap();
        let ends = [
            (entry.vpn_until, entry.vpn),
            (entry.direct_until, Verdict::DIRECT),
            (entry.block_until, Verdict::BLOCK),
        ];
        let given: Vec<_> = ends.into_iter().filter(|(until, _)| *until != 0).collect();
        let address = address.to_ip();
        let named = granted
            .get(&address)
            .map(|(name, _)| (name.until, name.verdict));
        assert_eq!(given, named.into_iter().collect::<Vec<_>>(), "{address}");
    }
    assert_eq!(granted.len(), entries.len(), "NAMES and ADDRS differ");
    let addresses = granted
        .into_iter()
        .map(|(address, (name, seconds))| (address, (seconds, name.verdict)));
    Lesson {
        outcome,
        addresses: addresses.collect(),
    }
}

/// By which name each address was learned, and for how many seconds; forgets it.
fn take_names(kernel: &mut Kernel) -> BTreeMap<IpAddr, (NameEntry, u32)> {
    let mut names = kernel.datapath.names().unwrap();
    let entries: Vec<_> = names.iter().map(Result::unwrap).collect();
    for (key, _) in &entries {
        names.remove(key).unwrap();
    }
    let granted = entries.into_iter().map(|(key, entry)| {
        let seconds = (entry.until - entry.learned) / SECOND;
        (key.address.to_ip(), (entry, seconds as u32))
    });
    granted.collect()
}

/// The kernel's grant by the tests' configuration.
fn granted(lesson: &Lesson) -> Lesson {
    let mut granted = lesson.clone();
    for (ttl, _) in granted.addresses.values_mut() {
        *ttl = FLOOR.max(*ttl);
    }
    granted
}

/// How often what came.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<(dns::Kind, &'static str), usize>,
    leniencies: BTreeMap<dns::Leniency, usize>,
    learned: usize,
    too_large: usize,
}

impl Tally {
    fn add(&mut self, made: &Made, lesson: &Lesson, reading: &dns::Reading) {
        let outcome = (made.kind, lesson.outcome.name());
        *self.outcomes.entry(outcome).or_default() += 1;
        for leniency in &reading.leniencies {
            *self.leniencies.entry(*leniency).or_default() += 1;
        }
        self.learned += lesson.addresses.len();
    }

    fn print(&self) {
        println!("{} addresses learned", self.learned);
        for ((kind, outcome), count) in &self.outcomes {
            println!("{kind:?}: {outcome:<16} {count:>8}");
        }
        for leniency in dns::Leniency::ALL {
            let count = self.leniencies.get(&leniency).copied().unwrap_or_default();
            println!("allowed difference {leniency:?}: {count}");
        }
        println!(
            "too large for a test run of the kernel program: {}",
            self.too_large
        );
    }

    /// Whether answers of all kinds came, and each outcome that a message can lead to.
    fn is_telling(&self) -> bool {
        let came = |kind, outcome: Outcome| self.outcomes.contains_key(&(kind, outcome.name()));
        came(dns::Kind::Valid, Outcome::Learned)
            && came(dns::Kind::Odd, Outcome::Learned)
            && came(dns::Kind::Broken, Outcome::HeldBack)
            && came(dns::Kind::Broken, Outcome::BadMessage)
            && came(dns::Kind::Broken, Outcome::OtherName)
    }
}
