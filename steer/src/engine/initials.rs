//! The packets that QUIC begins with. The programs hold them until the name in them was read here, so that a flow of the
//! VPN's takes it from its first packet on; those of a process, whose socket has its path already, are not let go.

use std::{collections::HashMap, time::Instant};

use steer_common::packet;
use steer_common::types::{FlowKey, Piece};

use super::{Engine, Error};
use crate::{
    config,
    error::sentence,
    events::{Event, Late},
    learn::{
        held::{Held, Packet, ip_in},
        hello::Greeting,
        quic::Flights,
        raw::RawSockets,
        reinject::{of_process, on_bridge},
        stream::{Limits, Outcome, Why},
    },
};

/// What waits, and what was read of it.
pub(super) struct Initials {
    flights: Flights<Sender>,
    held: Held<Sender>,
    /// Packets that came in several pieces.
    parts: HashMap<Sender, Vec<u8>>,
    raw: RawSockets,
}

/// Who sends: a flow, and whether it is a process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sender {
    flow: FlowKey,
    process: bool,
}

impl Sender {
    /// How it goes in `HELLOS`, and in `FLOWS` and `DIRECT`.
    fn key(&self) -> FlowKey {
        let FlowKey {
            origin,
            remote,
            remote_port,
            ..
        } = self.flow;
        if self.process {
            FlowKey::of_datagrams(origin, remote, remote_port)
        } else {
            self.flow
        }
    }
}

impl Initials {
    pub(super) fn new() -> Self {
        Self {
            flights: Flights::new(Limits::default()),
            held: Held::new(),
            parts: HashMap::new(),
            raw: RawSockets::new(),
        }
    }

    /// Loses what is waited for no more: what a client sends again is held again.
    pub(super) fn expire(&mut self) {
        for (sender, _) in self.flights.expire(Instant::now()) {
            self.held.take(&sender);
            self.parts.remove(&sender);
        }
    }

    /// A packet, once all its pieces are here. They come in their order.
    fn whole(&mut self, sender: &Sender, piece: &Piece, octets: &[u8]) -> Option<Packet> {
        let mut parts = self.parts.remove(sender).unwrap_or_default();
        // What stands before the datagram's first octet counts backwards.
        let payload = if (piece.sequence as i32) < 0 {
            parts.clear();
            piece.sequence.wrapping_neg() as usize
        } else {
            parts.len().checked_sub(piece.sequence as usize)?
        };
        parts.extend_from_slice(octets);
        if parts.len() < payload + piece.first as usize {
            self.parts.insert(*sender, parts);
            return None;
        }
        Some(Packet {
            octets: parts,
            payload,
            datagram: piece.datagram as usize,
            mark: piece.mark,
        })
    }
}

impl Engine {
    /// Reads a packet that is held, and lets its flow go on when it is known where.
    pub(super) fn take_initial(&mut self, piece: &Piece, octets: &[u8]) -> Result<(), Error> {
        let sender = Sender {
            flow: piece.flow,
            process: piece.process != 0,
        };
        let initials = &mut self.initials;
        let Some(packet) = initials.whole(&sender, piece, octets) else {
            return Ok(());
        };
        let now = Instant::now();
        let mut outcomes = Vec::new();
        for datagram in packet.datagrams() {
            outcomes.extend(initials.flights.datagram(&sender, datagram, now));
        }
        if self.settings.sni.late == config::Late::Reset {
            initials.held.keep(&sender, packet);
        }
        for (sender, outcome) in outcomes {
            let vpn = match outcome {
                Outcome::Found(Greeting::Named { name, .. }) => {
                    self.is_for_vpn(&sender, name.as_str())?
                }
                Outcome::Found(Greeting::Unnamed | Greeting::Foreign) => false,
                // It is held again when its client sends again, and room may be there then.
                Outcome::GivenUp(Why::Crowded | Why::Idle) => {
                    self.initials.held.take(&sender);
                    continue;
                }
                Outcome::GivenUp(why) => {
                    tracing::debug!("the name of a QUIC flow is not looked for any more: {why}");
                    false
                }
            };
            self.let_go(&sender, vpn)?;
        }
        Ok(())
    }

    /// Whether a flow that begins with a name takes the VPN from now on.
    fn is_for_vpn(&mut self, sender: &Sender, name: &str) -> Result<bool, Error> {
        let flow = &sender.flow;
        let ruling = self.rulebook.decide(name);
        let Some(ruling) = ruling.filter(|ruling| ruling.verdict.is_vpn()) else {
            return Ok(false);
        };
        self.learn_by_hello(flow, name, ruling)?;
        if self.stays_direct(flow, sender.process, ruling.verdict) {
            return Ok(false);
        }
        let stopped = self.settings.sni.late == config::Late::Reset;
        if sender.process || !stopped {
            let late = Late {
                stopped,
                ..Late::of(flow, sender.process, name, ruling.rule)
            };
            let event = Event::Late(late);
            self.report.event(&event, &self.rulebook, &self.bridges);
        }
        Ok(stopped)
    }

    /// Lets the packets of a flow go on, by the path that it takes from now on.
    fn let_go(&mut self, sender: &Sender, vpn: bool) -> Result<(), Error> {
        let key = sender.key();
        if vpn {
            // Its first packet found no rule for its address.
            self.datapath.forget_direct(&key)?;
        }
        self.datapath.forget_hello(&key)?;
        let packets = self.initials.held.take(sender);
        if sender.process && vpn {
            // A connected socket has its address already, which the VPN does not carry; others ask anew for each datagram.
            self.pieces.end_socket(packet::UDP, sender.flow.origin);
            return Ok(());
        }
        for packet in packets {
            let ip = if sender.process {
                0
            } else {
                ip_in(&packet.octets)
            };
            for mut octets in packet.apart(ip) {
                let gone = if sender.process {
                    of_process(&mut self.initials.raw, packet.mark, &mut octets)
                } else {
                    let ifindex = sender.flow.origin as u32;
                    on_bridge(self.datapath.reenter()?, ifindex, &mut octets)
                };
                if let Err(error) = gone {
                    self.report.trouble(&sentence(&error));
                }
            }
        }
        Ok(())
    }
}
