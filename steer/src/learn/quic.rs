//! ClientHellos in QUIC Initials, of version 1 (RFC 9001 section 5) and 2 (RFC 9369): anybody on the path can read them.

use std::{fmt, hash::Hash, time::Instant};

use super::{
    hello::{Greeting, Greetings},
    stream::{Kept, Limits, Outcome, Segment, Why},
    table::{State, Table},
};
use initial::{Connection, Frame, Keys};

mod initial;

/// Flows of datagrams, told apart by `K`, and what their clients' Initials say.
pub struct Flights<K> {
    greetings: Greetings,
    limits: Limits,
    flights: Table<K, Flight>,
}

enum Flight {
    Waits(Box<Waiting>),
    Done(Outcome<Greeting>),
}

struct Waiting {
    /// Of the client's first Initial. They stay the same when the client changes to the server's connection ID.
    first: Option<(Connection, Keys)>,
    next_number: u64,
    crypto: Kept,
}

impl State for Flight {
    fn waits(&self) -> bool {
        matches!(self, Self::Waits(_))
    }
}

impl<K: Clone + Eq + Hash> Flights<K> {
    /// No flows yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            greetings: Greetings::new(),
            limits,
            flights: Table::new(limits.flows, limits.idle),
        }
    }

    /// Takes in what a client's datagram carries, and returns what came of it: nothing while more is needed, and the
    /// same again for each further datagram of a flow that is done with. It may be of another flow, which made room.
    pub fn datagram(
        &mut self,
        key: &K,
        octets: &[u8],
        now: Instant,
    ) -> Vec<(K, Outcome<Greeting>)> {
        let (flight, left) = self.flights.touch(
            key,
            now,
            |_| true,
            || Flight::Waits(Box::new(Waiting::new())),
        );
        let mut outcomes: Vec<_> = left
            .map(|left| (left, Outcome::GivenUp(Why::Crowded)))
            .into_iter()
            .collect();
        if let Flight::Waits(waiting) = flight
            && let Some(outcome) = waiting.take(octets, &self.limits, &mut self.greetings)
        {
            *flight = Flight::Done(outcome);
        }
        if let Flight::Done(outcome) = flight {
            outcomes.push((key.clone(), outcome.clone()));
        }
        outcomes
    }

    /// Forgets a flow, which has ended; whether something was still looked for in it.
    pub fn forget(&mut self, key: &K) -> bool {
        self.flights.forget(key)
    }

    /// Gives up the flows of which nothing came for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<(K, Outcome<Greeting>)> {
        let expired = self.flights.expire(now).into_iter();
        expired
            .map(|key| (key, Outcome::GivenUp(Why::Idle)))
            .collect()
    }
}

impl<K> fmt::Debug for Flights<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

impl Waiting {
    fn new() -> Self {
        Self {
            first: None,
            next_number: 0,
            crypto: Kept::new(0),
        }
    }

    /// Reads a datagram's packets (RFC 9000 section 12.2).
    fn take(
        &mut self,
        datagram: &[u8],
        limits: &Limits,
        greetings: &mut Greetings,
    ) -> Option<Outcome<Greeting>> {
        let foreign = Some(Outcome::Found(Greeting::Foreign));
        let mut rest = datagram;
        let mut sound = true;
        while !rest.is_empty() {
            let Ok((packet, after)) = initial::split(rest) else {
                sound = false;
                break;
            };
            rest = after;
            let Some(packet) = packet else {
                continue;
            };
            let Some(payload) = self.open(&packet) else {
                sound = false;
                continue;
            };
            for frame in initial::frames(&payload) {
                match frame {
                    Ok(Frame::Crypto { offset, octets }) => {
                        if let Err(why) = self.crypto(offset, octets, limits) {
                            return Some(Outcome::GivenUp(why));
                        }
                    }
                    Ok(Frame::Other) => {}
                    Err(_) => return foreign,
                }
            }
            if let Some(greeting) = greetings.read_bare(&self.crypto.octets) {
                return Some(Outcome::Found(greeting));
            }
        }
        // Once one Initial was read, others may come damaged or out of place.
        if self.first.is_none() && !sound {
            return foreign;
        }
        None
    }

    fn open(&mut self, packet: &initial::Packet<'_>) -> Option<Vec<u8>> {
        if let Some((connection, keys)) = &self.first
            && connection.version == packet.connection.version
            && let Some((number, payload)) = keys.open(packet, self.next_number)
        {
            self.next_number = self.next_number.max(number + 1);
            return Some(payload);
        }
        // A client begins anew after a Retry (RFC 9001 section 5.2).
        if self
            .first
            .as_ref()
            .is_some_and(|(c, _)| *c == packet.connection)
        {
            return None;
        }
        let keys = Keys::of(&packet.connection)?;
        let (number, payload) = keys.open(packet, 0)?;
        self.first = Some((packet.connection.clone(), keys));
        self.next_number = number + 1;
        Some(payload)
    }

    fn crypto(&mut self, offset: u64, octets: &[u8], limits: &Limits) -> Result<(), Why> {
        let sequence = u32::try_from(offset)
            .ok()
            .filter(|&offset| offset <= i32::MAX as u32)
            .ok_or(Why::TooLong)?;
        let segment = Segment {
            first: 0,
            sequence,
            octets,
        };
        if self.crypto.take(segment, limits)? < octets.len() {
            return Err(Why::TooLong);
        }
        Ok(())
    }
}
