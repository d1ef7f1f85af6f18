//! What ends a run.

use std::{io, path::PathBuf};

use crate::{
    config::ConfigError, datapath, host::HostError, instance, relay, route, rules::HashCollision,
};

/// A failure that ends a run, or keeps it from beginning.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another run, or the folder of the run.
    #[error(transparent)]
    Instance(#[from] instance::Error),
    /// The host is not as the settings say.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The kernel's programs or maps.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// Rules, routes and what goes with them.
    #[error(transparent)]
    Route(#[from] route::Error),
    /// No key was found under which all names differ.
    #[error("the rules cannot be told apart by their hashes; please report this with the rules")]
    Collision(#[source] HashCollision),
    /// No randomness.
    #[error("/dev/urandom cannot be read, which the key of the rules comes from")]
    Random(#[source] io::Error),
    /// The programs' log cannot be read.
    #[error("the log of the kernel's programs cannot be read; leave out --log-bpf")]
    Log(#[source] aya_log::Error),
    /// The events of the programs cannot be waited for.
    #[error("the events of the kernel's programs cannot be waited for")]
    Events(#[source] io::Error),
    /// The sockets of processes cannot be listed.
    #[error(
        "the sockets of processes cannot be listed, so addresses are not kept for those that idle; does the kernel have tcp_diag?"
    )]
    Sockets(#[source] io::Error),
    /// Nobody can ask.
    #[error("the control socket {} cannot be made, so steer status and others will not find this run", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A question that was stopped.
    #[error(transparent)]
    Relay(#[from] relay::Error),
    /// Signals cannot be waited for.
    #[error("SIGINT and SIGTERM cannot be waited for")]
    Signals(#[source] io::Error),
    /// The configuration, read again, is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is learned is known by hashes under this key.
    #[error(
        "the rules cannot be told apart from each other by the key of this run; restart steer for another key"
    )]
    Rekeyed,
    /// Rules and scopes mean VPNs by their places.
    #[error(
        "the VPNs are others than those of this run, or in another order, and rules may mean them; restart steer to have the files in force"
    )]
    OtherVpns,
    /// A run that is gone on with had its VPNs in another order.
    #[error(
        "{interface} is the VPN {name} now, and was another's place in the run that is gone on with: its flows would take another VPN. Write the VPNs in the order of before, new ones behind the others, or end that run first by steer cleanup"
    )]
    Reordered {
        /// The interface.
        interface: String,
        /// The VPN's name now.
        name: String,
    },
    /// Reading the rules again ended in the midst.
    #[error("reading the rules again ended by a fault of steer's; please report it")]
    Reading(#[source] tokio::task::JoinError),
    /// A stage was made to fail.
    #[error("the stage {0} was made to fail by STEER_FAULT")]
    Fault(&'static str),
}
