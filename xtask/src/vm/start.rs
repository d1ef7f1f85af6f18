//! Inside a guest: `steer run` with default settings, as its user would type it on a fresh host.
//!
//! What is printed has the form of libtest's output, so that one reader serves.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a start or an end may take where everything is emulated.
const PATIENCE: Duration = Duration::from_secs(120);
/// What steer prints once everything is attached.
const READY: &str = "ready ";
/// Where it pins its links.
const LINKS: &str = "/sys/fs/bpf/steer/links";
const LOG: &str = "/run/steer-start.log";

type Check = fn(&Path) -> Result<()>;
const CHECKS: &[(&str, Check)] = &[
    (
        "start::without_a_vpn_it_says_what_is_missing",
        without_a_vpn,
    ),
    (
        "start::with_a_vpn_and_docker_it_runs_and_leaves_nothing",
        with_a_vpn,
    ),
];

/// Starts `steer` in each way whose name contains one of `filter`; whether all went as they must.
pub fn run(steer: &Path, filter: &[String]) -> bool {
    let chosen = |name: &str| filter.is_empty() || filter.iter().any(|word| name.contains(word));
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in CHECKS.iter().filter(|(name, _)| chosen(name)) {
        match check(steer) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED\n---- {name} stdout ----\n{error:#}");
                failed += 1;
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    failed == 0
}

/// No VPN, no Docker: it has to end by itself, with a sentence.
fn without_a_vpn(steer: &Path) -> Result<()> {
    let before = host_state()?;
    let mut run = Run::start(steer)?;
    let status = run.wait()?;
    let said = Run::said();
    ensure!(!status.success(), "it ended well and said:\n{said}");
    ensure!(!said.contains("panicked"), "it panicked:\n{said}");
    ensure!(
        said.lines().any(|line| line.starts_with("steer: ")),
        "it ended with {status} and without a sentence:\n{said}"
    );
    same(&before, &host_state()?)
}

/// A VPN that is up, a daemon and a bridge of Docker's names: it has to run.
fn with_a_vpn(steer: &Path) -> Result<()> {
    for words in [
        "link add wg0 type wireguard",
        "address add 10.9.0.2/24 dev wg0",
        "address add fd09::2/64 dev wg0 nodad",
        "link set wg0 up",
        "link add docker0 type bridge",
        // Its address would come while steer runs.
        "link set docker0 addrgenmode none",
        "address add 172.17.0.1/16 dev docker0",
        "link set docker0 up",
    ] {
        output("ip", words)?;
    }
    let _daemon = Daemon::start()?;
    let before = host_state()?;
    let mut run = Run::start(steer)?;
    let begun = Instant::now();
    while !Run::said().lines().any(|line| line.starts_with(READY)) {
        if let Some(status) = run.0.try_wait()? {
            bail!("it ended before it was ready ({status}):\n{}", Run::said());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "it is not ready after {} s:\n{}",
            PATIENCE.as_secs(),
            Run::said()
        );
        thread::sleep(Duration::from_millis(100));
    }
    for line in Run::said().lines() {
        println!("fact: said {line}");
    }
    let (attach, pinned) = attachment()?;
    println!("fact: attach {attach}\nfact: pinned links {pinned}");

    kill(Pid::from_raw(i32::try_from(run.0.id())?), Signal::SIGTERM)?;
    let status = run.wait()?;
    let said = Run::said();
    ensure!(
        status.success(),
        "it ended badly at SIGTERM ({status}):\n{said}"
    );
    same(&before, &host_state()?)
}

/// How steer is attached to the bridge, and whose links are pinned.
fn attachment() -> Result<(&'static str, &'static str)> {
    let folder = fs::read_dir(LINKS).with_context(|| format!("{LINKS} cannot be read"))?;
    let pins: Vec<_> = folder
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let any = |kind: &str| pins.iter().any(|name| name.starts_with(kind));
    let attach = if any("bridge-") {
        "tcx"
    } else {
        let filters = output("tc", "filter show dev docker0 ingress")?;
        ensure!(
            filters.contains("bridge_ingress"),
            "nothing of it is attached to docker0:\n{filters}"
        );
        "clsact"
    };
    let pinned = match (any("bridge-"), any("cgroup-")) {
        (true, true) => "yes",
        (true, false) => "bridges only",
        (false, true) => "cgroups only",
        (false, false) => "no",
    };
    Ok((attach, pinned))
}

/// A process of dockerd's name in a cgroup of its own, where steer looks for one.
struct Daemon(Child);

impl Daemon {
    fn start() -> Result<Self> {
        let (program, group) = ("/tmp/dockerd", "/sys/fs/cgroup/docker.service");
        fs::copy("/bin/sleep", program).with_context(|| format!("{program} cannot be made"))?;
        fs::create_dir_all(group).with_context(|| format!("{group} cannot be made"))?;
        let daemon = Command::new(program)
            .arg("infinity")
            .spawn()
            .with_context(|| format!("{program} cannot be started"))?;
        let daemon = Self(daemon);
        fs::write(
            Path::new(group).join("cgroup.procs"),
            daemon.0.id().to_string(),
        )
        .with_context(|| format!("{program} cannot be moved to {group}"))?;
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `steer run`; dropping it kills it.
struct Run(Child);

impl Run {
    fn start(steer: &Path) -> Result<Self> {
        let log = File::create(LOG).with_context(|| format!("{LOG} cannot be written"))?;
        let child = Command::new(steer)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", steer.display()))?;
        Ok(Self(child))
    }

    fn said() -> String {
        fs::read_to_string(LOG).unwrap_or_default()
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "it does not end:\n{}",
                Self::said()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that steer changes on a host, as text.
fn host_state() -> Result<String> {
    let mut text = String::new();
    for (program, words) in [
        ("ip", "rule"),
        ("ip", "-6 rule"),
        ("ip", "route show table all"),
        ("ip", "-6 route show table all"),
        ("tc", "qdisc show"),
        ("nft", "list ruleset"),
        ("sysctl", "-e net.ipv4.conf.wg0.rp_filter"),
        ("ls", "-A /sys/fs/bpf"),
    ] {
        text += &format!("{program} {words}\n{}\n", output(program, words)?);
    }
    Ok(text)
}

fn same(before: &str, after: &str) -> Result<()> {
    let changed: Vec<_> = after
        .lines()
        .filter(|line| !before.lines().any(|it| it == *line))
        .map(|line| format!("+ {line}"))
        .chain(
            before
                .lines()
                .filter(|line| !after.lines().any(|it| it == *line))
                .map(|line| format!("- {line}")),
        )
        .collect();
    ensure!(
        changed.is_empty(),
        "it left the host changed:\n{}",
        changed.join("\n")
    );
    Ok(())
}

fn output(program: &str, words: &str) -> Result<String> {
    let output = Command::new(program)
        .args(words.split(' '))
        .output()
        .with_context(|| format!("{program} cannot be started"))?;
    ensure!(
        output.status.success(),
        "`{program} {words}` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
