//! DNS messages over TCP (RFC 1035 section 4.2.2, RFC 7766): each behind its length.

use super::stream::{Read, Reader};

/// Finds the messages of a stream, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages;

/// What a stream of DNS carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The octets of a message.
    Whole(Vec<u8>),
    /// Something shorter than a message's header: this is no DNS.
    Foreign,
}

impl Reader for Messages {
    type Found = Message;

    fn read(&mut self, octets: &[u8]) -> Read<Message> {
        let Some((length, rest)) = octets.split_first_chunk() else {
            return Read::More;
        };
        let size = usize::from(u16::from_be_bytes(*length));
        if size < steer_common::dns::HEADER as usize {
            return Read::Last(Message::Foreign);
        }
        match rest.get(..size) {
            Some(message) => Read::Next(Message::Whole(message.to_vec()), length.len() + size),
            None => Read::More,
        }
    }
}
