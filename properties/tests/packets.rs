//! Made-up headers: what is read where they stand is what is read from a copy of them.

use fastrand::Rng;
use steer_common::{
    packet::{Head, PLAIN_V6, Packet, TCP, UDP, plain},
    types::Address,
};
use steer_properties::packet;

const HEADERS: usize = 100_000;

#[test]
fn plain_headers_are_read_alike_and_most_are_plain() {
    let mut rng = Rng::with_seed(0x5eed);
    let mut plains = 0;
    for _ in 0..HEADERS {
        let mut octets = [0; PLAIN_V6 as usize];
        rng.fill(&mut octets);
        let is_v4 = rng.bool();
        let protocol = *rng
            .choice(&[TCP, TCP, UDP, UDP, 1])
            .expect("there are some") as u8;
        if is_v4 {
            octets[0] = if rng.u8(..8) == 0 { 0x46 } else { 0x45 };
            octets[6] &= if rng.u8(..8) == 0 { 0xff } else { 0x60 };
            octets[7] &= if rng.u8(..8) == 0 { 0xff } else { 0 };
            octets[9] = protocol;
        } else {
            octets[0] = 0x60 | octets[0] & 0x0f;
            octets[6] = protocol;
        }
        packet::check(&octets);

        let mut head = Head::new();
        head.buffer()[..octets.len()].copy_from_slice(&octets);
        let mut packet = Packet::new(Address::default(), Address::default(), 0);
        plains += usize::from(plain(&head, is_v4, &mut packet));
    }
    assert!(plains > HEADERS / 3, "{plains} of {HEADERS}");
    assert!(plains < HEADERS, "{plains} of {HEADERS}");
}
