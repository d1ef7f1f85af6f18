//! One question through the VPN to each name server that is asked there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use steer_common::dns;
use tokio::{net::UdpSocket, time::timeout};

use crate::doctor::facts::{Looked, Resolver};

/// How long it may take, each time.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: usize = 2;
/// The first octet of flags of an answer (RFC 1035 section 4.1.1).
const ANSWER: u8 = 0x80;

/// Asks, and waits for two seconds at most.
pub(super) async fn ask(interface: &str, server: IpAddr) -> Looked<Resolver> {
    match exchange(interface, server).await {
        Ok(true) => Ok(Resolver::Answers),
        Ok(false) => Ok(Resolver::Silent),
        Err(error) => Err(format!("it cannot be asked by {interface}: {error}")),
    }
}

async fn exchange(interface: &str, server: IpAddr) -> io::Result<bool> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Without a route there the kernel takes an IPv4 address for one on the link.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.connect(SocketAddr::new(server, dns::PORT)).await?;
    let question = question(std::process::id());
    for _ in 0..TRIES {
        socket.send(&question).await?;
        let mut answer = [0; 4096];
        match timeout(PATIENCE, socket.recv(&mut answer)).await {
            Ok(Ok(size)) if answers(&question, &answer[..size]) => return Ok(true),
            Ok(Ok(_)) | Err(_) => {}
            // Nobody listens there, as its ICMP says.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(false),
            Ok(Err(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// For the name servers of the root, which every resolver knows.
fn question(id: u32) -> [u8; 17] {
    let [.., high, low] = id.to_be_bytes();
    [high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]
}

fn answers(question: &[u8], answer: &[u8]) -> bool {
    answer.get(..2) == question.get(..2) && answer.get(2).is_some_and(|flags| flags & ANSWER != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_questions_id() {
        let asked = question(0x1_2345);
        assert_eq!(asked[..2], [0x23, 0x45]);
        let mut answer = asked;
        assert!(!answers(&asked, &answer), "a question");
        answer[2] |= ANSWER;
        assert!(answers(&asked, &answer));
        answer[0] ^= 1;
        assert!(!answers(&asked, &answer), "to another");
        assert!(!answers(&asked, &[]));
    }
}
