//! ClientHellos in QUIC Initials.

use std::time::Instant;

use fastrand::Rng;
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};
use steer::learn::{
    hello::{Greeting, Greetings},
    quic::Flights,
    stream::{Limits, Outcome},
};

use crate::stream::pieces;

/// A seed of eight octets, and the rest, which is taken for datagrams; for the frames of one; and for a handshake, which
/// is cut into CRYPTO frames in several datagrams that come in any order. Of the last the reader says what it says of
/// the handshake in one piece; of none does it change its mind.
pub fn check(octets: &[u8]) {
    let Some((seed, octets)) = octets.split_first_chunk() else {
        return;
    };
    let mut rng = Rng::with_seed(u64::from_le_bytes(*seed));
    let size = rng.usize(1..1500);
    outcome(octets.chunks(size).map(<[u8]>::to_vec));
    let mut client = Client::new(&mut rng);
    outcome([client.initial(octets)]);
    let greeting = Greetings::new().read_bare(octets);
    let datagrams = client.handshake(octets, &mut rng);
    let expected = greeting.map(Outcome::Found);
    assert_eq!(outcome(datagrams), expected, "{client:?}");
}

/// What comes of datagrams of one flow.
fn outcome(datagrams: impl IntoIterator<Item = Vec<u8>>) -> Option<Outcome<Greeting>> {
    let mut flights = Flights::new(Limits::default());
    let mut settled = None;
    for datagram in datagrams {
        let told = flights.datagram(&(), &datagram, Instant::now()).pop();
        let told = told.map(|((), outcome)| outcome);
        assert!(
            settled.is_none() || told == settled,
            "{settled:?} becomes {told:?}"
        );
        settled = told;
    }
    settled
}

/// What seals Initials.
struct Client {
    version: Version,
    keys: Keys,
    destination: Vec<u8>,
    number: u32,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} to {:02x?}, {} packets",
            self.version, self.destination, self.number
        )
    }
}

impl Client {
    fn new(rng: &mut Rng) -> Self {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is of TLS 1.3");
        let quic = suite.quic_suite().expect("ring has what QUIC needs").quic;
        let version = if rng.bool() { Version::V1 } else { Version::V2 };
        let destination: Vec<u8> = (0..rng.usize(..=20)).map(|_| rng.u8(..)).collect();
        Self {
            keys: Keys::initial(version, suite, quic, &destination, Side::Client),
            version,
            destination,
            number: 0,
        }
    }

    /// An Initial with these frames (RFC 9000 section 17.2.2), its number in four octets.
    fn initial(&mut self, frames: &[u8]) -> Vec<u8> {
        const TAG: usize = 16;
        const NUMBER: usize = 4;
        let (first, version) = match self.version {
            Version::V2 => (0xd3, 0x6b33_43cf_u32),
            _ => (0xc3, 1),
        };
        let mut payload = frames.to_vec();
        payload.resize(payload.len().max(NUMBER), 0);
        let mut header = vec![first];
        header.extend(version.to_be_bytes());
        header.push(self.destination.len() as u8);
        header.extend(&self.destination);
        header.extend([0, 0]);
        header.extend(varint(NUMBER + payload.len() + TAG));
        let at = header.len();
        header.extend(self.number.to_be_bytes());
        let keys = &self.keys.local;
        let sealed = keys
            .packet
            .encrypt_in_place(self.number.into(), &header, &mut payload);
        let tag = sealed.expect("it can be sealed");
        let mut packet = [&header, &payload, tag.as_ref()].concat();
        let (front, sample) = packet.split_at_mut(at + NUMBER);
        let (first, number) = front.split_at_mut(at);
        keys.header
            .encrypt_in_place(&sample[..TAG], &mut first[0], number)
            .expect("it can be masked");
        self.number += 1;
        packet
    }

    fn handshake(&mut self, octets: &[u8], rng: &mut Rng) -> Vec<Vec<u8>> {
        const CRYPTO: u8 = 6;
        let mut frames: Vec<_> = pieces(octets.len(), rng)
            .into_iter()
            .map(|(from, to)| {
                let (at, size) = (varint(from), varint(to - from));
                [&[CRYPTO], &at[..], &size, &octets[from..to]].concat()
            })
            .collect();
        rng.shuffle(&mut frames);
        let mut datagrams = Vec::new();
        while !frames.is_empty() {
            let some = frames.split_off(frames.len().saturating_sub(rng.usize(1..5)));
            datagrams.push(self.initial(&some.concat()));
        }
        rng.shuffle(&mut datagrams);
        datagrams
    }
}

/// A number in four octets (RFC 9000 section 16).
fn varint(number: usize) -> [u8; 4] {
    (0x8000_0000 | number as u32).to_be_bytes()
}
