//! What tells packets of QUIC without decrypting them (RFC 8999, RFC 9000 section 17.2, RFC 9369 section 3.2).

/// Octets of a packet that are looked at: its first and the version.
pub const HEAD: usize = 5;
/// A client's datagram with an Initial carries at least so many octets (RFC 9000 section 14.1).
pub const SMALLEST: u32 = 1200;

const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
const TYPE: u8 = 0x30;

/// Whether a packet has a long header, as all have that a client sends before it has an answer.
#[inline(always)]
pub const fn is_long(head: &[u8; HEAD]) -> bool {
    head[0] & LONG != 0
}

/// Whether it is an Initial of version 1 or 2.
#[inline(always)]
pub const fn is_initial(head: &[u8; HEAD]) -> bool {
    const VERSION_1: u32 = 1;
    const VERSION_2: u32 = 0x6b33_43cf;
    let version = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let initial = match version {
        VERSION_1 => 0x00,
        VERSION_2 => 0x10,
        _ => return false,
    };
    head[0] & (LONG | FIXED | TYPE) == LONG | FIXED | initial
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initials_of_both_versions() {
        for (head, long, initial) in [
            ([0xc3, 0, 0, 0, 1], true, true),
            ([0xd3, 0x6b, 0x33, 0x43, 0xcf], true, true),
            // The type of the other version: 0-RTT and Retry.
            ([0xd0, 0, 0, 0, 1], true, false),
            ([0xc0, 0x6b, 0x33, 0x43, 0xcf], true, false),
            // Version negotiation, a draft, and a packet behind the handshake.
            ([0xc0, 0, 0, 0, 0], true, false),
            ([0xc0, 0xff, 0, 0, 29], true, false),
            ([0x43, 0, 0, 0, 1], false, false),
            // The fixed bit is not set.
            ([0x80, 0, 0, 0, 1], true, false),
        ] {
            assert_eq!(
                (is_long(&head), is_initial(&head)),
                (long, initial),
                "{head:x?}"
            );
        }
    }
}
