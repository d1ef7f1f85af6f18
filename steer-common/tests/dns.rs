//! The parser of DNS messages against hickory-proto's, and against what is no message at all.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Message as Theirs, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use proptest::prelude::*;
use steer_common::{
    dns::{Error, Found, Message, Role, SIZE, STEPS, Step},
    suffix::{Key, hash_name},
};

const KEY: Key = Key([1, 2]);

/// What the kernel program would see: the role, the question's hash, all suffixes, and the addresses.
#[derive(Debug, PartialEq)]
struct Seen {
    role: Role,
    name: u64,
    suffixes: Vec<(u64, bool)>,
    addresses: Vec<(IpAddr, u32)>,
    end: Result<(), Error>,
}

fn read(octets: &[u8]) -> Option<Seen> {
    let mut message = Message::new();
    let size = octets.len().min(SIZE);
    message.buffer()[..size].copy_from_slice(&octets[..size]);
    message.filled(size as u32);
    let role = message.role();
    message.read_question().ok()?;
    let mut suffixes = Vec::new();
    let name = message.hash_name(&KEY, |hash, whole| suffixes.push((hash, whole)));
    let mut addresses = Vec::new();
    let mut found = Found::default();
    let mut end = Err(Error::CutShort);
    message.begin_answers();
    for _ in 0..STEPS {
        match message.step(&mut found) {
            Ok(Step::On | Step::Alias) => {}
            Ok(Step::Address) => addresses.push((found.address.to_ip(), found.ttl)),
            Ok(Step::End) => {
                end = Ok(());
                break;
            }
            Err(error) => {
                end = Err(error);
                break;
            }
        }
    }
    Some(Seen {
        role,
        name,
        suffixes,
        addresses,
        end,
    })
}

fn name() -> impl Strategy<Value = String> {
    // Up to 253 characters, so that the wire form stays within 255 octets.
    prop_oneof![
        4 => prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..6),
        1 => prop::collection::vec("[a-z0-9]{63}", 1..4),
        1 => prop::collection::vec("[a-z]", 1..127),
    ]
    .prop_map(|labels| labels.join("."))
    .prop_filter("too long", |name| name.len() <= 253)
}

fn data() -> impl Strategy<Value = RData> {
    prop_oneof![
        4 => any::<[u8; 4]>().prop_map(|a| RData::A(rdata::A(Ipv4Addr::from(a)))),
        4 => any::<[u8; 16]>().prop_map(|a| RData::AAAA(rdata::AAAA(Ipv6Addr::from(a)))),
        2 => name().prop_map(|n| RData::CNAME(rdata::CNAME(text(&n)))),
        1 => ".{0,200}".prop_map(|t| RData::TXT(rdata::TXT::new(vec![t]))),
    ]
    .prop_filter("text of at most 255 octets", |data| match data {
        RData::TXT(text) => text.txt_data.iter().all(|part| part.len() <= 255),
        _ => true,
    })
}

fn text(name: &str) -> Name {
    Name::from_labels(name.split('.').map(str::as_bytes)).unwrap()
}

fn answer(question: &str, records: &[(String, u32, RData)]) -> Theirs {
    let mut message = Theirs::new(7, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(text(question), RecordType::A));
    for (owner, ttl, data) in records {
        message.add_answer(Record::from_rdata(text(owner), *ttl, data.clone()));
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn agrees_with_hickory(
        question in name(),
        records in prop::collection::vec((name(), any::<u32>(), data()), 0..12),
        own in any::<bool>(),
    ) {
        // Half of the messages name the question as every record's owner, which compresses to pointers.
        let records: Vec<_> = records
            .into_iter()
            .map(|(owner, ttl, data)| (if own { question.clone() } else { owner }, ttl, data))
            .collect();
        let octets = answer(&question, &records).to_vec().unwrap();
        prop_assume!(octets.len() <= SIZE);
        let theirs = Theirs::from_vec(&octets).unwrap();
        let expected: Vec<_> = theirs
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(a) => Some((IpAddr::from(a.0), record.ttl)),
                RData::AAAA(a) => Some((a.0.to_canonical(), record.ttl)),
                _ => None,
            })
            .map(|(address, ttl)| (address, if ttl > i32::MAX as u32 { 0 } else { ttl }))
            .collect();
        let seen = read(&octets).unwrap();
        prop_assert_eq!(seen.role, Role::Answer);
        prop_assert_eq!(seen.name, hash_name(&KEY, &question));
        let labels: Vec<_> = question.split('.').collect();
        let suffixes: Vec<_> = (0..labels.len())
            .rev()
            .map(|i| (hash_name(&KEY, &labels[i..].join(".")), i == 0))
            .collect();
        prop_assert_eq!(seen.suffixes, suffixes);
        if seen.end.is_ok() {
            prop_assert_eq!(seen.addresses, expected);
        } else {
            // Long uncompressed names use up the steps; what came before is learned.
            prop_assert!(expected.starts_with(&seen.addresses));
            prop_assert!(!own, "compressed answers are read whole: {:?}", seen.end);
        }
    }

    #[test]
    fn any_octets_are_read_without_harm(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        read(&octets);
    }

    #[test]
    fn any_broken_answer_is_read_without_harm(
        question in name(),
        data in prop::collection::vec(data(), 1..6),
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let records: Vec<_> = data.into_iter().map(|data| (question.clone(), 60, data)).collect();
        let mut octets = answer(&question, &records).to_vec().unwrap();
        let at = at.index(octets.len());
        octets[at] = octet;
        octets.truncate(cut.index(octets.len()));
        read(&octets);
    }
}

#[test]
fn seventy_two_addresses_are_read_whole() {
    let records: Vec<_> = (0..72)
        .map(|i| {
            (
                "a.example".to_owned(),
                60,
                RData::A(rdata::A(Ipv4Addr::from(0xc000_0200 + i))),
            )
        })
        .collect();
    let seen = read(&answer("a.example", &records).to_vec().unwrap()).unwrap();
    assert_eq!(seen.end, Ok(()));
    assert_eq!(seen.addresses.len(), 72);
}

#[test]
fn only_questions_and_answers_have_a_role_to_play() {
    let question = {
        let mut message = Theirs::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(text("a.example"), RecordType::A));
        message
    };
    assert_eq!(
        read(&question.to_vec().unwrap()).unwrap().role,
        Role::Question
    );

    let mut refused = answer("a.example", &[]);
    refused.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(read(&refused.to_vec().unwrap()).unwrap().role, Role::Other);

    let mut update = answer("a.example", &[]);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(read(&update.to_vec().unwrap()).unwrap().role, Role::Other);

    let mut two = answer("a.example", &[]);
    two.add_query(Query::query(text("b.example"), RecordType::A));
    assert_eq!(read(&two.to_vec().unwrap()).unwrap().role, Role::Other);
}

#[test]
fn malformed_messages_teach_nothing() {
    let good = answer(
        "a.example",
        &[(
            "a.example".to_owned(),
            60,
            RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, 1))),
        )],
    )
    .to_vec()
    .unwrap();
    let question_end = 12 + 11 + 4;
    let broken = |at: usize, octet: u8| {
        let mut octets = good.clone();
        octets[at] = octet;
        octets
    };
    // A pointer in the question's name, a label of a reserved kind, a name that never ends.
    for octets in [
        broken(12, 0xc0),
        broken(12, 0x40),
        good[..20].to_vec(),
        good[..12].to_vec(),
        vec![],
    ] {
        assert_eq!(read(&octets), None, "{octets:?}");
    }
    // An owner of a reserved kind, an address of three octets, data beyond the end, an answer that is not there.
    for (octets, error) in [
        (broken(question_end, 0x80), Error::Malformed),
        (broken(question_end + 11, 3), Error::Malformed),
        (broken(question_end + 10, 1), Error::CutShort),
        (broken(7, 2), Error::CutShort),
        (good[..good.len() - 1].to_vec(), Error::CutShort),
    ] {
        assert_eq!(read(&octets).unwrap().end, Err(error), "{octets:?}");
    }
}
