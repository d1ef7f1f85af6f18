//! The seeds of the fuzz targets, as `cargo run -p steer-properties` writes them to `fuzz/corpus`.

use std::sync::Arc;

use fastrand::Rng;
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};

use crate::dns;

/// A seed: its target, its name, its octets.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds that a program makes; others are written by hand.
pub fn made() -> Vec<Seed> {
    const EACH: usize = 12;
    let mut rng = Rng::with_seed(1);
    let mut seeds = Vec::new();
    for kind in [dns::Kind::Valid, dns::Kind::Odd, dns::Kind::Broken] {
        let answers = std::iter::repeat_with(|| dns::generate(&mut rng));
        let answers = answers.filter(|made| made.kind == kind && made.octets.len() < 600);
        for (number, made) in answers.take(EACH).enumerate() {
            let name = format!("{kind:?}-{number:02}").to_lowercase();
            seeds.push(("dns", name, made.octets));
        }
    }
    seeds.extend(packets());
    seeds.extend(hellos());
    seeds.extend(streams(&mut rng));
    seeds
}

/// The hellos of rustls's client, for TCP and for QUIC; an octet behind those for TCP says where they are cut.
fn hellos() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (kind, versions) in [
        ("tls12", &[&TLS12][..]),
        ("tls13", &[&TLS13]),
        ("both", ALL_VERSIONS),
    ] {
        for (named, name) in [("named", "www.example.com"), ("address", "192.0.2.1")] {
            let hello = hello(versions, name);
            let recut = hello[5..].chunks(60).flat_map(record).collect();
            for (how, mut octets) in [("", hello.clone()), ("-in-records", recut)] {
                octets.push(128);
                seeds.push(("tls", format!("{kind}-{named}{how}"), octets));
            }
            let bare = [&[1; 8], &hello[5..]].concat();
            seeds.push(("quic", format!("{kind}-{named}"), bare));
        }
    }
    seeds
}

fn hello(versions: &[&'static SupportedProtocolVersion], name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has these versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("it is a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client begins");
    let mut octets = Vec::new();
    client.write_tls(&mut octets).expect("memory takes it");
    octets
}

fn record(part: &[u8]) -> Vec<u8> {
    [&[22, 3, 1, 0, part.len() as u8], part].concat()
}

/// Made-up answers behind their lengths, as DNS over TCP has them.
fn streams(rng: &mut Rng) -> Vec<Seed> {
    let stream = |number: usize| {
        let mut octets = (number as u64).to_le_bytes().to_vec();
        for _ in 0..number {
            let message = dns::generate(rng).octets;
            octets.extend((message.len() as u16).to_be_bytes());
            octets.extend(message);
        }
        ("stream", format!("answers-{number}"), octets)
    };
    (1..6).map(stream).collect()
}

fn packets() -> Vec<Seed> {
    const V4: [u8; 20] = [
        0x45, 0, 0, 60, 0, 1, 0, 0, 64, 0, 0, 0, 10, 0, 0, 2, 203, 0, 113, 7,
    ];
    let v4 = |protocol: u8, rest: &[u8]| {
        let mut packet = V4.to_vec();
        packet[9] = protocol;
        packet.extend(rest);
        packet
    };
    let v6 = |next: u8, rest: &[u8]| {
        let mut packet = vec![0x60, 0, 0, 0, 0, 40, next, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        packet.extend(rest);
        packet
    };
    let tcp = |flags: u8| {
        let mut segment = vec![0x9c, 0x40, 1, 187];
        segment.extend([0; 8]);
        segment.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
        segment
    };
    let udp = [0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let quoting = |kind: u8, quoted: &[u8]| {
        let mut error = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        error.extend(quoted);
        error
    };
    let mut with_options = v4(6, &[1; 40]);
    with_options[0] = 0x4f;
    with_options.extend(tcp(0x02));
    let mut fragment = v4(17, &udp);
    fragment[7] = 0xb9;
    let mut extended = vec![60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];
    extended.extend(tcp(0x11));
    let mut in_pieces = vec![17, 0, 0, 9, 0, 0, 0, 1];
    in_pieces.extend(udp);
    let named = [
        ("v4-tcp-syn", v4(6, &tcp(0x02))),
        ("v4-tcp-rst", v4(6, &tcp(0x04))),
        ("v4-udp", v4(17, &udp)),
        ("v4-options", with_options),
        ("v4-later-fragment", fragment),
        ("v4-echo", v4(1, &[8, 0, 0, 0, 0, 1, 0, 1])),
        ("v4-cut-off", V4[..19].to_vec()),
        ("v6-tcp-syn", v6(6, &tcp(0x02))),
        ("v6-extensions", v6(0, &extended)),
        ("v6-later-fragment", v6(44, &in_pieces)),
        ("v6-unreachable", v6(58, &quoting(1, &[]))),
        ("v4-quotes-udp", v4(1, &quoting(3, &v4(17, &udp)))),
        ("v6-quotes-tcp", v6(58, &quoting(1, &v6(6, &tcp(0x02))))),
        ("v6-quotes-no-header", v6(58, &quoting(1, &[0x40; 8]))),
        ("no-ip", vec![0; 40]),
    ];
    let seed = |(name, octets): (&str, Vec<u8>)| ("packet", name.to_owned(), octets);
    named.map(seed).into()
}
