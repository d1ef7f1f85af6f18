//! Debian sid's Docker, unpacked beside the system.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Where it is kept.
pub const CACHE: &str = "/var/cache/steer";

/// Its root, in which `usr/sbin/dockerd` lies.
pub(super) fn folder(cache: &Path) -> PathBuf {
    cache.join("docker-sid")
}

/// Fetches Debian sid's Docker into `cache`, signatures checked, and returns the folder with
/// its binaries. Quick when it is already there.
pub fn fetch_sid_docker(_cache: &Path, _progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    bail!("sid's Docker cannot be fetched yet")
}
