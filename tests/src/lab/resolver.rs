//! A name server whose answers a test makes up, forged ones included.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use hickory_proto::{
    op::{Message, OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::CNAME},
};

use super::{
    Lab, Ns,
    plan::{TEST_RESOLVER_V4, TEST_RESOLVER_V6},
    servers::{Threads, accept, bind, lock, readable},
};

/// A question that the name server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, without the final dot.
    pub name: String,
    /// Whether it asks for AAAA rather than A.
    pub v6: bool,
}

/// An answer, honest unless a field says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The addresses it gives; those of the other family than asked for are left out.
    pub addresses: Vec<IpAddr>,
    /// A name that the question's is an alias of.
    pub alias: Option<String>,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// Added to the question's id: an answer with another id than asked is forged.
    pub id_off: u16,
    /// A name to answer instead of the one asked.
    pub name: Option<String>,
}

impl Answer {
    /// An honest answer with `addresses`, to be kept for a minute.
    pub fn honest(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            ttl: 60,
            ..Self::default()
        }
    }
}

/// A name server at [`TEST_RESOLVER_V4`] and [`TEST_RESOLVER_V6`], over UDP and TCP.
pub struct Resolver {
    sockets: Vec<UdpSocket>,
    askers: Arc<Mutex<Vec<(SocketAddr, Question)>>>,
    _threads: Threads,
}

impl Resolver {
    /// Where it listens.
    pub const V4: SocketAddr = SocketAddr::new(IpAddr::V4(TEST_RESOLVER_V4), 53);
    /// Where it listens, for IPv6.
    pub const V6: SocketAddr = SocketAddr::new(IpAddr::V6(TEST_RESOLVER_V6), 53);

    /// The questions that came by UDP so far, and from where as it saw them.
    pub fn asked(&self) -> Vec<(SocketAddr, Question)> {
        lock(&self.askers).clone()
    }

    /// Sends `answer` to `question` although nobody asked it.
    pub fn send_unasked(&self, to: SocketAddr, question: &Question, answer: &Answer) -> Result<()> {
        let socket = self.sockets.iter().find(|socket| {
            socket
                .local_addr()
                .is_ok_and(|address| address.is_ipv4() == to.is_ipv4())
        });
        let socket = socket.context("the name server listens on both families")?;
        let packet = encode(0x5eed, question, answer)?;
        socket
            .send_to(&packet, to)
            .with_context(|| format!("cannot send to {to}"))?;
        Ok(())
    }
}

impl Lab {
    /// Starts a name server that answers each question by all that `zone` returns for it, in
    /// that order; over TCP, by the last alone.
    pub fn resolver(
        &self,
        zone: impl Fn(&Question) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Result<Resolver> {
        let zone = Arc::new(zone);
        let askers: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut threads = Threads::default();
        let mut sockets = Vec::new();
        for address in [Resolver::V4, Resolver::V6] {
            let (tcp, udp) = bind(&self.netns(Ns::Internet), address)?;
            sockets.push(udp.try_clone()?);
            let (by_udp, by_tcp, askers) =
                (Arc::clone(&zone), Arc::clone(&zone), Arc::clone(&askers));
            threads.spawn(move |stop| {
                while !stop.load(Ordering::Relaxed) {
                    if readable(&udp) {
                        // A question that cannot be answered is one that the test will miss.
                        let _ = answer_datagram(&udp, &askers, &*by_udp);
                    }
                }
            });
            threads.spawn(move |stop| {
                accept(&tcp, &stop, |stream, stop| {
                    let _ = answer_stream(stream, stop, &*by_tcp);
                });
            });
        }
        Ok(Resolver {
            sockets,
            askers,
            _threads: threads,
        })
    }
}

type Zone = dyn Fn(&Question) -> Vec<Answer> + Send + Sync;

fn answer_datagram(
    socket: &UdpSocket,
    askers: &Mutex<Vec<(SocketAddr, Question)>>,
    zone: &Zone,
) -> Result<()> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let (id, question) = decode(&buffer[..length])?;
    lock(askers).push((from, question.clone()));
    for answer in zone(&question) {
        socket.send_to(&encode(id, &question, &answer)?, from)?;
    }
    Ok(())
}

fn answer_stream(mut stream: TcpStream, stop: &AtomicBool, zone: &Zone) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        if !readable(&stream) {
            continue;
        }
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut buffer)?;
        let (id, question) = decode(&buffer)?;
        if let Some(answer) = zone(&question).last() {
            let packet = encode(id, &question, answer)?;
            let mut framed = u16::try_from(packet.len())?.to_be_bytes().to_vec();
            framed.extend(packet);
            stream.write_all(&framed)?;
        }
    }
    Ok(())
}

fn decode(packet: &[u8]) -> Result<(u16, Question)> {
    let message = Message::from_vec(packet)?;
    let query = message
        .queries
        .first()
        .context("a query without a question")?;
    let name = query.name().to_ascii().trim_end_matches('.').to_owned();
    Ok((
        message.metadata.id,
        Question {
            name,
            v6: query.query_type() == RecordType::AAAA,
        },
    ))
}

fn encode(id: u16, question: &Question, answer: &Answer) -> Result<Vec<u8>> {
    let absolute = |name: &str| Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
    let mut owner = absolute(answer.name.as_ref().unwrap_or(&question.name))?;
    let kind = if question.v6 {
        RecordType::AAAA
    } else {
        RecordType::A
    };
    let mut message = Message::response(id.wrapping_add(answer.id_off), OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(Query::query(owner.clone(), kind));
    if let Some(alias) = &answer.alias {
        let alias = absolute(alias)?;
        let data = RData::CNAME(CNAME(alias.clone()));
        message.add_answer(Record::from_rdata(owner, answer.ttl, data));
        owner = alias;
    }
    for address in answer
        .addresses
        .iter()
        .filter(|address| address.is_ipv6() == question.v6)
    {
        message.add_answer(Record::from_rdata(
            owner.clone(),
            answer.ttl,
            RData::from(*address),
        ));
    }
    Ok(message.to_vec()?)
}
