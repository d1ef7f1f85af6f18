//! Domain patterns as users write them.

use steer::rules::{Domain, Pattern};
use steer_common::{
    dns::{HEADER, Message},
    suffix::{Key, hash_name},
};

const KEY: Key = Key([5, 6]);

/// A text as a pattern: what is accepted is a name of RFC 1035, is accepted again as it is shown, and has the hash that
/// the kernel programs find in a question for it.
pub fn check(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let pattern: Pattern = match text.parse() {
        Ok(pattern) => pattern,
        Err(error) => return assert_is_a_sentence(&format!("{error}")),
    };
    let shown = pattern.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(&pattern), "shown as {shown}");
    let name = pattern.domain.as_str();
    assert!(name.len() <= 253 && !name.contains(|c: char| !c.is_ascii() || c.is_ascii_uppercase()));
    assert!(
        pattern
            .domain
            .labels()
            .all(|label| (1..=63).contains(&label.len())),
        "{name}"
    );
    assert_eq!(
        hash_name(&KEY, name),
        hash_of_question(&pattern.domain),
        "{name}"
    );
}

/// What is said of a refused text stands on one line.
pub(crate) fn assert_is_a_sentence(text: &str) {
    assert!(
        !text.trim().is_empty() && !text.contains(['\n', '\r']),
        "{text:?}"
    );
}

fn hash_of_question(domain: &Domain) -> u64 {
    let mut octets = vec![0; HEADER as usize];
    octets[5] = 1;
    for label in domain.labels() {
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.extend([0, 0, 1, 0, 1]);
    let mut message = Box::new(Message::new());
    message.buffer()[..octets.len()].copy_from_slice(&octets);
    message.filled(octets.len() as u32);
    message
        .read_question()
        .expect("a domain is a name of a question");
    message.hash_name(&KEY, |_, _| {})
}
