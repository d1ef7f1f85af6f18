//! A network namespace for what must not meet the host's own traffic.

use std::{process::Command, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};

/// The interface there, which leads to nobody.
pub const DEVICE: &str = "bench0";

/// Does this on a thread of its own in a network namespace of its own, with `lo` and [`DEVICE`] up and addresses on it.
///
/// # Errors
/// When the namespace cannot be made, and those of the work.
pub fn within<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("a network namespace cannot be made")?;
            prepare()?;
            work()
        });
        let done = there.join();
        done.map_err(|_| anyhow!("the work in a network namespace panicked"))?
    })
}

fn prepare() -> Result<()> {
    for line in [
        "link set lo up",
        &format!("link add {DEVICE} type veth peer name bench1"),
        &format!("addr add 198.18.0.1/15 dev {DEVICE}"),
        &format!("link set {DEVICE} arp off up"),
        "link set bench1 arp off up",
        &format!("route add default dev {DEVICE}"),
    ] {
        let status = Command::new("ip").args(line.split(' ')).status();
        let well = status.context("ip cannot be started")?.success();
        ensure!(well, "`ip {line}` failed");
    }
    Ok(())
}
