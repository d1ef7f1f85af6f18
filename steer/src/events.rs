//! What the kernel programs tell, as values and as lines.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use steer_common::{
    decide::Match,
    packet::{TCP, UDP},
    types::{self, Address, event},
};

/// A name in wire form without its root, in text; octets beyond ASCII letters, digits, `-` and `_` as `\ddd`
/// (RFC 1035 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

/// The origin of what steer itself asked for: no bridge has this index, and no socket this cookie.
pub const STEER: types::Origin = 0;

impl Name {
    /// The name in an entry of `NAMES`.
    pub fn of(entry: &types::NameEntry) -> Self {
        let octets: Vec<u8> = entry
            .name
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
        Self::from_wire(&octets[..size.min(octets.len())])
    }

    fn from_wire(wire: &[u8]) -> Self {
        let mut rest = wire;
        Self::from_labels(std::iter::from_fn(|| {
            let (&length, after) = rest.split_first()?;
            let (label, next) = after.split_at(usize::from(length).min(after.len()));
            rest = next;
            Some(label)
        }))
    }

    /// The name of these labels, the first one first.
    pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut text = String::new();
        for label in labels {
            if !text.is_empty() {
                text.push('.');
            }
            for &octet in label {
                if octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_' {
                    text.push(char::from(octet.to_ascii_lowercase()));
                } else {
                    text.push_str(&format!("\\{octet:03}"));
                }
            }
        }
        if text.is_empty() {
            text.push('.');
        }
        Self(text)
    }

    /// The name in text, which has only letters, digits, hyphens and underscores in its labels.
    pub fn from_text(text: &str) -> Self {
        Self::from_labels(text.split('.').map(str::as_bytes))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something the programs told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address has a verdict that it had not before.
    Learned(Learned),
    /// A flow begins and takes the VPN.
    Steered(Steered),
    /// A flow begins that a rule blocks.
    Refused(Refused),
    /// A connection turned out to be for the VPN while it goes direct, or to be blocked.
    Late(Late),
    /// A container sends of which user space has not said in which scope it is, or a bridge's containers do.
    Waits(types::ScopeKey),
}

/// An address has a verdict that it had not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The name asked for.
    pub name: Name,
    /// The address.
    pub address: IpAddr,
    /// What the rule says; none if a flow to an address that takes the VPN began with a name that no rule speaks of.
    pub verdict: types::Verdict,
    /// Seconds, as the answer has it.
    pub ttl: u32,
    /// Hash of the suffix whose rule matched.
    pub rule: u64,
    /// Hash of the suffix whose rule gives the address the other verdict at the same time: the VPN wins.
    pub contested_by: Option<u64>,
    /// Who asked.
    pub origin: types::Origin,
}

/// A flow begins and takes the VPN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    /// Protocol number of IP.
    pub protocol: u32,
    /// The near side, where the kernel has chosen it.
    pub local: Option<(IpAddr, u16)>,
    /// The far side.
    pub remote: (IpAddr, u16),
    /// Hash of the suffix whose rule gave the address its verdict.
    pub rule: u64,
    /// Which VPN.
    pub path: types::Path,
    /// The scope whose default it takes, counted from zero, if it is not by a rule.
    pub scope: Option<usize>,
    /// Whose.
    pub origin: types::Origin,
}

/// A flow begins that a rule blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Protocol number of IP.
    pub protocol: u32,
    /// The near side, of what a container begins.
    pub local: Option<SocketAddr>,
    /// The far side.
    pub remote: SocketAddr,
    /// Hash of the suffix or network whose rule blocks it.
    pub rule: u64,
    /// Whose.
    pub origin: types::Origin,
    /// Of what a container begins over TCP, its sequence number.
    pub sequence: u32,
}

/// A connection turned out, by what it began with, to be for the VPN while it goes direct, or to be blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The name that it began with.
    pub name: Name,
    /// Hash of the suffix whose rule matched.
    pub rule: u64,
    /// What that says: a VPN, or that it is blocked.
    pub verdict: types::Verdict,
    /// Whose: a socket's cookie or a bridge's index.
    pub origin: types::Origin,
    /// Whether it is a socket's.
    pub process: bool,
    /// The near side.
    pub local: (IpAddr, u16),
    /// The far side.
    pub remote: (IpAddr, u16),
    /// Sequence number of the segment with the name.
    pub sequence: u32,
    /// Acknowledgment number of that segment.
    pub acknowledgment: u32,
    /// Whether that segment was stopped, so that the connection waits for its reset.
    pub stopped: bool,
}

impl Late {
    /// Of a flow that is not stopped; as if it were none of TCP.
    pub fn of(flow: &types::FlowKey, process: bool, name: &str, matched: &Match) -> Self {
        Self {
            name: Name::from_text(name),
            rule: matched.rule,
            verdict: matched.verdict,
            origin: flow.origin,
            process,
            local: (flow.local.to_ip(), flow.local_port.number()),
            remote: (flow.remote.to_ip(), flow.remote_port.number()),
            sequence: 0,
            acknowledgment: 0,
            stopped: false,
        }
    }
}

impl Steered {
    /// Whether a process only asks which source address it would have: resolvers sort addresses so (RFC 6724), by
    /// connecting a datagram socket to the discard port, and send nothing.
    pub fn is_probe(&self) -> bool {
        const DISCARD: u16 = 9;
        self.protocol == UDP && self.local.is_none() && self.remote.1 == DISCARD
    }
}

impl Event {
    /// Reads an event; `None` if it is of no kind that is known, or too short.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let kind = u32::from_ne_bytes(octets.first_chunk().copied()?);
        match kind {
            event::LEARNED => value::<types::Learned>(octets).map(|e| Self::Learned(e.into())),
            event::STEERED => value::<types::Steered>(octets).map(|e| Self::Steered(e.into())),
            event::REFUSED => value::<types::Steered>(octets).map(|e| Self::Refused(e.into())),
            event::LATE => value::<types::Late>(octets).map(|e| Self::Late(e.into())),
            event::WAITS => value::<types::Waits>(octets).map(|e| Self::Waits(e.who)),
            _ => None,
        }
    }
}

/// Reads an entry of `SEGMENTS`: a piece of what a connection begins with, and its octets; `None` if it is cut off.
pub fn segment(entry: &[u8]) -> Option<(types::Piece, &[u8])> {
    let piece: types::Piece = value(entry)?;
    let octets = entry.get(size_of::<types::Piece>()..)?;
    Some((piece, octets.get(..usize::try_from(piece.size).ok()?)?))
}

impl From<types::Late> for Late {
    fn from(event: types::Late) -> Self {
        let flow = &event.flow;
        Self {
            name: Name::of(&event.by),
            rule: event.by.rule,
            verdict: event.by.verdict,
            origin: flow.origin,
            process: event.process != 0,
            local: (flow.local.to_ip(), flow.local_port.number()),
            remote: (flow.remote.to_ip(), flow.remote_port.number()),
            sequence: event.sequence,
            acknowledgment: event.acknowledgment,
            stopped: event.stopped != 0,
        }
    }
}

impl From<types::Learned> for Learned {
    fn from(event: types::Learned) -> Self {
        let by = &event.by;
        Self {
            name: Name::of(by),
            address: event.address.to_ip(),
            verdict: by.verdict,
            ttl: by.ttl,
            rule: by.rule,
            contested_by: (event.contested_by != 0).then_some(event.contested_by),
            origin: by.origin,
        }
    }
}

impl From<types::Steered> for Steered {
    fn from(event: types::Steered) -> Self {
        let local = (event.local != Address::default())
            .then(|| (event.local.to_ip(), event.local_port.number()));
        Self {
            protocol: event.protocol,
            local,
            remote: (event.remote.to_ip(), event.remote_port.number()),
            rule: event.rule,
            path: event.path,
            scope: usize::try_from(event.scope)
                .unwrap_or_default()
                .checked_sub(1),
            origin: event.origin,
        }
    }
}

impl From<types::Steered> for Refused {
    fn from(event: types::Steered) -> Self {
        let Steered {
            protocol,
            local,
            remote,
            rule,
            origin,
            ..
        } = event.into();
        Self {
            protocol,
            local: local.map(SocketAddr::from),
            remote: remote.into(),
            rule,
            origin,
            sequence: event.sequence,
        }
    }
}

/// The name of a protocol of IP, or its number.
pub fn protocol(number: u32) -> String {
    match number {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        other => format!("protocol {other}"),
    }
}

fn value<T: aya::Pod>(octets: &[u8]) -> Option<T> {
    // SAFETY: `T` is plain old data and there are octets enough for it; the read need not be aligned.
    (octets.len() >= size_of::<T>())
        .then(|| unsafe { octets.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_text() {
        for (wire, text) in [
            (&b""[..], "."),
            (b"\x02io", "io"),
            (b"\x03Hub\x06docker\x03com", "hub.docker.com"),
            (b"\x03a.b\x01\xff", "a\\046b.\\255"),
            (b"\x05cut", "cut"),
        ] {
            assert_eq!(Name::from_wire(wire).to_string(), text);
        }
    }

    #[test]
    fn what_is_too_short_or_unknown_is_no_event() {
        assert_eq!(Event::read(&[]), None);
        assert_eq!(Event::read(&event::LEARNED.to_ne_bytes()), None);
        assert_eq!(Event::read(&[0xff; 400]), None);
    }
}
