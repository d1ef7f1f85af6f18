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

/// Makes the checksum of a UDP datagram, which the sender left to a network card that this packet will never see. Other
/// packets and fragments stay as they are.
pub fn complete(packet: &mut [u8]) -> bool {
    datagram(packet).is_some_and(|(from, to, at)| {
        const UDP: u8 = steer_common::packet::UDP as u8;
        const CHECKSUM: usize = 6;
        let Some(size) = packet
            .get(at + 4..)
            .and_then(|rest| rest.first_chunk())
            .map(|octets| usize::from(u16::from_be_bytes(*octets)))
        else {
            return false;
        };
        let Some(datagram) = packet.get_mut(at..at + size).filter(|d| d.len() >= 8) else {
            return false;
        };
        datagram[CHECKSUM..CHECKSUM + 2].fill(0);
        let sum = match raw::checksum(from, to, UDP, datagram) {
            // Zero says that there is none (RFC 768).
            0 => u16::MAX,
            sum => sum,
        };
        datagram[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        true
    })
}

/// Both ends of a packet that is a whole UDP datagram, and where that begins.
fn datagram(packet: &[u8]) -> Option<(IpAddr, IpAddr, usize)> {
    const UDP: u8 = steer_common::packet::UDP as u8;
    const FRAGMENT: u16 = 0x3fff;
    match packet.first()? >> 4 {
        4 => {
            let head = packet.first_chunk::<20>()?;
            let whole = u16::from_be_bytes([head[6], head[7]]) & FRAGMENT == 0;
            let [from, to] = [12, 16].map(|at| head[at..].first_chunk::<4>().copied());
            let at = usize::from(head[0] & 0x0f) * 4;
            (head[9] == UDP && whole).then_some((from?.into(), to?.into(), at))
        }
        6 => {
            let head = packet.first_chunk::<40>()?;
            let [from, to] = [8, 24].map(|at| head[at..].first_chunk::<16>().copied());
            (head[6] == UDP).then_some((from?.into(), to?.into(), head.len()))
        }
        _ => None,
    }
}
