//! Asks a VPN's gateway for ports, and keeps them.

use std::{
    future::pending,
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::UdpSocket,
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout, timeout_at},
};

use super::{Granted, PORT, Refusal, Request};
use crate::{error::sentence, route::Protocol};

/// How long the first answer may take; each further one twice as long (RFC 6886 section 3.1).
const PATIENCE: Duration = Duration::from_millis(250);
/// How often is asked.
const TRIES: u32 = 9;
/// What was not answered so often is told, and keeps no other waiting.
const SILENT: u32 = 5;
/// After a failure it is asked again.
const AGAIN: Duration = Duration::from_secs(30);
/// Seconds that are asked for. It is renewed after half of what is granted, and then a gateway that has forgotten is noticed.
const LIFETIME: u32 = 120;
/// However short a lifetime is, it is not renewed more often.
const LEAST: Duration = Duration::from_secs(2);

/// A VPN's gateway, as it can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address.
    pub address: Ipv4Addr,
    /// The VPN's address, which is asked from.
    pub from: Ipv4Addr,
    /// The mark that sends packets to the VPN.
    pub mark: u32,
}

/// Why no port is assigned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be asked.
    #[error("the VPN's gateway {gateway} cannot be asked for a port by NAT-PMP")]
    Ask {
        /// Which.
        gateway: Ipv4Addr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error(
        "the VPN's gateway {0} gives no answer by NAT-PMP; see that the provider forwards ports, and that gateway in [vpn] is its address"
    )]
    Silent(Ipv4Addr),
    /// It refuses.
    #[error("the VPN's gateway {gateway} assigns no port by NAT-PMP")]
    Refused {
        /// Which.
        gateway: Ipv4Addr,
        /// Why.
        #[source]
        source: Refusal,
    },
}

/// What came of a mapping: which of them, and what is granted or why not, in a sentence.
pub type News = (usize, Result<Granted, String>);

impl Gateway {
    /// Gives mappings back, and waits no longer than for one answer: they end by themselves.
    pub async fn give_back(&self, mappings: &[(Protocol, u16)]) {
        let mut socket = None;
        for &(protocol, internal) in mappings {
            let request = Request {
                protocol,
                internal,
                external: 0,
                lifetime: 0,
            };
            let _ = timeout(PATIENCE, self.exchange(&mut socket, &request)).await;
        }
    }

    /// By a socket that is made when it is first needed: an answer to what was asked before may still come.
    async fn exchange(
        &self,
        socket: &mut Option<UdpSocket>,
        request: &Request,
    ) -> io::Result<Result<Granted, Refusal>> {
        let socket = match socket {
            Some(socket) => socket,
            None => socket.insert(self.socket().await?),
        };
        socket.send(&request.encode()).await?;
        let mut answer = [0; 64];
        loop {
            let size = socket.recv(&mut answer).await?;
            if let Some(answer) = request.answer(&answer[..size]) {
                return Ok(answer);
            }
        }
    }

    async fn socket(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((IpAddr::from(self.from), 0)).await?;
        setsockopt(&socket, sockopt::Mark, &self.mark)?;
        socket.connect((self.address, PORT)).await?;
        Ok(socket)
    }
}

/// Mappings of one gateway. It is asked for one at a time, since the other protocol's is to have the same number; but whatever was
/// not answered for long is asked for beside the others, so that it keeps none of them waiting.
#[derive(Debug)]
pub struct Keeper {
    gateway: Gateway,
    mappings: Vec<Mapping>,
    socket: Option<UdpSocket>,
    /// Why it could not be asked, since it answered last.
    trouble: Option<io::Error>,
    /// What the gateway said last of its age, and when.
    epoch: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Mapping {
    protocol: Protocol,
    internal: u16,
    /// The port that is assigned, or was last.
    external: u16,
    /// When it is asked for, or asked for again.
    due: Instant,
    /// How often it was asked for since it was due.
    tries: u32,
    /// When it was asked for last.
    asked: Instant,
    /// It was asked for so often in vain that nobody waits for it.
    silent: bool,
}

impl Mapping {
    /// It is to be asked for from then on.
    fn rest(&mut self, due: Instant) {
        (self.due, self.tries) = (due, 0);
    }

    /// Whether its answer is awaited before any other is asked for.
    fn is_awaited(&self) -> bool {
        self.tries > 0 && !self.silent
    }
}

impl Keeper {
    /// Of these protocols and ports that the gateway is to send to.
    pub fn new(gateway: Gateway, mappings: &[(Protocol, u16)]) -> Self {
        let now = Instant::now();
        let mapping = |&(protocol, internal): &(Protocol, u16)| Mapping {
            protocol,
            internal,
            external: 0,
            due: now,
            tries: 0,
            asked: now,
            silent: false,
        };
        Self {
            gateway,
            mappings: mappings.iter().map(mapping).collect(),
            socket: None,
            trouble: None,
            epoch: None,
        }
    }

    /// Asks for them and renews them, until nobody wants to hear of it.
    pub async fn keep(mut self, news: UnboundedSender<News>) {
        while let Some((place, due)) = self.next() {
            let told = match timeout_at(due, self.answered()).await {
                Ok((place, answer)) => Some((place, self.take(place, answer))),
                Err(_) => self.ask(place).await.map(|why| (place, Err(why))),
            };
            let told = told.map(|(place, told)| (place, told.map_err(|why| sentence(&why))));
            if told.is_some_and(|told| news.send(told).is_err()) {
                return;
            }
        }
    }

    /// Which is asked for next, and when.
    fn next(&self) -> Option<(usize, Instant)> {
        let awaits = self.mappings.iter().any(Mapping::is_awaited);
        let may_be = |it: &Mapping| !awaits || it.is_awaited() || it.silent;
        let all = self.mappings.iter().enumerate();
        let next = all
            .filter(|(_, it)| may_be(it))
            .min_by_key(|(_, it)| it.due);
        next.map(|(place, it)| (place, it.due))
    }

    /// Asks for one, and says why not if that was often enough.
    async fn ask(&mut self, place: usize) -> Option<Error> {
        let gateway = self.gateway.address;
        let now = Instant::now();
        if self.mappings[place].tries == TRIES {
            self.mappings[place].rest(now + AGAIN);
            return Some(match self.trouble.take() {
                // Nobody listens there, or there is no way.
                Some(source) => Error::Ask { gateway, source },
                None => Error::Silent(gateway),
            });
        }
        let request = self.request(place);
        if let Err(error) = self.send(&request).await {
            self.trouble = Some(error);
            self.socket = None;
        }
        let mapping = &mut self.mappings[place];
        mapping.asked = now;
        mapping.due = now + PATIENCE * 2u32.pow(mapping.tries);
        mapping.tries += 1;
        if mapping.tries <= SILENT || mapping.silent {
            return None;
        }
        mapping.silent = true;
        Some(Error::Silent(gateway))
    }

    fn request(&self, place: usize) -> Request {
        let Mapping {
            protocol, internal, ..
        } = self.mappings[place];
        Request {
            protocol,
            internal,
            external: self.suggested(place),
            lifetime: LIFETIME,
        }
    }

    async fn send(&mut self, request: &Request) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(self.gateway.socket().await?),
        };
        socket.send(&request.encode()).await.map(drop)
    }

    /// The next answer to what was asked. Not all say which it is of: then it is of what was asked last.
    async fn answered(&mut self) -> (usize, Result<Granted, Refusal>) {
        let mut octets = [0; 64];
        loop {
            let Some(socket) = &self.socket else {
                return pending().await;
            };
            let size = match socket.recv(&mut octets).await {
                Ok(size) => size,
                Err(error) => {
                    self.trouble = Some(error);
                    continue;
                }
            };
            let asked = self.mappings.iter().enumerate();
            let asked = asked.filter(|(_, it)| it.tries > 0);
            let answers = asked.filter_map(|(place, it)| {
                let answer = self.request(place).answer(&octets[..size])?;
                Some((it.asked, place, answer))
            });
            if let Some((_, place, answer)) = answers.max_by_key(|(asked, ..)| *asked) {
                return (place, answer);
            }
        }
    }

    /// The port that it has, else the one that the other protocol has: programs want one number.
    fn suggested(&self, place: usize) -> u16 {
        let mapping = &self.mappings[place];
        let is_other = |it: &&Mapping| it.internal == mapping.internal && it.external != 0;
        let other = self.mappings.iter().find(is_other);
        match mapping.external {
            0 => other.map_or(0, |other| other.external),
            assigned => assigned,
        }
    }

    fn take(&mut self, place: usize, answer: Result<Granted, Refusal>) -> Result<Granted, Error> {
        let now = Instant::now();
        self.trouble = None;
        let mapping = &mut self.mappings[place];
        mapping.silent = false;
        let granted = match answer {
            Ok(granted) => granted,
            Err(source) => {
                mapping.rest(now + AGAIN);
                let gateway = self.gateway.address;
                return Err(Error::Refused { gateway, source });
            }
        };
        let half = Duration::from_secs(granted.lifetime.into()) / 2;
        mapping.external = granted.external;
        mapping.rest(now + half.max(LEAST));
        let before = self.epoch.replace((granted.epoch, now));
        if before.is_some_and(|(epoch, then)| has_forgotten(epoch, now - then, granted.epoch)) {
            let others = self.mappings.iter_mut().enumerate();
            let others = others.filter(|(other, it)| *other != place && it.tries == 0);
            others.for_each(|(_, mapping)| mapping.due = now);
        }
        Ok(granted)
    }
}

/// Whether a gateway began anew: its age is less than seven eighths of what has passed, but for two seconds (section 3.6).
pub(super) fn has_forgotten(before: u32, passed: Duration, now: u32) -> bool {
    let least = u64::from(before) + passed.as_secs() * 7 / 8;
    u64::from(now) + 2 < least
}
