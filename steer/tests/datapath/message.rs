//! DNS messages, made by hickory-proto.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata},
};

/// A record of an answer, for the question's name.
pub enum Answer<'a> {
    Alias(&'a str),
    Address(IpAddr, u32),
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
        };
        message.add_answer(Record::from_rdata(parse(name), ttl, data));
    }
    message.to_vec().unwrap()
}

fn message(kind: MessageType, id: u16, name: &str) -> Message {
    let mut message = Message::new(id, kind, OpCode::Query);
    message.add_query(Query::query(parse(name), RecordType::A));
    message
}

fn parse(name: &str) -> Name {
    Name::from_labels(name.split('.').map(str::as_bytes)).unwrap()
}
