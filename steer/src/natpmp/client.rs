//! Asks a VPN's gateway for ports, and keeps them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::UdpSocket,
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Granted, PORT, Refusal, Request};
use crate::{error::sentence, route::Protocol};

/// How long the first answer may take; each further one twice as long (RFC 6886 section 3.1).
const PATIENCE: Duration = Duration::from_millis(250);
/// How often is asked.
const TRIES: u32 = 9;
/// Whoever has not answered so often is told of.
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
    /// Asks until it answers.
    async fn ask(&self, request: &Request, silent: impl FnOnce(Error)) -> Result<Granted, Error> {
        let gateway = self.address;
        let mut socket = None;
        let mut silent = Some(silent);
        let mut patience = PATIENCE;
        for tries in 1..=TRIES {
            match timeout(patience, self.exchange(&mut socket, request)).await {
                Ok(Ok(answer)) => {
                    return answer.map_err(|source| Error::Refused { gateway, source });
                }
                // Nobody listens there yet, or there is no way yet.
                Ok(Err(source)) if tries == TRIES => return Err(Error::Ask { gateway, source }),
                Ok(Err(_)) => sleep(patience).await,
                Err(_) => {}
            }
            patience *= 2;
            if tries == SILENT
                && let Some(silent) = silent.take()
            {
                silent(Error::Silent(gateway));
            }
        }
        Err(Error::Silent(gateway))
    }

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

/// Mappings of one gateway.
#[derive(Debug)]
pub struct Keeper {
    gateway: Gateway,
    mappings: Vec<Mapping>,
    /// What the gateway said last of its age, and when.
    epoch: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Mapping {
    protocol: Protocol,
    internal: u16,
    /// The port that is assigned, or was last.
    external: u16,
    due: Instant,
}

impl Keeper {
    /// Of these protocols and ports that the gateway is to send to.
    pub fn new(gateway: Gateway, mappings: &[(Protocol, u16)]) -> Self {
        let mapping = |&(protocol, internal): &(Protocol, u16)| Mapping {
            protocol,
            internal,
            external: 0,
            due: Instant::now(),
        };
        Self {
            gateway,
            mappings: mappings.iter().map(mapping).collect(),
            epoch: None,
        }
    }

    /// Asks for them and renews them, until nobody wants to hear of it.
    pub async fn keep(mut self, news: UnboundedSender<News>) {
        loop {
            let dues = self.mappings.iter().enumerate();
            let Some((place, mapping)) = dues.min_by_key(|(_, mapping)| mapping.due) else {
                return;
            };
            sleep_until(mapping.due).await;
            let request = Request {
                protocol: mapping.protocol,
                internal: mapping.internal,
                external: self.suggested(place),
                lifetime: LIFETIME,
            };
            let silent = |error| {
                let _ = news.send((place, Err(sentence(&error))));
            };
            let asked = self.gateway.ask(&request, silent).await;
            let now = Instant::now();
            let told = match asked {
                Ok(granted) => {
                    self.take(place, &granted, now);
                    Ok(granted)
                }
                Err(error) => {
                    self.mappings[place].due = now + AGAIN;
                    Err(sentence(&error))
                }
            };
            if news.send((place, told)).is_err() {
                return;
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

    fn take(&mut self, place: usize, granted: &Granted, now: Instant) {
        let half = Duration::from_secs(granted.lifetime.into()) / 2;
        let mapping = &mut self.mappings[place];
        mapping.external = granted.external;
        mapping.due = now + half.max(LEAST);
        let before = self.epoch.replace((granted.epoch, now));
        if before.is_some_and(|(epoch, then)| has_forgotten(epoch, now - then, granted.epoch)) {
            let others = self.mappings.iter_mut().enumerate();
            let others = others.filter(|(other, _)| *other != place);
            others.for_each(|(_, mapping)| mapping.due = now);
        }
    }
}

/// Whether a gateway began anew: its age is less than seven eighths of what has passed, but for two seconds (section 3.6).
pub(super) fn has_forgotten(before: u32, passed: Duration, now: u32) -> bool {
    let least = u64::from(before) + passed.as_secs() * 7 / 8;
    u64::from(now) + 2 < least
}
