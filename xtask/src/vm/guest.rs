//! Inside a guest: makes it ready, runs the plan's groups one after the other, and tells the host.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        signal::{Signal, killpg},
        utsname::uname,
    },
    unistd::Pid,
};

use super::protocol::{Breakage, Ending, Event, Group, Plan};
use crate::system;

/// How often the host hears that the guest is alive.
const BEAT: Duration = Duration::from_secs(5);
/// How long a group may print no line: a test that takes longer will not end.
const QUIET: Duration = Duration::from_secs(300);
/// How often a group's time limits are looked at.
const MOMENT: Duration = Duration::from_millis(200);
/// Modules that nothing loads by itself when the tests ask for what they bring.
const MODULES: [&str; 1] = ["tun"];
/// vng gives none, and the folders of root's programs are needed.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the plan in `file`.
///
/// # Errors
/// When this is no guest, or it cannot be made ready.
pub fn run(file: &Path) -> Result<()> {
    let plan = Plan::read(file)?;
    prepare()?;
    if plan.fault == Some(Breakage::Silent) {
        sleep_forever();
    }
    let release = uname()?.release().to_string_lossy().into_owned();
    Event::Up { release }.print();

    let doing = Doing::default();
    if plan.fault != Some(Breakage::Hang) {
        let doing = doing.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(BEAT);
                Event::Beat { doing: doing.get() }.print();
            }
        });
    }
    for group in &plan.groups {
        Event::Begin {
            group: group.name.clone(),
        }
        .print();
        match plan.fault {
            Some(Breakage::Panic) => fs::write("/proc/sysrq-trigger", "c")?,
            Some(Breakage::Hang | Breakage::Silent) => sleep_forever(),
            None => {}
        }
        let started = Instant::now();
        let ending = run_group(group, &doing);
        Event::End {
            seconds: started.elapsed().as_secs_f64(),
            ending,
        }
        .print();
    }
    Event::Done.print();
    Ok(())
}

/// Makes the guest what a host is by the time that steer is started.
fn prepare() -> Result<()> {
    let words = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    ensure!(
        words.contains("virtme"),
        "this is no guest of `cargo xtask vm`, and is left as it is"
    );
    mount(
        Some("bpf"),
        "/sys/fs/bpf",
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("the bpf file system cannot be mounted at /sys/fs/bpf")?;
    // It gives the tests' interfaces addresses of its own choice, and takes time for each.
    system::output(Command::new("udevadm").args(["control", "--exit"]));
    for module in MODULES {
        if system::output(Command::new("modprobe").arg(module)).is_none() {
            bail!("the module {module} cannot be loaded: is it among those of this kernel?");
        }
    }
    Ok(())
}

fn run_group(group: &Group, doing: &Doing) -> Ending {
    let mut command = Command::new(&group.program);
    command
        .args(&group.arguments)
        .current_dir(&group.directory)
        .env("PATH", PATH)
        .env("HOME", "/tmp")
        .env("STEER_LAB_TUNNEL", "wireguard")
        .env("STEER_TEST_NAMES", "2000");
    let limits = Limits {
        total: Duration::from_secs(group.limit),
        quiet: QUIET,
    };
    supervise(&mut command, limits, doing, &mut |line| {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    })
    .unwrap_or_else(|error| Ending::Badly(format!("{error:#}")))
}

#[derive(Clone, Copy)]
struct Limits {
    total: Duration,
    quiet: Duration,
}

/// Runs a command in a process group of its own, which is killed when a limit is over; `each` gets its lines.
fn supervise(
    command: &mut Command,
    limits: Limits,
    doing: &Doing,
    each: &mut dyn FnMut(&str),
) -> Result<Ending> {
    let (mut reader, writer) = io::pipe().context("a pipe cannot be made")?;
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    // The command holds the writing ends; the pipe would never end while it does.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (lines, received) = mpsc::channel();
    let shown = doing.clone();
    thread::spawn(move || {
        let mut pending = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            pending.extend_from_slice(&chunk[..count]);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                shown.set(&line);
                if lines.send(line).is_err() {
                    return;
                }
            }
            // libtest names a test before it runs it, and ends the line afterwards.
            if !pending.is_empty() {
                shown.set(&String::from_utf8_lossy(&pending));
            }
        }
    });

    let started = Instant::now();
    let mut heard = started;
    let mut status = None;
    loop {
        match received.recv_timeout(MOMENT) {
            Ok(line) => {
                heard = Instant::now();
                each(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            // What it left running holds the pipe open.
            Err(RecvTimeoutError::Timeout) if status.is_some() => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if status.is_none() {
            status = child.try_wait()?;
        }
        if started.elapsed() > limits.total || heard.elapsed() > limits.quiet {
            let doing = doing.get();
            end(&mut child);
            while let Ok(line) = received.recv_timeout(MOMENT) {
                each(&line);
            }
            return Ok(Ending::Overdue { doing });
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait()?,
    };
    end(&mut child);
    Ok(if status.success() {
        Ending::Well
    } else {
        Ending::Badly(format!("ended with {status}"))
    })
}

/// Kills whatever is left of the child's process group.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // No such group: nothing is left.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
}

fn sleep_forever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// The latest line.
#[derive(Debug, Clone, Default)]
struct Doing(Arc<Mutex<String>>);

impl Doing {
    fn get(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, line: &str) {
        if !line.trim().is_empty() {
            line.trim()
                .clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LIMITS: Limits = Limits {
        total: PATIENCE,
        quiet: PATIENCE,
    };

    fn run(script: &str, limits: Limits) -> (Ending, Vec<String>) {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let ending = supervise(&mut command, limits, &Doing::default(), &mut |line| {
            lines.push(line.to_owned())
        });
        (ending.unwrap(), lines)
    }

    #[test]
    fn a_group_ends_as_its_program_does() {
        assert_eq!(
            run("echo one; echo two >&2", LIMITS),
            (Ending::Well, vec!["one".to_owned(), "two".to_owned()])
        );
        assert_eq!(
            run("exit 101", LIMITS).0,
            Ending::Badly("ended with exit status: 101".to_owned())
        );
    }

    #[test]
    fn a_group_that_takes_too_long_is_killed_with_all_it_started() {
        let second = Duration::from_secs(1);
        let total = Limits {
            total: second,
            ..LIMITS
        };
        let quiet = Limits {
            quiet: second,
            ..LIMITS
        };
        for limits in [total, quiet] {
            let started = Instant::now();
            let script = "echo $$; printf 'test slow ... '; sleep 60 & sleep 60";
            let (ending, lines) = run(script, limits);
            let doing = "test slow ...".to_owned();
            assert_eq!(ending, Ending::Overdue { doing });
            assert!(started.elapsed() < PATIENCE);
            let group = Pid::from_raw(lines[0].parse().unwrap());
            let gone = (0..50).any(|_| {
                thread::sleep(Duration::from_millis(100));
                killpg(group, None).is_err()
            });
            assert!(gone, "something is left of the process group {group}");
        }
    }

    #[test]
    fn a_group_may_take_long_while_it_prints() {
        let limits = Limits {
            quiet: Duration::from_secs(2),
            ..LIMITS
        };
        let (ending, lines) = run("for i in 1 2 3; do sleep 1; echo $i; done", limits);
        assert_eq!((ending, lines.len()), (Ending::Well, 3));
    }

    #[test]
    fn what_a_group_leaves_running_is_not_waited_for() {
        let started = Instant::now();
        assert_eq!(
            run("sleep 60 & echo last", LIMITS),
            (Ending::Well, vec!["last".to_owned()])
        );
        assert!(started.elapsed() < PATIENCE);
    }
}
