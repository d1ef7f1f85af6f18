use std::time::Duration;

use proptest::prelude::*;

use super::{Granted, Refusal, Request, by_network, client::has_forgotten, who_answers};
use crate::{
    host::{Link, link::Kind},
    route::{IfIndex, Protocol},
};

fn request() -> impl Strategy<Value = Request> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let ports = (1u16.., any::<u16>());
    (protocol, ports, 1u32..).prop_map(|(protocol, (internal, external), lifetime)| Request {
        protocol,
        internal,
        external,
        lifetime,
    })
}

fn answer(request: &Request, result: u16, granted: &Granted) -> Vec<u8> {
    let mut octets = vec![0, 128 + request.encode()[1]];
    octets.extend(result.to_be_bytes());
    octets.extend(granted.epoch.to_be_bytes());
    octets.extend(granted.internal.to_be_bytes());
    octets.extend(granted.external.to_be_bytes());
    octets.extend(granted.lifetime.to_be_bytes());
    octets
}

#[test]
fn a_request_is_as_the_standard_has_it() {
    let request = Request {
        protocol: Protocol::Tcp,
        internal: 4666,
        external: 0x8001,
        lifetime: 7200,
    };
    assert_eq!(
        request.encode(),
        [0, 2, 0, 0, 0x12, 0x3a, 0x80, 0x01, 0, 0, 0x1c, 0x20]
    );
}

#[test]
fn refusals_are_told_apart() {
    let request = Request {
        protocol: Protocol::Udp,
        internal: 1,
        external: 0,
        lifetime: 1,
    };
    for (code, refusal) in [
        (1, Refusal::Version),
        (2, Refusal::NotAuthorized),
        (3, Refusal::Network),
        (4, Refusal::Resources),
        (5, Refusal::Unsupported),
        (99, Refusal::Other(99)),
    ] {
        let octets = [0, 129, 0, code, 0, 0, 0, 9];
        assert_eq!(request.answer(&octets), Some(Err(refusal)));
    }
    // PCP alone is spoken there (RFC 6887 appendix A).
    let octets = [2, 129, 0, 1, 0, 0, 0, 0];
    assert_eq!(request.answer(&octets), Some(Err(Refusal::Version)));
}

#[test]
fn a_gateway_that_began_anew_is_known_by_its_age() {
    let minute = Duration::from_secs(60);
    for (before, now, has) in [
        (100, 160, false),
        // Its clock may be slow by an eighth, and two seconds.
        (100, 150, false),
        (100, 149, true),
        (100, 0, true),
        (0, 60, false),
        (u32::MAX, u32::MAX, true),
    ] {
        assert_eq!(has_forgotten(before, minute, now), has, "{before} {now}");
    }
}

#[test]
fn a_gateway_is_where_the_network_says() {
    for (networks, own, gateway) in [
        (vec!["10.8.0.0/24"], "10.8.0.2", Some("10.8.0.1")),
        (vec!["10.2.0.2/32"], "10.2.0.2", Some("10.2.0.1")),
        (vec!["10.8.0.5/32"], "10.8.0.6", Some("10.8.0.5")),
        (vec!["10.9.0.2/31"], "10.9.0.3", Some("10.9.0.2")),
        (vec!["fd00::/64"], "10.8.0.2", None),
        (vec!["10.8.0.0/24"], "10.8.0.1", None),
    ] {
        let link = Link {
            index: IfIndex(4),
            name: "wg0".to_owned(),
            kind: Kind::Wireguard,
            up: true,
            controller: None,
            v4: Vec::new(),
            v6: Vec::new(),
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
        };
        let found = by_network(&link, own.parse().unwrap());
        let wanted = gateway.map(|it| it.parse().unwrap());
        assert_eq!(found, wanted, "{networks:?} {own}");
    }
}

#[test]
fn who_answers_is_told_from_noise() {
    for (octets, said) in [
        (&[0, 128, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4][..], Some(Ok(()))),
        (&[0, 128, 0, 3], Some(Err(Refusal::Network))),
        // PCP alone is spoken there.
        (&[2, 128, 0, 1], Some(Err(Refusal::Version))),
        (&[0, 129, 0, 0], None),
        (&[0, 0], None),
    ] {
        assert_eq!(who_answers(octets), said, "{octets:?}");
    }
}

proptest! {
    #[test]
    fn what_was_granted_is_read(
        request in request(),
        external in 1u16..,
        lifetime in any::<u32>(),
        epoch in any::<u32>(),
        is_zero in any::<bool>(),
        more in 0usize..9,
    ) {
        let internal = if is_zero { 0 } else { request.internal };
        let granted = Granted { internal, external, lifetime, epoch };
        let mut octets = answer(&request, 0, &granted);
        octets.extend(vec![7; more]);
        prop_assert_eq!(request.answer(&octets), Some(Ok(granted)));
        for size in 4..16 {
            prop_assert_eq!(request.answer(&octets[..size]), None);
        }
        let other = Request { internal: request.internal.wrapping_add(1), ..request };
        prop_assert_eq!(other.answer(&octets).is_some(), is_zero);
        let protocol = match request.protocol {
            Protocol::Tcp => Protocol::Udp,
            Protocol::Udp => Protocol::Tcp,
        };
        let other = Request { protocol, ..request };
        prop_assert_eq!(other.answer(&octets), None);
    }

    #[test]
    fn any_octets_are_an_answer_or_none(
        request in request(),
        octets in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        if let Some(Ok(granted)) = request.answer(&octets) {
            prop_assert!(octets.len() >= 16 && granted.external != 0);
        }
    }
}
