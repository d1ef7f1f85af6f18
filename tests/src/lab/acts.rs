//! The three acts that `cargo xtask lab` shows, and the table they end with.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Result, bail};

use super::{DockerVersion, Tunnel};

/// What [`demo`] is to build and show.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The steer binary to show.
    pub steer: PathBuf,
    /// Which Docker pulls.
    pub docker: DockerVersion,
    /// Which tunnel is the VPN.
    pub tunnel: Tunnel,
    /// Leave the lab up, steer running in it, instead of removing it.
    pub keep: bool,
}

/// One act: what was tried, what came of it, and whether that was to be so.
#[derive(Clone, Debug)]
pub struct Act {
    /// The act's headline.
    pub title: String,
    /// The commands and what they printed, a line each.
    pub lines: Vec<String>,
    /// Whether it went as it must.
    pub passed: bool,
}

/// A host of the final table, as the servers saw it while steer ran.
#[derive(Clone, Debug)]
pub struct Row {
    /// The host's name.
    pub host: String,
    /// The client addresses its server saw.
    pub clients: Vec<IpAddr>,
    /// Bytes sent to the box's own address.
    pub direct: u64,
    /// Bytes sent to the VPN's address.
    pub vpn: u64,
}

/// Everything [`demo`] saw.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The three acts.
    pub acts: Vec<Act>,
    /// The table, a row a host.
    pub rows: Vec<Row>,
    /// How to enter the lab, when it was kept.
    pub enter: Option<String>,
}

impl Demo {
    /// Whether every act went as it must and no byte took a wrong path.
    pub fn passed(&self) -> bool {
        self.acts.iter().all(|act| act.passed)
    }

    /// The table as text, ready to print; the acts were shown while they ran.
    pub fn render(&self) -> String {
        String::new()
    }
}

/// Builds the lab and plays the three acts; `progress` gets a line as each step begins and
/// each act's lines as they come.
pub fn demo(_options: &DemoOptions, _progress: &mut dyn FnMut(&str)) -> Result<Demo> {
    bail!("the lab cannot be built yet")
}
