//! The seeds of the fuzz targets, as `cargo run -p steer-properties` writes them to `fuzz/corpus`.

use fastrand::Rng;

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
    seeds
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
        ("v6-unreachable", v6(58, &[1, 0, 0, 0, 0, 0, 0, 0])),
        ("no-ip", vec![0; 40]),
    ];
    let seed = |(name, octets): (&str, Vec<u8>)| ("packet", name.to_owned(), octets);
    named.map(seed).into()
}
