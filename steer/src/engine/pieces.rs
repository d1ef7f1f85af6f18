//! What the programs cannot read on: they give it to user space, which is not before the packet.
//!
//! These are what connections begin with in several segments or records, packets that QUIC begins with, DNS answers over
//! TCP in several segments, and, where there are rules by keyword or regular expression, the answers of which no other
//! rule speaks.

use std::time::Instant;

use aya::maps::{MapData, RingBuf};
use steer_common::{
    answer,
    decide::Match,
    dns::{self, Role},
    packet::TCP,
    types::{FlowKey, Origin, Path, Piece, Port, QueryKey, Verdict, piece, source},
};
use tokio::io::unix::AsyncFd;

use super::{Engine, Error, Ruling, drain};
use crate::{
    config,
    datapath::Lesson,
    error::sentence,
    events::{Event, Late, Name, segment},
    learn::{
        hello::{Greeting, Greetings},
        messages::{Message, Messages},
        reset::{Connection, Owner, Resets},
        stream::{Limits, Outcome, Segment, Streams},
    },
};

/// Pieces that are taken before anything else has its turn.
const AT_ONCE: usize = 64;

/// What is put together of pieces, and how connections are ended.
pub(super) struct Pieces {
    ring: AsyncFd<RingBuf<MapData>>,
    hellos: Streams<FlowKey, Greetings>,
    answers: Streams<FlowKey, Messages>,
    message: Box<dns::Message>,
    resets: Resets,
}

/// A piece and its octets.
pub(super) type Given = (Piece, Vec<u8>);

impl Pieces {
    pub(super) fn new(ring: AsyncFd<RingBuf<MapData>>) -> Self {
        Self {
            ring,
            hellos: Streams::new(Greetings::new(), Limits::default()),
            answers: Streams::new(Messages, Limits::default()),
            message: Box::default(),
            resets: Resets::new(),
        }
    }

    /// The next pieces. May be dropped and called again without loss.
    pub(super) async fn next(&mut self) -> Result<Vec<Given>, Error> {
        drain(&mut self.ring, AT_ONCE, |entry| {
            segment(entry).map(|(piece, octets)| (piece, octets.to_vec()))
        })
        .await
    }

    /// Ends a process's socket, if it is connected; whether it was.
    pub(super) fn end_socket(&mut self, protocol: u32, cookie: Origin) -> bool {
        self.resets.end_socket(protocol, cookie)
    }

    /// Gives up what is waited for no more.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let hellos = self.hellos.expire(now).len();
        let answers = self.answers.expire(now).len();
        if hellos + answers > 0 {
            tracing::debug!("{hellos} hellos and {answers} answers were never whole");
        }
    }
}

impl Engine {
    /// Reads on where the programs could not.
    pub(super) fn take_piece(&mut self, (piece, octets): &Given) -> Result<(), Error> {
        match piece.kind {
            piece::ANSWER => return self.take_answer(piece, octets, true),
            piece::STOPPED => {
                return self.end(&connection(piece), piece.flow.origin);
            }
            piece::INITIAL => return self.take_initial(piece, octets),
            piece::QUESTION => return self.take_question(piece, octets),
            piece::WAITS => return self.take_waiting(piece, octets),
            _ => {}
        }
        let segment = Segment {
            first: piece.first,
            sequence: piece.sequence,
            octets,
        };
        let now = Instant::now();
        if piece.kind == piece::STREAM {
            for (_, outcome) in self.pieces.answers.segment(&piece.flow, segment, now) {
                if let Outcome::Found(Message::Whole(message)) = outcome {
                    self.take_answer(piece, &message, false)?;
                }
            }
            return Ok(());
        }
        for (flow, outcome) in self.pieces.hellos.segment(&piece.flow, segment, now) {
            match outcome {
                Outcome::Found(Greeting::Named { name, .. }) if flow == piece.flow => {
                    self.greeted(piece, name.as_str())?;
                }
                Outcome::Found(_) => self.datapath.forget_hello(&hello(piece, &flow))?,
                Outcome::GivenUp(why) => {
                    tracing::debug!("the name of a connection is not looked for any more: {why}");
                    self.datapath.forget_hello(&hello(piece, &flow))?;
                }
            }
        }
        Ok(())
    }

    /// A connection began with a name.
    fn greeted(&mut self, piece: &Piece, name: &str) -> Result<(), Error> {
        let flow = &piece.flow;
        let key = hello(piece, flow);
        let ruling = self.rulebook.decide(name);
        let counts = |ruling: &Ruling| ruling.verdict.bars_direct() || piece.by_vpn != 0;
        let Some(ruling) = ruling.filter(counts) else {
            return Ok(self.datapath.forget_hello(&key)?);
        };
        self.learn_by_hello(flow, name, ruling)?;
        let goes_on = if ruling.verdict == Verdict::BLOCK {
            self.is_let(flow)
        } else {
            piece.by_vpn != 0 || self.stays_direct(piece, ruling.verdict)
        };
        if goes_on {
            return Ok(self.datapath.forget_hello(&key)?);
        }
        let late = Late {
            sequence: piece.sequence.wrapping_add(piece.size),
            acknowledgment: piece.acknowledgment,
            stopped: self.settings.sni.late == config::Late::Reset,
            ..Late::of(flow, piece.process != 0, name, &ruling.into())
        };
        if late.stopped {
            self.datapath.stop_hello(&key, piece.first)?;
        } else {
            self.datapath.forget_hello(&key)?;
        }
        self.tell(&Event::Late(late))
    }

    /// Learns the address of a flow by the name that it begins with.
    pub(super) fn learn_by_hello(
        &mut self,
        flow: &FlowKey,
        name: &str,
        ruling: Ruling,
    ) -> Result<(), Error> {
        self.learn(&Lesson {
            name,
            matched: ruling.into(),
            address: flow.remote,
            ttl: 0,
            source: source::HELLO,
            origin: flow.origin,
        })
        .map(drop)
    }

    /// Whether the flow of a piece, which is the VPN's, goes direct all the same. As in the programs: a rule for networks, or the user's choice
    /// while the VPN is down, may send the next try where this one goes.
    pub(super) fn stays_direct(&self, piece: &Piece, verdict: Verdict) -> bool {
        let remote = piece.flow.remote.to_ip();
        let by_network = self.rulebook.rules().decide_address(remote);
        let vpn = self.vpn_of(piece, verdict);
        by_network.is_some() || self.config.vpn(vpn).open != 0
    }

    /// Whether a flow that begins with a blocked name goes on all the same: a rule for networks goes before names.
    pub(super) fn is_let(&self, flow: &FlowKey) -> bool {
        let by_network = self.rulebook.rules().decide_address(flow.remote.to_ip());
        by_network.is_some_and(|by| by.kernel() != Verdict::BLOCK)
    }

    /// Ends a connection that was stopped, so that its client tries again, or fails, at once.
    pub(super) fn end(&mut self, connection: &Connection, origin: Origin) -> Result<(), Error> {
        let key = FlowKey {
            origin,
            local: connection.local.ip().into(),
            remote: connection.remote.ip().into(),
            local_port: Port::new(connection.local.port()),
            remote_port: Port::new(connection.remote.port()),
            protocol: TCP,
        };
        // A container's that is blocked may be on a VPN; a process's has the VPN's address, which leads there.
        let held = self.datapath.flows()?.get(&key, 0);
        let path = held.map_or(Path::DIRECT, |flow| flow.path);
        let mark = match path.is_vpn() {
            true => self.config.vpn(path).mark,
            false => self.config.bypass,
        };
        match self.pieces.resets.end(connection, mark) {
            Ok(how) => tracing::debug!("{} to {}: {how:?}", connection.local, connection.remote),
            Err(error) => self.report.trouble(&sentence(&error)),
        }
        Ok(())
    }

    /// A DNS answer, of which the programs have seen that it was `asked` for, or could not.
    fn take_answer(&mut self, piece: &Piece, octets: &[u8], asked: bool) -> Result<(), Error> {
        let message = &mut self.pieces.message;
        let size = octets.len().min(dns::SIZE);
        message.buffer()[..size].copy_from_slice(&octets[..size]);
        message.filled(size as u32);
        if message.role() != Role::Answer {
            return Ok(());
        }
        let mut found = Vec::new();
        let rulebook = &self.rulebook;
        let judge = |message: &mut dns::Message| {
            let ruling = rulebook.decide(&Name::from_labels(message.labels()).to_string());
            ruling.map_or(Match::default(), Match::from)
        };
        let taught = answer::teach_by(message, &rulebook.key(), judge, |record| {
            found.push(*record);
        });
        let Ok(taught) = taught else {
            return Ok(());
        };
        if !asked {
            let key = question(piece, message.id());
            if !self
                .datapath
                .take_query(&key, taught.name, self.config.tick)?
            {
                return Ok(());
            }
        }
        if taught.matched.verdict == Verdict::NONE {
            return Ok(());
        }
        // The question's name again: an alias may have been read last.
        if self.pieces.message.read_question().is_err() {
            return Ok(());
        }
        let name = Name::from_labels(self.pieces.message.labels()).to_string();
        for record in found {
            self.learn(&Lesson {
                name: &name,
                matched: taught.matched,
                address: record.address,
                ttl: record.ttl,
                source: source::RESOLVED,
                origin: piece.flow.origin,
            })?;
        }
        Ok(())
    }
}

/// A connection that was stopped at a piece.
fn connection(piece: &Piece) -> Connection {
    let flow = &piece.flow;
    Connection {
        owner: owner(piece.process != 0, flow.origin),
        local: (flow.local.to_ip(), flow.local_port.number()).into(),
        remote: (flow.remote.to_ip(), flow.remote_port.number()).into(),
        sequence: piece.sequence,
        acknowledgment: piece.acknowledgment,
    }
}

/// Whose a connection is.
pub(super) fn owner(process: bool, origin: Origin) -> Owner {
    if process {
        Owner::Socket(origin)
    } else {
        Owner::Bridge
    }
}

/// How a connection goes in `HELLOS`: a process's by its socket alone.
fn hello(piece: &Piece, flow: &FlowKey) -> FlowKey {
    if piece.process == 0 {
        *flow
    } else {
        FlowKey::of_socket(flow.origin)
    }
}

/// What the question of an answer goes by; a process's by its socket alone.
fn question(piece: &Piece, id: u16) -> QueryKey {
    let flow = &piece.flow;
    let key = QueryKey {
        origin: flow.origin,
        id,
        ..QueryKey::default()
    };
    if piece.process != 0 {
        return key;
    }
    QueryKey {
        client: flow.remote,
        client_port: flow.remote_port,
        server: flow.local,
        ..key
    }
}
