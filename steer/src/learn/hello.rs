//! The name of the server that a client asks for in its first octets: a TLS ClientHello in any number of records, or an
//! HTTP/1 request.

use std::fmt;

use steer_common::{
    http::Request,
    opening::{Opening, Step},
    tls::{HANDSHAKE, Hello, RECORD, RECORD_HEADER},
};

use super::stream::{Read, Reader};

/// Octets that are read: a ClientHello's extensions alone can be as many.
const SIZE: usize = 1 << 16;

/// The name of a server, in lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerName(String);

impl ServerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client's first octets say of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A server is asked for by its name.
    Named {
        /// The name.
        name: ServerName,
        /// Whether another name may be meant, in an encrypted ClientHello.
        ech: bool,
    },
    /// A server is asked for, and not by its name.
    Unnamed,
    /// They are of another protocol.
    Foreign,
}

/// Reads greetings.
pub struct Greetings {
    opening: Box<Opening<SIZE>>,
}

impl Greetings {
    /// A reader.
    pub fn new() -> Self {
        Self {
            opening: Box::default(),
        }
    }

    /// Reads a ClientHello that has no records, as in QUIC; `None` while it goes on beyond what is here.
    pub fn read_bare(&mut self, octets: &[u8]) -> Option<Greeting> {
        self.opening.fill(octets);
        self.read_hello()
    }

    fn read_hello(&mut self) -> Option<Greeting> {
        let mut hello = Hello::new();
        let begun = hello.begin_joined(&self.opening);
        let step = hello.read(&self.opening, begun);
        self.greeting(step, hello.ech())
    }

    fn read_request(&mut self, octets: &[u8]) -> Option<Greeting> {
        self.opening.fill(octets);
        let step = Request::new().read(&self.opening);
        self.greeting(step, false)
    }

    fn greeting(&self, step: Step, ech: bool) -> Option<Greeting> {
        match step {
            Step::On | Step::More | Step::Records => None,
            Step::Name(name) => {
                let text = String::from_utf8_lossy(self.opening.text(name));
                let name = ServerName(text.to_ascii_lowercase());
                Some(Greeting::Named { name, ech })
            }
            Step::NoName => Some(Greeting::Unnamed),
            Step::Foreign => Some(Greeting::Foreign),
        }
    }

    /// Takes the records' headers out; false if these are no records of a handshake.
    fn join(&mut self, mut octets: &[u8]) -> bool {
        const MAJOR: u8 = 3;
        let buffer = self.opening.buffer();
        let mut size = 0;
        let mut sound = true;
        while sound && let Some(&kind) = octets.first() {
            sound = kind == HANDSHAKE && octets.get(1).is_none_or(|&major| major == MAJOR);
            let Some((header, rest)) = octets.split_at_checked(RECORD_HEADER as usize) else {
                break;
            };
            let length = u16::from_be_bytes([header[3], header[4]]);
            sound &= length != 0 && u32::from(length) <= RECORD;
            if !sound {
                break;
            }
            let part = &rest[..rest.len().min(length.into())];
            let fits = part.len().min(buffer.len() - size);
            buffer[size..size + fits].copy_from_slice(&part[..fits]);
            size += fits;
            octets = &rest[part.len()..];
        }
        self.opening.filled(size as u32);
        sound
    }
}

impl Default for Greetings {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Greetings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Greetings")
    }
}

impl Reader for Greetings {
    type Found = Greeting;

    fn read(&mut self, octets: &[u8]) -> Read<Greeting> {
        let greeting = match octets.first() {
            None => None,
            Some(&HANDSHAKE) => {
                let sound = self.join(octets);
                // What came before a record of another kind may already be the whole hello.
                self.read_hello()
                    .or_else(|| (!sound).then_some(Greeting::Foreign))
            }
            Some(_) => self.read_request(octets),
        };
        greeting.map_or(Read::More, Read::Last)
    }
}
