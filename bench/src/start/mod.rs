//! The daemon: how long it takes to steer, and to take other rules over, by how many there are; its memory; what it does when
//! nothing happens.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _, pipe},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use steer_tests::lab::{Lab, Ns};

use crate::{
    options::Options,
    report::model::{Better, Measure, Recorder},
};

/// The group.
pub const NAMES: &[&str] = &[NAME];
const NAME: &str = "start";
/// A bridge in the box.
const BRIDGE: &str = "br-bench";
/// What steer prints once everything is attached.
const READY: &str = "ready";

/// Measures it.
///
/// # Errors
/// When steer does not do as it should.
pub fn run(options: &Options, recorder: &mut Recorder) -> Result<()> {
    let lab = Lab::builder().steer(&options.steer).up()?;
    lab.shell(
        Ns::Box,
        &format!("ip link add {BRIDGE} type bridge; ip link set {BRIDGE} up"),
    )?;
    lab.box_cgroup("steered")?;
    let sizes: &[u64] = match options.quick {
        true => &[10, 1_000],
        false => &[10, 100, 1_000, 10_000, 100_000, 1_000_000],
    };
    for _ in 0..options.rounds() {
        by_preset(&lab, options, recorder)?;
        for &size in sizes {
            by_list(&lab, size, recorder)?;
        }
    }
    Ok(())
}

/// With the preset for Docker Hub.
fn by_preset(lab: &Lab, options: &Options, recorder: &mut Recorder) -> Result<()> {
    let config = lab.dir().join("preset.toml");
    fs::write(&config, text(lab, "presets = [\"docker-hub\"]"))?;
    let steer = Daemon::start(lab, &config)?;
    let mut add = |what: &str, title: &str, unit, value| {
        recorder.add(&measure(what, title, unit), None, None, value);
    };
    let took = steer.took.as_secs_f64() * 1e3;
    add(
        "preset",
        "from the start to steering, with the preset",
        "ms",
        took,
    );
    // What is done once after the start is over by then.
    thread::sleep(Duration::from_secs(1));
    let idle = Duration::from_secs(if options.quick { 2 } else { 10 });
    let before = steer.busy()?;
    thread::sleep(idle);
    let share = (steer.busy()? - before) / idle.as_secs_f64() * 100.0;
    add("idle", "processor time while nothing happens", "%", share);
    let resident = steer.memory("VmRSS:")?;
    add(
        "resident",
        "resident memory with the preset",
        "MiB",
        resident,
    );
    let own = steer.memory("RssAnon:")?;
    add("own", "of that its own, the rest is its file's", "MiB", own);
    steer.end()
}

/// With a list of so many rules.
fn by_list(lab: &Lab, size: u64, recorder: &mut Recorder) -> Result<()> {
    let (config, list) = (lab.dir().join("list.toml"), lab.dir().join("list.txt"));
    write_list(&list, size, "example")?;
    let rules = format!(
        "presets = []\nlists = [{{ path = \"{}\" }}]",
        list.display()
    );
    fs::write(&config, text(lab, &rules))?;
    let steer = Daemon::start(lab, &config)?;
    let mut add = |what: &str, title: &str, unit, value| {
        recorder.add(&measure(what, title, unit), None, Some(size), value);
    };
    let took = steer.took.as_secs_f64();
    add("start", "from the start to steering", "s", took);
    add("memory", "resident memory", "MiB", steer.memory("VmRSS:")?);
    add("peak", "most of it at once", "MiB", steer.memory("VmHWM:")?);

    // All others.
    write_list(&list, size, "test")?;
    let begin = Instant::now();
    lab.ask_steer(&["reload"])?
        .stdout()
        .context("`steer reload` failed")?;
    let took = begin.elapsed().as_secs_f64();
    add("reload", "steer reload", "s", took);
    steer.end()
}

fn measure(what: &str, title: &str, unit: &'static str) -> Measure {
    Measure {
        group: NAME,
        what: what.to_owned(),
        title: title.to_owned(),
        unit,
        better: Better::Lower,
    }
}

/// A configuration with these rules.
fn text(lab: &Lab, rules: &str) -> String {
    format!(
        "[vpn]\ninterface = \"{}\"\n\
         [attach]\ncgroups = [\"{}\"]\nbridges = [\"{BRIDGE}\"]\ndocker = \"off\"\n\
         [rules]\n{rules}\n\
         [dns]\nresolve = false\n",
        lab.tunnel_interface(),
        lab.cgroup().join("steered").display(),
    )
}

/// A list of names, as long as those of lists that people keep.
fn write_list(file: &Path, size: u64, domain: &str) -> Result<()> {
    let mut text = Vec::with_capacity(size as usize * 32);
    for number in 0..size {
        writeln!(text, "host{number}.zone{:03}.{domain}", number % 997)?;
    }
    // At once, so that nobody reads a part.
    let whole = file.with_extension("new");
    fs::write(&whole, text)?;
    fs::rename(&whole, file).with_context(|| format!("cannot write {}", file.display()))
}

/// A `steer run` that steers. Dropping it kills it.
struct Daemon {
    child: Child,
    took: Duration,
    files: PathBuf,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    fn start(lab: &Lab, config: &Path) -> Result<Self> {
        let mut command = lab.steer_asking(&["run"])?;
        let (reader, writer) = pipe()?;
        command.arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?);
        command.stderr(writer);
        let begin = Instant::now();
        let child = command.spawn().context("steer cannot be started")?;
        let mut daemon = Self {
            files: Path::new("/proc").join(child.id().to_string()),
            child,
            took: Duration::ZERO,
        };
        // It holds the other end of the pipe.
        drop(command);
        let mut said = String::new();
        let mut lines = BufReader::new(reader).lines();
        for line in &mut lines {
            let line = line?;
            if line.contains(READY) {
                daemon.took = begin.elapsed();
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        if daemon.took == Duration::ZERO {
            bail!("steer ended before it was ready:\n{said}");
        }
        // Somebody has to read on.
        thread::spawn(move || lines.for_each(drop));
        Ok(daemon)
    }

    /// Seconds of processor time that it has taken so far.
    fn busy(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.files.join("stat"))?;
        let (_, fields) = stat
            .rsplit_once(')')
            .context("stat is not as it should be")?;
        // Behind the name, the twelfth and thirteenth: those in user space and in the kernel.
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
        let second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel's ticks are unknown")?;
        Ok(ticks as f64 / second as f64)
    }

    /// A line of its `status`, in MiB.
    fn memory(&self, which: &str) -> Result<f64> {
        let status = fs::read_to_string(self.files.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib = kib.with_context(|| format!("the kernel does not tell {which}"))?;
        Ok(kib.trim().parse::<f64>()? / 1024.0)
    }

    /// Ends it well.
    fn end(mut self) -> Result<()> {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("steer ended badly ({status})");
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
