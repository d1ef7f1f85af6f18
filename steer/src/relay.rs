//! DNS questions asked in their client's place, by the VPN, and their answers brought to him as if he had been answered by
//! whom he asked.
//!
//! The kernel programs stop such a question and give it to user space ([`steer_common::types::piece::QUESTION`]). The answer is
//! sent by a raw socket from the address that was asked, so on its way it passes the programs that learn from answers.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use steer_common::{dns, packet::UDP};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::learn::{
    raw::{self, RawSockets},
    reinject::complete,
};

/// Questions that are asked at a time; who asks more asks again.
const AT_ONCE: usize = 512;
/// How long a name server may take, each time that it is asked; clients wait for five seconds.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often a name server is asked.
const TRIES: usize = 3;
/// Octets of a message's header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
/// In its third octet: the message is an answer, and it is cut short.
const ANSWER: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
/// In its fourth: the server could not answer (`SERVFAIL`).
const FAILED: u8 = 2;
/// Octets of a datagram that pass any network whole, with its headers.
const WHOLE: usize = 1400;

/// A question, and who asked whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The message.
    pub message: Vec<u8>,
    /// Who asks.
    pub client: SocketAddr,
    /// Who was to answer.
    pub server: SocketAddr,
    /// Who answers instead: the first that does.
    pub by: Vec<IpAddr>,
    /// The mark that sends it to the VPN.
    pub mark: u32,
}

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name server did not.
    #[error("the name server {server} gives no answer by the VPN; see that it is reachable there")]
    Server {
        /// Which.
        server: IpAddr,
        /// What came instead.
        #[source]
        source: io::Error,
    },
    /// The answer could not be brought.
    #[error("the answer of a name server cannot be brought to {client}")]
    Bring {
        /// To whom.
        client: IpAddr,
        /// Why not.
        #[source]
        source: raw::Error,
    },
}

/// The questions that are being asked.
#[derive(Debug)]
pub struct Relay {
    room: Arc<Semaphore>,
    sockets: Arc<Mutex<RawSockets>>,
    asking: JoinSet<Result<(), Error>>,
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

impl Relay {
    /// Nothing is asked yet.
    pub fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(AT_ONCE)),
            sockets: Arc::default(),
            asking: JoinSet::new(),
        }
    }

    /// Asks, and brings the answer when it is there. Without room it is left to the client to ask again.
    pub fn ask(&mut self, question: Question) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return;
        };
        let sockets = Arc::clone(&self.sockets);
        self.asking.spawn(async move {
            let _room = room;
            let asked = asked(&question, question.mark).await;
            let answer = match &asked {
                Ok(answer) => answer.clone(),
                Err(_) => failure(&question.message),
            };
            let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
            bring(&mut sockets, &question, &answer)?;
            asked.map(drop)
        });
    }

    /// Waits until a question has come to its end. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Result<(), Error> {
        match self.asking.join_next().await {
            Some(Ok(ended)) => ended,
            // One that panicked has said so.
            Some(Err(_)) => Ok(()),
            None => std::future::pending().await,
        }
    }
}

/// The answer of the first server that gives one.
async fn asked(question: &Question, mark: u32) -> Result<Vec<u8>, Error> {
    let mut failed = None;
    for _ in 0..TRIES {
        for &server in &question.by {
            let to = SocketAddr::new(server, dns::PORT);
            match timeout(PATIENCE, ask(&question.message, to, mark)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(source)) => failed = Some(Error::Server { server, source }),
                Err(_) => {
                    let source = io::ErrorKind::TimedOut.into();
                    failed = Some(Error::Server { server, source });
                }
            }
        }
        // It comes at once while the VPN is down.
        if failed.as_ref().is_some_and(is_unreachable) {
            break;
        }
    }
    let nobody = || Error::Server {
        server: Ipv4Addr::UNSPECIFIED.into(),
        source: io::ErrorKind::NotFound.into(),
    };
    Err(failed.unwrap_or_else(nobody))
}

fn is_unreachable(error: &Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable};
    matches!(error, Error::Server { source, .. } if matches!(source.kind(), NetworkUnreachable | HostUnreachable))
}

/// Asks a server, over TCP if its answer does not fit into a datagram.
async fn ask(message: &[u8], server: SocketAddr, mark: u32) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    setsockopt(&socket, sockopt::Mark, &mark)?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let size = socket.recv(&mut answer).await?;
        if answers(message, &answer[..size]) {
            answer.truncate(size);
            break;
        }
    }
    if answer[2] & TRUNCATED == 0 {
        return Ok(answer);
    }
    // What there is serves as well: the client asks over TCP himself.
    Ok(ask_by_tcp(message, server, mark).await.unwrap_or(answer))
}

async fn ask_by_tcp(message: &[u8], server: SocketAddr, mark: u32) -> io::Result<Vec<u8>> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    setsockopt(&socket, sockopt::Mark, &mark)?;
    let mut stream = socket.connect(server).await?;
    let size = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&size.to_be_bytes(), message].concat())
        .await?;
    let size = stream.read_u16().await?;
    let mut answer = vec![0; size.into()];
    stream.read_exact(&mut answer).await?;
    if !answers(message, &answer) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

/// Whether a message answers another, by its header; the programs compare the names.
fn answers(message: &[u8], answer: &[u8]) -> bool {
    answer.len() >= HEADER && answer.get(..2) == message.get(..2) && answer[2] & ANSWER != 0
}

/// That no answer could be had.
fn failure(message: &[u8]) -> Vec<u8> {
    let mut answer = message.to_vec();
    if let [_, _, flags, code, ..] = &mut answer[..] {
        *flags |= ANSWER;
        *code = *code & 0xf0 | FAILED;
    }
    answer
}

/// That the answer has no room in a datagram.
fn cut_short(message: &[u8]) -> Vec<u8> {
    let mut answer = message.to_vec();
    if let [_, _, flags, ..] = &mut answer[..] {
        *flags |= ANSWER | TRUNCATED;
    }
    answer
}

fn bring(sockets: &mut RawSockets, question: &Question, answer: &[u8]) -> Result<(), Error> {
    let Question { client, server, .. } = question;
    let cut;
    let answer = if answer.len() > WHOLE {
        cut = cut_short(&question.message);
        &cut
    } else {
        answer
    };
    let Some(packet) = datagram(*server, *client, answer) else {
        return Ok(());
    };
    sockets.send(&packet, 0).map_err(|source| Error::Bring {
        client: client.ip(),
        source,
    })
}

/// A packet with a datagram. `None` where the addresses are not of one family.
fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    const PROTOCOL: u8 = UDP as u8;
    let size = u16::try_from(8 + payload.len()).ok()?;
    let mut datagram = Vec::with_capacity(size.into());
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(size.to_be_bytes());
    datagram.extend([0; 2]);
    datagram.extend(payload);
    let mut packet = raw::ip_packet(from.ip(), to.ip(), PROTOCOL, &datagram)?;
    complete(&mut packet);
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";

    #[test]
    fn an_answer_is_told_by_its_header() {
        let mut answer = QUESTION.to_vec();
        assert!(!answers(QUESTION, &answer), "a question");
        answer[2] |= ANSWER;
        assert!(answers(QUESTION, &answer));
        assert!(!answers(QUESTION, &answer[..HEADER - 1]), "cut off");
        answer[0] = 0;
        assert!(!answers(QUESTION, &answer), "to another question");
    }

    #[test]
    fn a_failure_answers_the_question() {
        let failure = failure(QUESTION);
        assert!(answers(QUESTION, &failure));
        assert_eq!(failure[3] & 0x0f, FAILED);
        assert_eq!(failure[HEADER..], QUESTION[HEADER..]);
    }

    #[test]
    fn a_datagram_has_its_ends_and_its_checksum() {
        let from: SocketAddr = "192.0.2.53:53".parse().unwrap();
        let to: SocketAddr = "172.17.0.2:40000".parse().unwrap();
        let packet = datagram(from, to, b"hello").unwrap();
        assert_eq!(packet.len(), 20 + 8 + 5);
        assert_eq!(packet[12..16], [192, 0, 2, 53]);
        assert_eq!(packet[20..24], [0, 53, 0x9c, 0x40]);
        assert_eq!(
            raw::checksum(from.ip(), to.ip(), UDP as u8, &packet[20..]),
            0
        );
        assert_eq!(
            datagram(from, "[2001:db8::1]:1".parse().unwrap(), b""),
            None
        );
    }
}
