//! One load: what is asked for and what comes of it. The same generator for every contender, straight or by a proxy.

mod batch;
mod bulk;
mod connections;
mod datagrams;
mod drive;
mod handshakes;
mod latency;
mod questions;
pub mod server;
mod way;
pub mod wire;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub use drive::{busy, occupied};
use way::Way;

/// One load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// The zone whose names are asked for: `nNUMBER.ZONE`.
    pub zone: String,
    /// How many of them, each with an address of its own.
    pub names: u32,
    /// Who is asked for them.
    pub resolver: SocketAddr,
    /// The proxy to go by.
    pub proxy: Option<SocketAddr>,
    /// The certificate that the servers have.
    pub certificate: std::path::PathBuf,
    /// How long it goes on before it is measured.
    pub warming: Duration,
    /// How long it is measured.
    pub measured: Duration,
    /// What to do.
    pub load: Load,
}

/// What to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Load {
    /// Receive as much as there comes; counts bytes.
    Download {
        /// Over this many connections at once.
        streams: usize,
    },
    /// Send as much as goes; counts bytes.
    Upload {
        /// Over this many connections at once.
        streams: usize,
    },
    /// Connect, ask for a little, read it, close; counts connections.
    Connections {
        /// This many at once.
        workers: usize,
    },
    /// Connect, shake hands, an octet there and back, close; counts connections.
    Handshakes {
        /// This many at once.
        workers: usize,
    },
    /// Connect, ask for a little and read it, so often a second, whatever the answers take.
    Latency {
        /// In a second.
        rate: u32,
    },
    /// Send datagrams of 64 octets as fast as they go; counts those that arrived.
    Datagrams,
    /// Ask for names that nobody asked for before, one after the other.
    Question,
    /// Ask for names that nobody asked for before, many at once; counts answers.
    Questions {
        /// Sockets to ask from.
        workers: usize,
        /// This many at once from each.
        at_once: usize,
    },
}

/// What came of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Told {
    /// Whom the server saw; of questions nobody.
    pub seen: Option<IpAddr>,
    /// What was counted.
    pub count: u64,
    /// For how long.
    pub seconds: f64,
    /// Seconds that the machine's processors were busy meanwhile, whoever had them.
    pub busy: f64,
    /// How long each thing took, where that was measured.
    pub times: Option<Times>,
}

/// How long things took, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// The middle one.
    pub p50: f64,
    /// All but one in a hundred.
    pub p99: f64,
    /// All but one in a thousand.
    pub p999: f64,
}

impl Told {
    /// How many a second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

/// Does what `ask` says, and prints what came of it.
///
/// # Errors
/// When it cannot be done.
pub fn run(ask: &str) -> Result<()> {
    let ask: Ask = serde_json::from_str(ask).context("cannot read what is asked")?;
    let told = match ask.load {
        Load::Question => questions::one_by_one(&ask)?,
        Load::Questions { workers, at_once } => questions::many(&ask, workers, at_once)?,
        Load::Datagrams => datagrams::run(&ask)?,
        over_tcp => {
            let way = Way::find(&ask)?;
            let seen = way.seen()?;
            let told = match over_tcp {
                Load::Upload { streams } => bulk::upload(&ask, &way, streams)?,
                Load::Connections { workers } => connections::run(&ask, &way, workers)?,
                Load::Handshakes { workers } => handshakes::run(&ask, &way, workers)?,
                Load::Latency { rate } => latency::run(&ask, &way, rate)?,
                Load::Download { streams } => bulk::download(&ask, &way, streams)?,
                Load::Datagrams | Load::Question | Load::Questions { .. } => unreachable!(),
            };
            Told {
                seen: Some(seen),
                ..told
            }
        }
    };
    println!("{}", serde_json::to_string(&told)?);
    Ok(())
}
