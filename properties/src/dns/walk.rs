//! Names and parameters read octet by octet in plain Rust, as steer means to: where hickory-proto refuses a part that
//! steer reads on behind, the model needs to know what stands there.

use super::Name;
use steer_common::dns::{HEADER, NAME_STEPS};

/// Why a name is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A pointer leads into the header.
    IntoHeader,
    /// It has more labels and pointers than steer follows.
    Endless,
    /// Anything else.
    Other,
}

/// The name at `at`, with its pointers followed, each of which leads to before where the labels before it begin.
pub(super) fn name(octets: &[u8], at: usize) -> Result<Name, Fault> {
    let (mut at, mut floor) = (at, at);
    let mut labels = Vec::new();
    let mut length = 1;
    for _ in 0..NAME_STEPS {
        let octet = usize::from(*octets.get(at).ok_or(Fault::Other)?);
        match octet {
            0 => return Ok(Name::new(labels)),
            1..=63 => {
                let label = octets.get(at + 1..at + 1 + octet).ok_or(Fault::Other)?;
                length += 1 + octet;
                if length > 255 {
                    return Err(Fault::Other);
                }
                labels.push(label);
                at += 1 + octet;
            }
            192.. => {
                let low = usize::from(*octets.get(at + 1).ok_or(Fault::Other)?);
                let target = (octet & 0x3f) << 8 | low;
                if target >= floor {
                    return Err(Fault::Other);
                }
                if target < HEADER as usize {
                    return Err(Fault::IntoHeader);
                }
                (at, floor) = (target, target);
            }
            _ => return Err(Fault::Other),
        }
    }
    Err(Fault::Endless)
}

/// Where the name at `at` ends, and how many labels it has up to there; pointers are not followed.
pub(super) fn pass_over_name(octets: &[u8], at: usize) -> Option<(usize, u32)> {
    let mut at = at;
    let mut labels = 0;
    loop {
        match *octets.get(at)? {
            0 => return Some((at + 1, labels)),
            0xc0.. => return (at + 2 <= octets.len()).then_some((at + 2, labels)),
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
        labels += 1;
    }
}

/// The next parameter of an HTTPS or SVCB record (RFC 9460 section 2.2): its key and its value.
pub(super) fn parameter<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (key, after) = rest.split_first_chunk()?;
    let (length, after) = after.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let value = after.get(..length)?;
    *rest = &after[length..];
    Some((u16::from_be_bytes(*key), value))
}
