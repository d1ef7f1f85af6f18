//! Connections of processes: the programs are attached to a cgroup of the benchmark's, which connects.
//!
//! A test run takes no programs of this kind. So sockets connect, in a network namespace where packets lead to nobody: by the clock
//! beside sockets of a cgroup that nothing is attached to, and by the kernel's own counts for each program.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket},
};

use super::{ABOVE, EMPTY, STEER, measure as measured, turns};
use crate::{
    kernel::{DEVICE, Kernel, bpf},
    options::Options,
    report::model::Recorder,
};

/// Sockets that connect in a row.
const SOCKETS: usize = 256;
/// An address that no rule speaks of, and one that is known to be for the VPN.
const FREE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const STEERED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);

/// Measures them.
pub fn measure(kernel: &mut Kernel, options: &Options, recorder: &mut Recorder) -> Result<()> {
    let device = if_nametoindex(DEVICE).context("the interface of the benchmark is gone")?;
    // So that what connects by the VPN leaves by it.
    kernel.configured(|config| config.vpns[0].ifindex = device)?;
    kernel.knows([STEERED.into()].into_iter())?;
    let cgroups = Cgroups::new()?;
    kernel.datapath().attach_cgroup(&cgroups.attached)?;
    let done = within(kernel, &cgroups, options, recorder);
    let id = steer::datapath::cgroup_id(&cgroups.attached);
    if let Ok(id) = id {
        kernel.datapath().detach_cgroup(id);
    }
    done
}

fn within(
    kernel: &mut Kernel,
    cgroups: &Cgroups,
    options: &Options,
    recorder: &mut Recorder,
) -> Result<()> {
    let program = kernel.program("connect4")?;
    for (name, kind) in [("UDP", SockType::Datagram), ("TCP", SockType::Stream)] {
        for (what, address) in [("unmatched", FREE), ("by the VPN", STEERED)] {
            let (mut steer, mut empty) = (f64::MAX, f64::MAX);
            for _ in 0..turns(options).div_ceil(3) {
                cgroups.enter(&cgroups.free)?;
                empty = empty.min(connected(kind, address)?);
                cgroups.enter(&cgroups.attached)?;
                steer = steer.min(connected(kind, address)?);
                kernel.drain();
            }
            let title = format!("connect() of a process, {name}, {what}");
            let parts = [(STEER, steer), (EMPTY, empty), (ABOVE, steer - empty)];
            for (whose, nanoseconds) in parts {
                recorder.of_contender(&measured(&title), whose, nanoseconds);
            }

            let _statistics = bpf::enable_statistics()?;
            let mut least = f64::MAX;
            for _ in 0..turns(options).div_ceil(3) {
                let (runs, nanoseconds) = bpf::statistics(program.as_fd())?;
                connected(kind, address)?;
                let (more_runs, more) = bpf::statistics(program.as_fd())?;
                let runs = more_runs - runs;
                ensure!(runs >= SOCKETS as u64, "connections do not pass connect4");
                least = least.min((more - nanoseconds) as f64 / runs as f64);
                kernel.drain();
            }
            let title = format!("connect4 alone, by the kernel's count, {name}, {what}");
            recorder.of_contender(&measured(&title), STEER, least);
        }
    }
    Ok(())
}

/// Nanoseconds that one of many connections in a row takes.
fn connected(kind: SockType, address: Ipv4Addr) -> Result<f64> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let sockets: Vec<OwnedFd> = (0..SOCKETS)
        .map(|_| socket(AddressFamily::Inet, kind, flags, None))
        .collect::<Result<_, _>>()
        .context("a socket cannot be made")?;
    let to = SockaddrIn::from(SocketAddrV4::new(address, 443));
    let begin = Instant::now();
    let mut failed = None;
    for socket in &sockets {
        match connect(socket.as_raw_fd(), &to) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => failed = Some(error),
        }
    }
    let nanoseconds = begin.elapsed().as_nanos() as f64 / SOCKETS as f64;
    match failed {
        Some(error) => Err(error).context("a socket cannot connect"),
        None => Ok(nanoseconds),
    }
}

/// Two cgroups, of which this process is in one or the other, until it returns to its own.
struct Cgroups {
    own: PathBuf,
    attached: PathBuf,
    free: PathBuf,
}

impl Cgroups {
    fn new() -> Result<Self> {
        let root = steer_tests::lab::cgroup2()?;
        let told = fs::read_to_string("/proc/self/cgroup")?;
        let own = told.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = own.context("this process is in no cgroup of version 2")?;
        let made = |name: &str| {
            let cgroup = root.join(format!("steer-bench-{}-{name}", std::process::id()));
            fs::create_dir_all(&cgroup)
                .with_context(|| format!("cannot make the cgroup {}", cgroup.display()))?;
            Ok::<_, anyhow::Error>(cgroup)
        };
        Ok(Self {
            own: root.join(own),
            attached: made("attached")?,
            free: made("free")?,
        })
    }

    fn enter(&self, cgroup: &Path) -> Result<()> {
        let file = cgroup.join("cgroup.procs");
        fs::write(&file, std::process::id().to_string())
            .with_context(|| format!("cannot enter the cgroup {}", cgroup.display()))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let _ = self.enter(&self.own);
        for cgroup in [&self.attached, &self.free] {
            let _ = fs::remove_dir(cgroup);
        }
    }
}
