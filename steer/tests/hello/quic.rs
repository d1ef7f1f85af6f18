//! Initials of quinn's client, of the specifications, and such as no client sends yet but may.

use std::{
    collections::BTreeMap,
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    ClientConfig, ConnectionId, Endpoint, EndpointConfig, TransportConfig,
    crypto::rustls::QuicClientConfig,
};
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    pki_types::ServerName,
    quic::{ClientConnection, Keys, Version},
};
use steer::learn::{
    hello::Greeting,
    quic::Flights,
    stream::{Limits, Outcome, Why},
};

use crate::{Dice, client::Clients, count, vectors};

type Told = Vec<Outcome<Greeting>>;

fn read(flights: &mut Flights<u8>, datagram: &[u8]) -> Told {
    let told = flights.datagram(&1, datagram, Instant::now());
    told.into_iter().map(|(_, outcome)| outcome).collect()
}

fn read_all(datagrams: &[Vec<u8>]) -> Told {
    let mut flights = Flights::new(Limits::default());
    let told: Vec<_> = datagrams.iter().map(|d| read(&mut flights, d)).collect();
    told.into_iter()
        .find(|told| !told.is_empty())
        .unwrap_or_default()
}

fn name_in(told: &Told) -> Option<&str> {
    match &told[..] {
        [Outcome::Found(Greeting::Named { name, .. })] => Some(name.as_str()),
        _ => None,
    }
}

const FOREIGN: Outcome<Greeting> = Outcome::Found(Greeting::Foreign);

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn the_initials_of_the_specifications_are_read() {
    for vector in [vectors::RFC_9001, vectors::RFC_9369] {
        let octets = hex(vector);
        assert_eq!(octets.len(), 1200);
        assert_eq!(
            name_in(&read_all(slice::from_ref(&octets))),
            Some("example.com")
        );
        for at in (0..octets.len()).step_by(7).chain([octets.len() - 1]) {
            let mut broken = octets.clone();
            broken[at] ^= 4;
            assert_eq!(
                name_in(&read_all(&[broken])),
                None,
                "with octet {at} changed"
            );
        }
        for size in 1..octets.len() {
            assert_eq!(
                read_all(&[octets[..size].to_vec()]),
                [FOREIGN],
                "of {size} octets"
            );
        }
    }
}

/// The first datagrams of quinn's client.
fn quinn(config: rustls::ClientConfig, name: &str, dice: &mut Dice) -> Vec<Vec<u8>> {
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let mut config = ClientConfig::new(Arc::new(crypto));
    let destination = dice.octets_of(8..21);
    config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&destination)));
    let mut transport = TransportConfig::default();
    transport.initial_mtu([1200, 1350, 1472][dice.below(3)]);
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
    let server = "192.0.2.1:443".parse().unwrap();
    let mut now = Instant::now();
    let (_, mut connection) = endpoint.connect(now, config, server, name).unwrap();
    let mut datagrams = Vec::new();
    // Nobody answers, so that it sends all again.
    for _ in 0..=dice.below(2) {
        let mut buffer = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) {
            datagrams.push(buffer[..transmit.size].to_vec());
            buffer.clear();
        }
        now += Duration::from_secs(5);
        connection.handle_timeout(now);
    }
    datagrams
}

#[test]
fn the_initials_of_quinn_are_read() {
    let mut dice = Dice::new();
    let clients = Clients::new();
    let mut tally = BTreeMap::<String, u32>::new();
    for i in 0..count() {
        let config = if i % 2 == 0 {
            clients.post_quantum.clone()
        } else {
            clients.only_new.clone()
        };
        let name = dice.name();
        let mut datagrams = quinn(config, &name, &mut dice);
        let sent = datagrams.len();
        dice.shuffle(&mut datagrams);
        let told = read_all(&datagrams);
        assert_eq!(
            name_in(&told),
            Some(&*name.to_ascii_lowercase()),
            "{name}, {dice}: {told:?} of {datagrams:02x?}"
        );
        *tally
            .entry(format!("{sent} datagrams: the name that was asked for"))
            .or_default() += 1;

        let which = dice.below(datagrams.len());
        let at = dice.below(datagrams[which].len());
        datagrams[which][at] ^= 1 << dice.below(8);
        let told = read_all(&datagrams);
        let what = match &told[..] {
            [] => "nothing yet",
            [Outcome::Found(Greeting::Foreign)] => "no Initial",
            // Another datagram has it, or what was changed stands behind the Initial.
            [Outcome::Found(Greeting::Named { name: found, .. })]
                if found.as_str() == name.to_ascii_lowercase() =>
            {
                "the name that was asked for"
            }
            _ => panic!("{told:?} for {name}, {dice}: {datagrams:02x?}"),
        };
        *tally.entry(format!("one bit changed: {what}")).or_default() += 1;
    }
    println!("{} clients of quinn:", count());
    for (what, number) in tally {
        println!("{number:>7}  {what}");
    }
}

/// A client that makes its Initials in every way that it may.
struct Odd {
    version: Version,
    keys: Keys,
    destination: Vec<u8>,
    token: Vec<u8>,
    number: u64,
}

impl Odd {
    fn new(version: Version, destination: Vec<u8>) -> Self {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
        let quic = suite.quic_suite().unwrap();
        Self {
            keys: Keys::initial(version, suite, quic.quic, &destination, Side::Client),
            version,
            destination,
            token: Vec::new(),
            number: 0,
        }
    }

    fn version_number(&self) -> [u8; 4] {
        match self.version {
            Version::V2 => [0x6b, 0x33, 0x43, 0xcf],
            _ => [0, 0, 0, 1],
        }
    }

    fn is_v2(&self) -> bool {
        matches!(self.version, Version::V2)
    }

    /// An Initial with these frames.
    fn initial(&mut self, frames: &[u8], dice: &mut Dice) -> Vec<u8> {
        // As many octets as tell the number without any that was acknowledged, or more.
        let number_size = if self.number < 128 {
            1 + dice.below(4)
        } else {
            3 + dice.below(2)
        };
        let mut payload = frames.to_vec();
        payload.resize(payload.len().max(4), 0);
        let kind = if self.is_v2() { 0xd0 } else { 0xc0 };
        let mut header = vec![kind | (number_size - 1) as u8];
        header.extend(self.version_number());
        header.push(self.destination.len() as u8);
        header.extend(&self.destination);
        let source = dice.octets_of(0..21);
        header.push(source.len() as u8);
        header.extend(source);
        header.extend(varint(self.token.len(), dice));
        header.extend(&self.token);
        header.extend(varint(number_size + payload.len() + 16, dice));
        let at = header.len();
        header.extend(&self.number.to_be_bytes()[8 - number_size..]);
        let tag = self
            .keys
            .local
            .packet
            .encrypt_in_place(self.number, &header, &mut payload);
        let tag = tag.unwrap();
        let mut packet = [&header, &payload, tag.as_ref()].concat();
        let (front, sample) = packet.split_at_mut(at + 4);
        let (first, number) = front.split_at_mut(at);
        self.keys
            .local
            .header
            .encrypt_in_place(&sample[..16], &mut first[0], &mut number[..number_size])
            .unwrap();
        self.number += 1 + dice.below(3) as u64;
        packet
    }

    /// A packet of 0-RTT or of the handshake, which nobody but the server can read.
    fn other(&self, dice: &mut Dice) -> Vec<u8> {
        let kinds = if self.is_v2() {
            [0xe0, 0xf0]
        } else {
            [0xd0, 0xe0]
        };
        let mut packet = vec![kinds[dice.below(2)]];
        packet.extend(self.version_number());
        packet.push(self.destination.len() as u8);
        packet.extend(&self.destination);
        packet.push(0);
        let octets = dice.octets_of(20..200);
        packet.extend(varint(octets.len(), dice));
        packet.extend(octets);
        packet
    }
}

/// A number in as many octets as there is need for, or more (RFC 9000 section 16).
fn varint(number: usize, dice: &mut Dice) -> Vec<u8> {
    let least = match number {
        0..64 => 0,
        64..16384 => 1,
        _ => 2,
    };
    let kind = least + dice.below(4 - least);
    let size = 1 << kind;
    let mut octets = (number as u64).to_be_bytes()[8 - size..].to_vec();
    octets[0] |= (kind as u8) << 6;
    octets
}

fn crypto(at: usize, octets: &[u8], dice: &mut Dice) -> Vec<u8> {
    let head = [vec![6], varint(at, dice), varint(octets.len(), dice)].concat();
    [&head, octets].concat()
}

/// Frames beside those of the handshake.
fn filler(dice: &mut Dice) -> Vec<u8> {
    let ranges = dice.below(3);
    let numbers = |count: usize, dice: &mut Dice| -> Vec<u8> {
        (0..count)
            .flat_map(|_| {
                let number = dice.below(1 << 20);
                varint(number, dice)
            })
            .collect()
    };
    match dice.below(4) {
        0 => vec![0; 1 + dice.below(50)],
        1 => vec![1],
        kind => [
            vec![kind as u8],
            numbers(2, dice),
            varint(ranges, dice),
            numbers(1 + 2 * ranges + if kind == 3 { 3 } else { 0 }, dice),
        ]
        .concat(),
    }
}

fn bare_hello(config: rustls::ClientConfig, version: Version, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), version, name, vec![1, 1, 5]).unwrap();
    let mut octets = Vec::new();
    client.write_hs(&mut octets);
    octets
}

#[test]
fn initials_are_read_in_every_form_that_they_may_have() {
    let mut dice = Dice::new();
    let clients = Clients::new();
    for i in 0..count() {
        let version = if i % 2 == 0 { Version::V1 } else { Version::V2 };
        let config = if dice.once_in(2) {
            clients.post_quantum.clone()
        } else {
            clients.only_new.clone()
        };
        let name = dice.name();
        let hello = bare_hello(config, version, &name);
        let mut client = Odd::new(version, dice.octets_of(0..21));
        if dice.once_in(3) {
            client.token = dice.octets_of(0..100);
        }
        client.number = if dice.once_in(2) {
            0
        } else {
            dice.below(1 << 16) as u64
        };

        let mut pieces = dice.cut(&hello, 8);
        let again = pieces[0].clone();
        pieces.push(again);
        dice.shuffle(&mut pieces);
        let mut datagrams = vec![Vec::new()];
        for (at, octets) in &pieces {
            let mut frames = Vec::new();
            while dice.once_in(2) {
                frames.extend(filler(&mut dice));
            }
            frames.extend(crypto(*at, octets, &mut dice));
            while dice.once_in(2) {
                frames.extend(filler(&mut dice));
            }
            let last = datagrams.len() - 1;
            datagrams[last].extend(client.initial(&frames, &mut dice));
            if dice.once_in(3) {
                let other = client.other(&mut dice);
                datagrams[last].extend(other);
            }
            if dice.once_in(2) {
                datagrams.push(Vec::new());
            }
            // The client takes the server's connection ID; the keys stay.
            if dice.once_in(10) {
                client.destination = dice.octets_of(0..21);
            }
        }
        datagrams.retain(|datagram| !datagram.is_empty());
        let told = read_all(&datagrams);
        assert_eq!(
            name_in(&told),
            Some(&*name.to_ascii_lowercase()),
            "{name}, {version:?}, {dice}: {told:?} of {datagrams:02x?}"
        );
    }
}

#[test]
fn a_client_that_was_sent_away_to_come_again_is_read() {
    let mut dice = Dice::new();
    let hello = bare_hello(Clients::new().only_new, Version::V1, "a.test");
    // The client puts its extensions in any order: not even half of the name is in the first part.
    let name = hello.windows(6).position(|octets| octets == b"a.test");
    let (before, after) = hello.split_at(name.expect("the name is in it"));
    let mut flights = Flights::new(Limits::default());
    let mut client = Odd::new(Version::V1, vec![7; 8]);
    let first = client.initial(&crypto(0, before, &mut dice), &mut dice);
    assert_eq!(read(&mut flights, &first), []);
    // After a Retry: other keys, a token, and the numbers go on.
    let mut client = Odd {
        number: client.number,
        token: vec![9; 40],
        ..Odd::new(Version::V1, vec![8; 20])
    };
    let second = client.initial(&crypto(0, before, &mut dice), &mut dice);
    assert_eq!(read(&mut flights, &second), []);
    let third = client.initial(&crypto(before.len(), after, &mut dice), &mut dice);
    assert_eq!(name_in(&read(&mut flights, &third)), Some("a.test"));
    // And again for whatever comes.
    assert_eq!(name_in(&read(&mut flights, &first)), Some("a.test"));
}

#[test]
fn what_is_no_initial_is_told_at_once_unless_one_was_read() {
    let mut dice = Dice::new();
    let hello = bare_hello(Clients::new().only_new, Version::V1, "a.test");
    let mut client = Odd::new(Version::V1, vec![7; 8]);
    let good = client.initial(&crypto(0, &hello[..50], &mut dice), &mut dice);
    let rest = client.initial(&crypto(50, &hello[50..], &mut dice), &mut dice);
    let mut draft = good.clone();
    draft[1] = 0xff;
    let mut negotiation = good.clone();
    negotiation[1..5].fill(0);
    let mut long_id = good.clone();
    long_id[5] = 21;
    for other in [
        draft,
        negotiation,
        long_id,
        vec![0x40; 1200],
        vec![0; 40],
        vec![0xc0],
    ] {
        assert_eq!(read_all(slice::from_ref(&other)), [FOREIGN], "{other:02x?}");
        let told = read_all(&[good.clone(), other, rest.clone()]);
        assert_eq!(name_in(&told), Some("a.test"));
    }
    // One that only the server can read says nothing yet.
    let other = client.other(&mut dice);
    assert_eq!(name_in(&read_all(&[other, good, rest])), Some("a.test"));
}

#[test]
fn what_may_not_be_in_an_initial_is_foreign_and_a_long_handshake_given_up() {
    let mut dice = Dice::new();
    let mut client = Odd::new(Version::V2, vec![7; 8]);
    let handshake_done = client.initial(&[0x1e, 0, 0, 0], &mut dice);
    assert_eq!(read_all(&[handshake_done]), [FOREIGN]);
    let cut_off = client.initial(&[6, 0, 40, 1, 2, 3], &mut dice);
    assert_eq!(read_all(&[cut_off]), [FOREIGN]);
    let no_hello = client.initial(&crypto(0, &[2, 0, 0, 9], &mut dice), &mut dice);
    assert_eq!(read_all(&[no_hello]), [FOREIGN]);
    let far = client.initial(&crypto(1 << 20, &[1], &mut dice), &mut dice);
    assert_eq!(read_all(&[far]), [Outcome::GivenUp(Why::TooLong)]);
}

#[test]
fn a_flow_of_which_nothing_comes_is_given_up() {
    let mut dice = Dice::new();
    let mut client = Odd::new(Version::V1, vec![7; 8]);
    let mut flights = Flights::new(Limits::default());
    assert_eq!(read(&mut flights, &client.initial(&[1], &mut dice)), []);
    assert_eq!(flights.expire(Instant::now()), []);
    let later = Instant::now() + Limits::default().idle;
    assert_eq!(flights.expire(later), [(1, Outcome::GivenUp(Why::Idle))]);
    assert_eq!(flights.expire(later), []);
}
