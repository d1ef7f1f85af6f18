//! DNS messages, made by hickory-proto.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType, rdata,
        rdata::svcb::{Alpn, IpHint, SVCB, SvcParamKey, SvcParamValue},
    },
};

/// A record of an answer, for the question's name.
pub enum Answer<'a> {
    Alias(&'a str),
    Address(IpAddr, u32),
    /// An HTTPS record: its target, and the addresses it hints at.
    Service(&'a str, &'a [IpAddr]),
}

pub fn question(id: u16, name: &str) -> Vec<u8> {
    message(MessageType::Query, id, name).to_vec().unwrap()
}

pub fn answer(id: u16, name: &str, answers: &[Answer<'_>]) -> Vec<u8> {
    let mut message = message(MessageType::Response, id, name);
    for answer in answers {
        let (ttl, data) = match answer {
            Answer::Alias(alias) => (60, RData::CNAME(rdata::CNAME(parse(alias)))),
            Answer::Address(IpAddr::V4(v4), ttl) => (*ttl, RData::A(rdata::A(*v4))),
            Answer::Address(IpAddr::V6(v6), ttl) => (*ttl, RData::AAAA(rdata::AAAA(*v6))),
            Answer::Service(target, hints) => (60, service(target, hints)),
        };
        message.add_answer(Record::from_rdata(parse(name), ttl, data));
    }
    message.to_vec().unwrap()
}

/// The message as TCP carries it.
pub fn with_length(message: &[u8]) -> Vec<u8> {
    let mut octets = (message.len() as u16).to_be_bytes().to_vec();
    octets.extend(message);
    octets
}

fn service(target: &str, hints: &[IpAddr]) -> RData {
    let of = |hint: &&IpAddr| hint.is_ipv4();
    let (v4, v6): (Vec<_>, Vec<_>) = hints.iter().partition(of);
    let v4 = v4.iter().filter_map(|hint| match hint {
        IpAddr::V4(v4) => Some(rdata::A(*v4)),
        IpAddr::V6(_) => None,
    });
    let v6 = v6.iter().filter_map(|hint| match hint {
        IpAddr::V6(v6) => Some(rdata::AAAA(*v6)),
        IpAddr::V4(_) => None,
    });
    let params = vec![
        (
            SvcParamKey::Alpn,
            SvcParamValue::Alpn(Alpn(vec!["h3".to_owned(), "h2".to_owned()])),
        ),
        (
            SvcParamKey::Ipv4Hint,
            SvcParamValue::Ipv4Hint(IpHint(v4.collect())),
        ),
        (
            SvcParamKey::Ipv6Hint,
            SvcParamValue::Ipv6Hint(IpHint(v6.collect())),
        ),
    ];
    RData::HTTPS(rdata::HTTPS(SVCB::new(1, parse(target), params)))
}

fn message(kind: MessageType, id: u16, name: &str) -> Message {
    let mut message = Message::new(id, kind, OpCode::Query);
    message.add_query(Query::query(parse(name), RecordType::A));
    message
}

fn parse(name: &str) -> Name {
    if name == "." {
        return Name::root();
    }
    Name::from_labels(name.split('.').map(str::as_bytes)).unwrap()
}
