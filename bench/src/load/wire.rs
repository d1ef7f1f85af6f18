//! Messages of the DNS (RFC 1035), as far as this needs them: one question for A, addresses for an answer.

use std::net::Ipv4Addr;

/// Octets before the question.
const HEADER: usize = 12;
/// The type A and the class IN.
const A_IN: [u8; 4] = [0, 1, 0, 1];
/// How long an answer may be kept, in seconds.
const TTL: [u8; 4] = 60_u32.to_be_bytes();

/// A question for a name's address.
pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    message.extend(id.to_be_bytes());
    // Recursion is wished for; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(A_IN);
    message
}

/// The name in a question, and whether it asks for A.
pub fn asked(message: &[u8]) -> Option<(String, bool)> {
    let end = after_name(message, HEADER)?;
    let mut name = String::new();
    let mut at = HEADER;
    while message[at] != 0 {
        let len = usize::from(message[at]);
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(message.get(at + 1..at + 1 + len)?).ok()?);
        at += 1 + len;
    }
    Some((name, message.get(end..end + 4)? == A_IN))
}

/// The answer to a question: these addresses, or that there are none of the kind.
pub fn answer(question: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let end = after_name(question, HEADER)? + 4;
    let mut message = question.get(..end)?.to_vec();
    // An answer, of one that recurses; nothing but the question and the addresses.
    message[2] |= 0x80;
    message[3] = 0x80;
    message[6..HEADER].copy_from_slice(&[0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    for address in addresses {
        message.extend([0xc0, 0x0c]);
        message.extend(A_IN);
        message.extend(TTL);
        message.extend([0, 4]);
        message.extend(address.octets());
    }
    Some(message)
}

/// The id of a message.
pub fn id(message: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*message.first_chunk()?))
}

/// The first address in an answer.
pub fn first_address(message: &[u8]) -> Option<Ipv4Addr> {
    let records = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    let mut at = after_name(message, HEADER)? + 4;
    for _ in 0..records {
        at = after_name(message, at)?;
        let fixed: [u8; 10] = message.get(at..at + 10)?.try_into().ok()?;
        let len = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = message.get(at + 10..at + 10 + len)?;
        if fixed[..4] == A_IN {
            return Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?));
        }
        at += 10 + len;
    }
    None
}

/// Where what follows the name at `at` begins.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered() {
        let message = question(7, "n1.blocked.example");
        assert_eq!(
            asked(&message),
            Some(("n1.blocked.example".to_owned(), true))
        );
        let addresses = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let answered = answer(&message, &addresses).unwrap();
        assert_eq!(id(&answered), Some(7));
        assert_eq!(first_address(&answered), Some(addresses[0]));
        let none = answer(&message, &[]).unwrap();
        assert_eq!(first_address(&none), None);
    }

    #[test]
    fn what_is_no_message_is_none() {
        for len in 0..HEADER + 3 {
            assert_eq!(asked(&question(1, "a.b")[..len]), None);
        }
    }
}
