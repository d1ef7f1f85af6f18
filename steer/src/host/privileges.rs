//! What a run may do, given up as far as it does not need it.

use std::collections::HashSet;

use caps::{CapSet, Capability, errors::CapsError};
use nix::errno::Errno;

/// What steer needs from its start to its end.
pub const KEPT: [Capability; 6] = [
    // Maps and programs, and what the verifier allows them.
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    // Routes, rules, nftables, attaching, marks, destroying sockets.
    Capability::CAP_NET_ADMIN,
    // Packets that are held or reset.
    Capability::CAP_NET_RAW,
    // The network namespaces of dockerd and containerd.
    Capability::CAP_SYS_PTRACE,
    // Configuration and lists, wherever the user keeps them.
    Capability::CAP_DAC_READ_SEARCH,
];

/// Why they were not given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The capabilities are as they were, or some of them.
    #[error("cannot give up the capabilities that a run does not need")]
    Capabilities(#[from] CapsError),
    /// Programs that it starts could gain some.
    #[error("cannot give up gaining privileges by programs that are started (PR_SET_NO_NEW_PRIVS)")]
    NoNewPrivileges(#[from] Errno),
}

/// Gives up every capability but those, for this thread, all that it starts and `nft`. To be called while there is one
/// thread.
///
/// # Errors
/// When the kernel refuses.
pub fn give_up() -> Result<(), Error> {
    let mut kept: HashSet<Capability> = KEPT.into();
    // Who was given the old, larger capability in place of the two needs it.
    for capability in [Capability::CAP_BPF, Capability::CAP_PERFMON] {
        if !caps::has_cap(None, CapSet::Effective, capability)? {
            kept.insert(Capability::CAP_SYS_ADMIN);
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    // Only who has this may lower the bound; who has not has little to lose.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::all() {
            if !kept.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        let has = caps::read(None, set)?;
        caps::set(None, set, &has.intersection(&kept).copied().collect())?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}
