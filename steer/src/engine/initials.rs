//! The packets that QUIC begins with. The programs hold them until the name in them was read here, so that a flow of the
//! VPN's takes it from its first packet on; those of a process, whose socket has its path already, are not let go.

use std::{collections::HashMap, time::Instant};

use steer_common::{
    packet,
    types::{FlowKey, Piece, Verdict},
};

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

/// What becomes of a flow whose first packets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on by the path that it has.
    GoesOn,
    /// It takes the VPN from its first packet on.
    TakesVpn,
    /// It is blocked.
    GoesNowhere,
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
            let fate = match outcome {
                Outcome::Found(Greeting::Named { name, .. }) => {
                    self.fate(&sender, name.as_str(), piece)?
                }
                Outcome::Found(Greeting::Unnamed | Greeting::Foreign) => Fate::GoesOn,
                // It is held again when its client sends again, and room may be there then.
                Outcome::GivenUp(Why::Crowded | Why::Idle) => {
                    self.initials.held.take(&sender);
                    continue;
                }
                Outcome::GivenUp(why) => {
                    tracing::debug!("the name of a QUIC flow is not looked for any more: {why}");
                    Fate::GoesOn
                }
            };
            self.let_go(&sender, fate)?;
        }
        Ok(())
    }

    /// What becomes of a flow that begins with a name, which a piece made whole.
    fn fate(&mut self, sender: &Sender, name: &str, piece: &Piece) -> Result<Fate, Error> {
        let flow = &sender.flow;
        let ruling = self.rulebook.decide(name);
        let Some(ruling) = ruling.filter(|ruling| ruling.verdict.bars_direct()) else {
            return Ok(Fate::GoesOn);
        };
        self.learn_by_hello(flow, name, ruling)?;
        let blocked = ruling.verdict == Verdict::BLOCK;
        let goes_on = if blocked {
            self.is_let(flow)
        } else {
            piece.by_vpn != 0 || self.stays_direct(piece, ruling.verdict)
        };
        if goes_on {
            return Ok(Fate::GoesOn);
        }
        let stopped = self.settings.sni.late == config::Late::Reset;
        if sender.process || blocked || !stopped {
            let late = Late {
                stopped,
                ..Late::of(flow, sender.process, name, &ruling.into())
            };
            let event = Event::Late(late);
            self.report.event(&event, &self.rulebook, &self.bridges);
        }
        Ok(match (stopped, blocked) {
            (false, _) => Fate::GoesOn,
            (true, true) => Fate::GoesNowhere,
            (true, false) => Fate::TakesVpn,
        })
    }

    /// Lets the packets of a flow go on, by the path that it takes from now on, or throws them away.
    fn let_go(&mut self, sender: &Sender, fate: Fate) -> Result<(), Error> {
        let key = sender.key();
        if fate != Fate::GoesOn {
            // Its first packet found no rule for its address.
            self.datapath.forget_direct(&key)?;
        }
        self.datapath.forget_hello(&key)?;
        let packets = self.initials.held.take(sender);
        if fate == Fate::GoesNowhere && !sender.process {
            // It may be on a VPN.
            self.datapath.forget_flow(&key)?;
            let FlowKey {
                protocol,
                local,
                remote,
                local_port,
                remote_port,
                ..
            } = sender.flow;
            let local = (local.to_ip(), local_port.number()).into();
            let remote = (remote.to_ip(), remote_port.number()).into();
            self.refuse(protocol, local, remote, 0);
            return Ok(());
        }
        if sender.process && fate != Fate::GoesOn {
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
