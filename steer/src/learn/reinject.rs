//! Lets packets go on that were held until it was known where they belong.
//!
//! A container's comes in on its bridge once more: all that the host does with its packets, from steer's own programs to
//! the rules of `FORWARD`, it does with this one. Sent by a raw socket it would leave past the rules that keep a
//! container from where it may not go. A process's is sent by a raw socket: it passes `OUTPUT` again, with its mark.

use std::net::IpAddr;

use aya::{
    TestRun as _, TestRunOptions,
    programs::{ProgramError, SchedClassifier},
};

use super::raw::{self, RawSockets};

/// Octets of an Ethernet header.
const ETHERNET: usize = 14;

/// Why a packet did not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be run.
    #[error("cannot let a packet of {size} octets come in on the interface {ifindex} again")]
    Run {
        /// The interface.
        ifindex: u32,
        /// Octets of the frame.
        size: usize,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// The interface did not take it.
    #[error(
        "the interface {ifindex} did not take a packet of {size} octets that was held (error {number}): it is gone, or \
         down; the client sends again"
    )]
    NotTaken {
        /// The interface.
        ifindex: u32,
        /// Octets of the frame.
        size: usize,
        /// The kernel's error number.
        number: i32,
    },
    /// A process's packet could not be sent.
    #[error(transparent)]
    Send(#[from] raw::Error),
}

/// Lets a container's frame come in on its bridge once more, by the program that
/// [`Datapath::reenter`](crate::datapath::Datapath::reenter) gives; in this network namespace. What is decided of its
/// flow has to be in the maps before.
///
/// # Errors
/// When the bridge does not take it.
pub fn on_bridge(program: &SchedClassifier, ifindex: u32, frame: &mut [u8]) -> Result<(), Error> {
    /// Octets of `struct __sk_buff`, and where its `cb` begins.
    const CONTEXT: usize = 192;
    const CB: usize = 48;
    let size = frame.len();
    if let Some(packet) = frame.get_mut(ETHERNET..) {
        complete(packet);
    }
    let mut context = [0; CONTEXT];
    context[CB..CB + 4].copy_from_slice(&ifindex.to_ne_bytes());
    let options = TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(&context),
        ..TestRunOptions::new()
    };
    let run = |source| Error::Run {
        ifindex,
        size,
        source,
    };
    match program.test_run(options).map_err(run)?.return_value as i32 {
        0 => Ok(()),
        number => Err(Error::NotTaken {
            ifindex,
            size,
            number,
        }),
    }
}

/// Sends a process's packet, from its IP header on, with the mark that its flow has.
///
/// # Errors
/// When it cannot be sent.
pub fn of_process(sockets: &mut RawSockets, mark: u32, packet: &mut [u8]) -> Result<(), Error> {
    complete(packet);
    Ok(sockets.send(packet, mark)?)
}

/// Makes the checksum of a UDP datagram or a TCP segment, which the sender left to a network card that this packet will never
/// see. Other packets and fragments stay as they are.
pub fn complete(packet: &mut [u8]) -> bool {
    let Some(whole) = Whole::of(packet) else {
        return false;
    };
    let (least, checksum, end) = match whole.protocol {
        // It has a length of its own.
        UDP => match packet.get(whole.at + 4..).and_then(|it| it.first_chunk()) {
            Some(length) => (8, 6, whole.at + usize::from(u16::from_be_bytes(*length))),
            None => return false,
        },
        TCP => (20, 16, whole.end),
        _ => return false,
    };
    let Some(carried) = packet.get_mut(whole.at..end).filter(|it| it.len() >= least) else {
        return false;
    };
    carried[checksum..checksum + 2].fill(0);
    let sum = match raw::checksum(whole.from, whole.to, whole.protocol, carried) {
        // Zero says that there is none (RFC 768).
        0 if whole.protocol == UDP => u16::MAX,
        sum => sum,
    };
    carried[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

const UDP: u8 = steer_common::packet::UDP as u8;
const TCP: u8 = steer_common::packet::TCP as u8;

/// A packet that is no fragment.
struct Whole {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    /// Where what it carries begins and ends.
    at: usize,
    end: usize,
}

impl Whole {
    fn of(packet: &[u8]) -> Option<Self> {
        const FRAGMENT: u16 = 0x3fff;
        let size = |octets: [u8; 2]| usize::from(u16::from_be_bytes(octets));
        match packet.first()? >> 4 {
            4 => {
                let head = packet.first_chunk::<20>()?;
                let [from, to] = [12, 16].map(|at| head[at..].first_chunk::<4>().copied());
                let whole = u16::from_be_bytes([head[6], head[7]]) & FRAGMENT == 0;
                whole.then_some(Self {
                    from: from?.into(),
                    to: to?.into(),
                    protocol: head[9],
                    at: usize::from(head[0] & 0x0f) * 4,
                    end: size([head[2], head[3]]),
                })
            }
            6 => {
                let head = packet.first_chunk::<40>()?;
                let [from, to] = [8, 24].map(|at| head[at..].first_chunk::<16>().copied());
                Some(Self {
                    from: from?.into(),
                    to: to?.into(),
                    protocol: head[6],
                    at: head.len(),
                    end: head.len() + size([head[4], head[5]]),
                })
            }
            _ => None,
        }
    }
}
