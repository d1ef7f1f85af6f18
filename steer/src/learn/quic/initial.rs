//! A client's Initial: its header, its keys, and the frames in it.

use aes::{
    Aes128,
    cipher::{BlockEncrypt, KeyInit},
};
use aes_gcm::{AeadInPlace, Aes128Gcm, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

/// Octets of the tag of AES-128-GCM.
const TAG: usize = 16;
/// Octets of what masks a header (RFC 9001 section 5.4.2).
const SAMPLE: usize = 16;
/// Octets from the packet number to the sample: the longest packet number.
const TO_SAMPLE: usize = 4;
/// Most octets of a connection ID (RFC 9000 section 17.2).
const CONNECTION_ID: usize = 20;

/// What differs from version to version (RFC 9001 section 5.2, RFC 9369 section 3).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version {
    number: u32,
    /// Type of an Initial in the first octet.
    initial: u8,
    salt: [u8; 20],
    key: &'static str,
    iv: &'static str,
    protection: &'static str,
}

static VERSIONS: [Version; 2] = [
    Version {
        number: 1,
        initial: 0x00,
        salt: [
            0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8,
            0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
        ],
        key: "quic key",
        iv: "quic iv",
        protection: "quic hp",
    },
    Version {
        number: 0x6b33_43cf,
        initial: 0x10,
        salt: [
            0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26,
            0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
        ],
        key: "quicv2 key",
        iv: "quicv2 iv",
        protection: "quicv2 hp",
    },
];

/// What a client's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) version: &'static Version,
    destination: Vec<u8>,
}

/// An Initial, protected.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) connection: Connection,
    octets: &'a [u8],
    /// Where the packet number begins.
    number: usize,
}

/// It is of no version that is known, contradicts itself or the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotQuic;

/// Cuts the first packet off a datagram: an Initial, or `None` for another packet with a long header.
pub(super) fn split(datagram: &[u8]) -> Result<(Option<Packet<'_>>, &[u8]), NotQuic> {
    const LONG: u8 = 0x80;
    const TYPE: u8 = 0x30;
    let mut cursor = Cursor(datagram);
    let first = cursor.number(1)? as u8;
    if first & LONG == 0 {
        return Err(NotQuic);
    }
    let number = cursor.number(4)?;
    let version = VERSIONS
        .iter()
        .find(|version| u64::from(version.number) == number)
        .ok_or(NotQuic)?;
    let destination = cursor.connection_id()?.to_vec();
    cursor.connection_id()?;
    let initial = first & TYPE == version.initial;
    if initial {
        let token = cursor.varint()?;
        cursor.take(token)?;
    }
    let length = cursor.varint()?;
    let number = datagram.len() - cursor.0.len();
    cursor.take(length)?;
    let (octets, after) = datagram.split_at(datagram.len() - cursor.0.len());
    let packet = initial.then_some(Packet {
        connection: Connection {
            version,
            destination,
        },
        octets,
        number,
    });
    Ok((packet, after))
}

/// A client's keys.
pub(super) struct Keys {
    seal: Aes128Gcm,
    iv: [u8; 12],
    protection: Aes128,
}

impl Keys {
    /// The keys of a connection's client (RFC 9001 section 5.2).
    pub(super) fn of(connection: &Connection) -> Option<Self> {
        let version = connection.version;
        let (initial, _) = Hkdf::<Sha256>::extract(Some(&version.salt), &connection.destination);
        let client: [u8; 32] = expand(&initial, "client in")?;
        let seal: [u8; 16] = expand(&client, version.key)?;
        let protection: [u8; 16] = expand(&client, version.protection)?;
        Some(Self {
            seal: Aes128Gcm::new(&seal.into()),
            iv: expand(&client, version.iv)?,
            protection: Aes128::new(&protection.into()),
        })
    }

    /// The packet number and the frames of an Initial, if these are its keys. `expected` is the number after the highest
    /// one that was seen.
    pub(super) fn open(&self, packet: &Packet<'_>, expected: u64) -> Option<(u64, Vec<u8>)> {
        const NUMBER_SIZE: u8 = 0x03;
        const PROTECTED: u8 = 0x0f;
        let mut octets = packet.octets.to_vec();
        let at = packet.number;
        let sample = octets.get(at + TO_SAMPLE..at + TO_SAMPLE + SAMPLE)?;
        let mut mask = *aes::Block::from_slice(sample);
        self.protection.encrypt_block(&mut mask);
        octets[0] ^= mask[0] & PROTECTED;
        let size = usize::from(octets[0] & NUMBER_SIZE) + 1;
        let mut number = 0;
        for (octet, mask) in octets[at..at + size].iter_mut().zip(&mask[1..]) {
            *octet ^= mask;
            number = number << 8 | u64::from(*octet);
        }
        let number = whole_number(number, size, expected);
        let mut nonce = self.iv;
        for (octet, part) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *octet ^= part;
        }
        let (header, sealed) = octets.split_at_mut(at + size);
        let (payload, tag) = sealed.split_at_mut(sealed.len().checked_sub(TAG)?);
        self.seal
            .decrypt_in_place_detached(&nonce.into(), header, payload, Tag::from_slice(tag))
            .ok()?;
        Some((number, payload.to_vec()))
    }
}

/// HKDF-Expand-Label without a context (RFC 8446 section 7.1).
fn expand<const SIZE: usize>(secret: &[u8], label: &str) -> Option<[u8; SIZE]> {
    const PREFIX: &str = "tls13 ";
    let mut info = vec![0, SIZE as u8, (PREFIX.len() + label.len()) as u8];
    info.extend_from_slice(PREFIX.as_bytes());
    info.extend_from_slice(label.as_bytes());
    info.push(0);
    let mut key = [0; SIZE];
    let hkdf = Hkdf::<Sha256>::from_prk(secret).ok()?;
    hkdf.expand(&info, &mut key).ok()?;
    Some(key)
}

/// The packet number of which the last octets were sent (RFC 9000 appendix A.3).
fn whole_number(sent: u64, size: usize, expected: u64) -> u64 {
    let window = 1 << (8 * size);
    let half = window / 2;
    let near = expected & !(window - 1) | sent;
    if near + half <= expected {
        near + window
    } else if near > expected + half && near >= window {
        near - window
    } else {
        near
    }
}

/// What an Initial carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A part of the handshake.
    Crypto {
        /// Where in the handshake it belongs.
        offset: u64,
        octets: &'a [u8],
    },
    /// Anything else that an Initial may carry.
    Other,
}

/// The frames of an Initial; those of a kind that may not be in one end them (RFC 9000 section 12.4).
pub(super) fn frames(payload: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, NotQuic>> {
    let mut cursor = Cursor(payload);
    std::iter::from_fn(move || {
        if cursor.0.is_empty() {
            return None;
        }
        let frame = frame(&mut cursor);
        if frame.is_err() {
            cursor.0 = &[];
        }
        Some(frame)
    })
}

fn frame<'a>(cursor: &mut Cursor<'a>) -> Result<Frame<'a>, NotQuic> {
    const PADDING: u64 = 0x00;
    const PING: u64 = 0x01;
    const ACK: u64 = 0x02;
    const ACK_ECN: u64 = 0x03;
    const CRYPTO: u64 = 0x06;
    const CONNECTION_CLOSE: u64 = 0x1c;
    match cursor.varint()? {
        PADDING | PING => {}
        kind @ (ACK | ACK_ECN) => {
            let [_largest, _delay, ranges] = cursor.varints()?;
            cursor.varint()?;
            for _ in 0..ranges {
                let [_gap, _range] = cursor.varints()?;
            }
            if kind == ACK_ECN {
                let [_ect0, _ect1, _ce] = cursor.varints()?;
            }
        }
        CRYPTO => {
            let [offset, size] = cursor.varints()?;
            let octets = cursor.take(size)?;
            return Ok(Frame::Crypto { offset, octets });
        }
        CONNECTION_CLOSE => {
            let [_error, _frame, size] = cursor.varints()?;
            cursor.take(size)?;
        }
        _ => return Err(NotQuic),
    }
    Ok(Frame::Other)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, size: u64) -> Result<&'a [u8], NotQuic> {
        let (taken, rest) = usize::try_from(size)
            .ok()
            .and_then(|size| self.0.split_at_checked(size))
            .ok_or(NotQuic)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, octets: u64) -> Result<u64, NotQuic> {
        let octets = self.take(octets)?;
        Ok(octets
            .iter()
            .fold(0, |number, &octet| number << 8 | u64::from(octet)))
    }

    /// A number of 1, 2, 4 or 8 octets (RFC 9000 section 16).
    fn varint(&mut self) -> Result<u64, NotQuic> {
        let first = *self.0.first().ok_or(NotQuic)?;
        let size = 1 << (first >> 6);
        Ok(self.number(size)? & ((1 << (8 * size - 2)) - 1))
    }

    fn varints<const N: usize>(&mut self) -> Result<[u64; N], NotQuic> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.varint()?;
        }
        Ok(numbers)
    }

    fn connection_id(&mut self) -> Result<&'a [u8], NotQuic> {
        let size = self.number(1)?;
        if size > CONNECTION_ID as u64 {
            return Err(NotQuic);
        }
        self.take(size)
    }
}
