//! Datagrams, which are counted.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::{DATAGRAM_PORT, address};
use crate::load::batch::Batch;

/// What has arrived so far.
#[derive(Default)]
pub struct Arrived {
    count: AtomicU64,
    last: AtomicU32,
}

impl Arrived {
    /// How many, and from whom the last one came.
    pub fn told(&self) -> String {
        let last: Ipv4Addr = self.last.load(Ordering::Relaxed).into();
        format!("{} {last}", self.count.load(Ordering::Relaxed))
    }
}

/// The socket for a zone's first address.
pub fn bind(zone: &str) -> Result<UdpSocket> {
    let own = address(zone, 1);
    let socket = UdpSocket::bind((own, DATAGRAM_PORT))
        .with_context(|| format!("cannot receive datagrams at {own}"))?;
    setsockopt(&socket, RcvBufForce, &(8 << 20))?;
    Ok(socket)
}

/// Receives for good.
pub fn receive(socket: &UdpSocket, arrived: &Arrived) {
    let mut batch = Batch::new();
    loop {
        if let Ok((count, sender)) = batch.receive(socket) {
            arrived.count.fetch_add(count as u64, Ordering::Relaxed);
            arrived.last.store(sender.into(), Ordering::Relaxed);
        }
    }
}
