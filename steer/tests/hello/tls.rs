//! rustls's server, the kernel's reader and user space's read the same hellos.

use std::{collections::BTreeMap, io::Read as _, time::Instant};

use rustls::server::Acceptor;
use steer::learn::{
    hello::{Greeting, Greetings},
    stream::{Limits, Outcome, Segment, Streams},
};
use steer_common::{
    opening::{Opening, Step},
    tls::Hello,
};

use crate::{
    Dice,
    client::{Clients, first_octets},
    count,
};

/// What a reader makes of the first octets of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Named(String),
    Unnamed,
    More,
    Records,
    Foreign,
}

/// What was done to the octets that rustls's client made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Made {
    Whole,
    Recut,
    Truncated,
    Broken,
}

/// rustls's server. `Err` is a refusal, in its words.
fn rustls(octets: &[u8]) -> Result<Seen, String> {
    let mut acceptor = Acceptor::default();
    let mut rest = octets;
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                // It keeps the dot of the root, which is no other name.
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(name.map_or(Seen::Unnamed, |name| {
                    Seen::Named(name.strip_suffix('.').unwrap_or(&name).to_owned())
                }));
            }
            Ok(None) if rest.is_empty() => return Ok(Seen::More),
            Ok(None) => {}
            Err((error, _)) => return Err(error.to_string()),
        }
        acceptor
            .read_tls(&mut rest.by_ref().take(4096))
            .map_err(|error| error.to_string())?;
    }
}

fn kernel(octets: &[u8]) -> Seen {
    let mut opening = Opening::<4096>::new();
    opening.fill(octets);
    let mut hello = Hello::new();
    let begun = hello.begin(&opening);
    match hello.read(&opening, begun) {
        Step::On => unreachable!(),
        Step::Name(name) => {
            let text = std::str::from_utf8(opening.text(name)).unwrap();
            Seen::Named(text.to_ascii_lowercase())
        }
        Step::NoName => Seen::Unnamed,
        Step::More => Seen::More,
        Step::Records => Seen::Records,
        Step::Foreign => Seen::Foreign,
    }
}

/// User space, to which the octets come in segments in any order, some of them twice.
fn user(octets: &[u8], dice: &mut Dice, greetings: Greetings) -> Seen {
    let first = dice.next() as u32;
    let mut pieces = dice.cut(octets, 6);
    let again = pieces.first().cloned();
    pieces.extend(again);
    dice.shuffle(&mut pieces);
    let mut streams = Streams::new(greetings, Limits::default());
    for (at, octets) in &pieces {
        let segment = Segment {
            first,
            sequence: first.wrapping_add(*at as u32),
            octets,
        };
        let told = streams.segment(&(), segment, Instant::now()).pop();
        if let Some((_, outcome)) = told {
            return match outcome {
                Outcome::Found(Greeting::Named { name, .. }) => Seen::Named(name.to_string()),
                Outcome::Found(Greeting::Unnamed) => Seen::Unnamed,
                Outcome::Found(Greeting::Foreign) => Seen::Foreign,
                Outcome::GivenUp(why) => panic!("given up because {why}"),
            };
        }
    }
    Seen::More
}

/// The same handshake message in records of other sizes.
fn recut(octets: &[u8], dice: &mut Dice) -> Vec<u8> {
    let most = 1 + dice.below(octets.len());
    let mut message = &octets[5..];
    let mut records = Vec::new();
    while !message.is_empty() {
        let size = (1 + dice.below(most)).min(message.len());
        records.extend([22, 3, 1]);
        records.extend((size as u16).to_be_bytes());
        records.extend(&message[..size]);
        message = &message[size..];
    }
    records
}

fn mangle(octets: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        if octets.is_empty() {
            return;
        }
        // The first 120 octets decide more than others.
        let end = if dice.once_in(2) { 120 } else { octets.len() };
        let at = dice.below(end.min(octets.len()));
        match dice.below(4) {
            0 => drop(octets.remove(at)),
            1 => octets.insert(at, dice.next() as u8),
            2 => octets[at] ^= 1 << dice.below(8),
            _ => octets[at] = dice.next() as u8,
        }
    }
}

/// Why the readers differ from rustls, or a complaint. Each arm is a difference that may be, and says why.
fn difference(
    made: Made,
    theirs: &Result<Seen, String>,
    ours: &Seen,
) -> Result<&'static str, &'static str> {
    Ok(match (theirs, ours) {
        (Ok(theirs), ours) if theirs == ours => "the same",
        // The name stands there whole, which is all that a verdict needs.
        (Ok(Seen::More), Seen::Named(_)) => "the name is found before the hello is whole",
        // Reading in order, a length that cannot be is seen at once; rustls waits for the whole message first.
        (Ok(Seen::More), Seen::Foreign) if made == Made::Broken => {
            "a hello that cannot become one is refused before it is whole"
        }
        // Likewise an address or a text that can be nobody's name.
        (Ok(Seen::More), Seen::Unnamed) if made == Made::Broken => {
            "a text that is no name is passed over before the hello is whole"
        }
        (Err(_), Seen::Foreign) => "both refuse",
        // rustls checks all that a server needs. The server will refuse it as well, whichever way it comes.
        (Err(_), Seen::Named(_)) => "rustls refuses for what does not concern the name",
        (Err(_), Seen::Unnamed) => "rustls refuses the name or what does not concern it",
        (Err(_), Seen::More) => "rustls refuses a record or a length before it is whole",
        _ => return Err("no difference that may be"),
    })
}

#[test]
fn hellos_are_read_as_rustls_reads_them() {
    let mut dice = Dice::new();
    let clients = Clients::new();
    let mut tally = BTreeMap::<(Made, &str), u32>::new();
    let mut sizes = (usize::MAX, 0);
    for i in 0..count() {
        let mut config = match i % 3 {
            0 => clients.classic.clone(),
            1 => clients.post_quantum.clone(),
            _ => clients.old.clone(),
        };
        let name = match dice.below(20) {
            0 => "192.0.2.1".to_owned(),
            1 => "2001:db8::1".to_owned(),
            _ => dice.name(),
        };
        let named = name.ends_with("test") && {
            config.enable_sni = !dice.once_in(20);
            config.enable_sni
        };
        let mut octets = first_octets(config, &name);
        sizes = (octets.len().min(sizes.0), octets.len().max(sizes.1));
        let mut made = Made::Whole;
        if dice.once_in(3) {
            octets = recut(&octets, &mut dice);
            made = Made::Recut;
        }
        if dice.once_in(4) {
            octets.truncate(dice.below(octets.len()));
            made = Made::Truncated;
        }
        if i % 2 == 0 && !octets.is_empty() {
            mangle(&mut octets, &mut dice);
            made = Made::Broken;
        }

        let theirs = rustls(&octets);
        let kernel = kernel(&octets);
        let user = user(&octets, &mut dice, Greetings::new());
        let told = format!(
            "{made:?}, {name}, {dice}: rustls {theirs:?}, kernel {kernel:?}, user space {user:?}: {octets:02x?}"
        );
        if made == Made::Whole || made == Made::Recut {
            let expected = if named {
                Seen::Named(name.to_ascii_lowercase())
            } else {
                Seen::Unnamed
            };
            assert_eq!(user, expected, "{told}");
            assert_eq!(theirs, Ok(expected), "{told}");
        }
        match difference(made, &theirs, &user) {
            Ok(why) => *tally.entry((made, why)).or_default() += 1,
            Err(why) => panic!("{why}: {told}"),
        }
        // The kernel sees less at a time, and says no other than user space with what it sees.
        let agrees = match &kernel {
            Seen::More => octets.len() > 4096 || user == Seen::More,
            Seen::Records => made != Made::Whole,
            // User space takes what begins otherwise for a request.
            Seen::Foreign if octets[0] != 22 => user != Seen::Unnamed,
            settled => *settled == user,
        };
        assert!(agrees, "{told}");
    }
    println!("{} hellos of {} to {} octets:", count(), sizes.0, sizes.1);
    for ((made, why), number) in tally {
        println!("{number:>7}  {made:<9?}  {why}");
    }
}
