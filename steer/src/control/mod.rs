//! The control socket: HTTP with JSON on a Unix socket, by which a run is asked and told (`docs/control.md`).

mod access;
pub mod client;
pub mod query;
mod server;

use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

pub use client::Client;
pub use server::{Server, remove};

use crate::{
    inspect::{Snapshot, rules::Change},
    report::Reloaded,
};

/// The socket in the folder of the run.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// What only the run itself can do.
#[derive(Debug)]
pub enum Ask {
    /// To say what it knows.
    Snapshot(oneshot::Sender<Box<Snapshot>>),
    /// To have counted who has to do with whom, for a while.
    Watch(oneshot::Sender<()>),
    /// To read the rules again, at once.
    Reload(Answer),
    /// To take a rule in, or to let go of one that was taken in so.
    Change(Change, Answer),
}

/// Where the result of a reload goes: what it came to, or why the rules stay as they are.
pub type Answer = oneshot::Sender<Result<Reloaded, String>>;
