//! What steer and its users trip over on a host: what was found, why it matters, and the command that mends it.
//!
//! [`collect`] looks at the host once and makes plain [`Facts`] of it; each check is a pure function of these to a [`Finding`]. A [`Fix`] is
//! one of a few safe acts; a [`Journal`] keeps what was there before any of them, so that all can be taken back.

mod checks;
mod collect;
pub mod daemon_json;
mod facts;
mod finding;
mod fix;
mod journal;
mod ranges;

pub use self::{
    checks::{all, examine},
    collect::{Places, collect},
    facts::{Docker, Echo, Facts, Looked, Names, Resolver, Sysctls, System},
    finding::{Check, Finding, State},
    fix::{Fix, acts},
    journal::{Act, Journal, JournalError, Owner, Undone, put},
    ranges::{Proposal, propose},
};

use std::{fs, path::Path};

/// Docker's configuration file when no other is named.
pub const DAEMON_JSON: &str = "/etc/docker/daemon.json";
/// Where fixes are written down when nothing else is said.
pub const STATE_DIR: &str = "/var/lib/steer/doctor";

/// Does what the fixes say, or, where something fails, nothing. There is nothing written down where there are none.
///
/// # Errors
/// What failed.
pub fn mend(state_dir: &Path, fixes: &[Fix]) -> Result<(), JournalError> {
    let acts = acts(fixes)?;
    if acts.is_empty() {
        return Ok(());
    }
    let done = Journal::open(state_dir)?.apply(&acts).map(drop);
    if done.is_err() {
        // Where it was made for this.
        let _ = fs::remove_dir(state_dir);
    }
    done
}
