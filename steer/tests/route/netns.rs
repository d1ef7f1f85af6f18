//! A network namespace for one test: what runs on its thread is in it, and it goes with the thread.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Pid, gettid},
};

/// Runs a test on a thread of its own, in a network namespace of its own with `lo` up, on a runtime of its own.
pub fn run<F>(test: impl FnOnce() -> F + Send + 'static) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces and was not run: run it as root, or by `cargo xtask test`"
    );
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        ip("link set lo up")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(test())
    });
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Another network namespace, for as long as this lives, and its thread.
pub struct Namespace {
    jobs: Sender<Job>,
    thread: Pid,
}

impl Namespace {
    /// Makes one, with `lo` up.
    pub fn new() -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (ready, made) = channel();
        thread::spawn(move || {
            let result = unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace")
                .and_then(|()| ip("link set lo up"));
            let _ = ready.send(result.map(|_| gettid()));
            queue.into_iter().for_each(|job| job());
        });
        Ok(Self {
            jobs,
            thread: made.recv()??,
        })
    }

    /// Runs something in it.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = channel();
        let _ = self.jobs.send(Box::new(move || drop(done.send(job()))));
        result
            .recv()
            .context("the namespace's thread has panicked")?
    }

    /// Moves an interface of the caller's namespace into it.
    pub fn take(&self, interface: &str) -> Result<()> {
        ip(&format!("link set {interface} netns {}", self.thread)).map(drop)
    }
}

/// Runs a program and returns what it printed; failing is an error with what it said.
pub fn sh(program: &str, arguments: &str) -> Result<String> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs `ip` with these arguments.
pub fn ip(arguments: &str) -> Result<String> {
    sh("ip", arguments)
}

/// Adds an interface with a carrier and with addresses, and returns its index.
pub fn add_link(name: &str, addresses: &[&str]) -> Result<u32> {
    let peer = format!("{name}-peer");
    ip(&format!("link add {name} type veth peer name {peer}"))?;
    for end in [name, &peer] {
        ip(&format!("link set {end} addrgenmode none"))?;
        ip(&format!("link set {end} up"))?;
    }
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        ip(&format!("address add {address} dev {name} {nodad}"))?;
        if let Some((v6, _)) = address.split_once('/').filter(|(v6, _)| v6.contains(':')) {
            wait_for_local(v6)?;
        }
    }
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// The kernel adds an IPv6 address's own route a moment after the address.
fn wait_for_local(address: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ip("-6 route show table local")?.contains(&format!("local {address} ")) {
        ensure!(
            Instant::now() < deadline,
            "{address} got no local route within 10 seconds"
        );
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Value of an interface's `rp_filter`.
pub fn rp_filter(interface: &str) -> Result<String> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
    Ok(fs::read_to_string(&path).context(path)?.trim().to_owned())
}

/// Sets an interface's `rp_filter`.
pub fn set_rp_filter(interface: &str, value: u8) -> Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
    fs::write(&path, value.to_string()).context(path)
}

/// All that routing could have changed, as the tools print it.
pub fn snapshot(run_dir: &Path) -> Result<String> {
    let mut text = String::new();
    for arguments in [
        "rule",
        "-6 rule",
        "-details route show table all",
        "-6 -details route show table all",
    ] {
        text += &ip(arguments)?;
    }
    text += &sh("nft", "list ruleset")?;
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc/sys/net/ipv4/conf")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in names {
        text += &format!("{name} rp_filter {}\n", rp_filter(&name)?);
    }
    for entry in fs::read_dir(run_dir)? {
        text += &format!("{}\n", entry?.path().display());
    }
    Ok(text)
}

/// Panics with the lines that differ between two snapshots.
#[track_caller]
pub fn assert_same(before: &str, after: &str) {
    let more = |one: &str, than: &str| -> Vec<String> {
        let count = |text: &str, line: &str| text.lines().filter(|it| *it == line).count();
        let lines = one
            .lines()
            .filter(|line| count(one, line) > count(than, line));
        lines.map(str::to_owned).collect()
    };
    let (missing, new) = (more(before, after), more(after, before));
    assert!(
        before == after,
        "not as before: missing {missing:#?}, new {new:#?}, or in another order"
    );
}

/// Where the kernel would send a packet: the interface, or why nowhere.
pub fn way(arguments: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(["route", "get"])
        .args(arguments.split_whitespace())
        .output()?;
    if !output.status.success() {
        return Ok("refused".into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "dev");
    Ok(words
        .nth(1)
        .with_context(|| format!("no interface in {text}"))?
        .to_owned())
}
