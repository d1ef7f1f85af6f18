//! One guest as a process: its lines, its time limits, its end.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use super::{interrupt, protocol::Event};

/// How often the limits are looked at.
const MOMENT: Duration = Duration::from_millis(200);
/// How many lines of a console are kept.
const KEPT: usize = 400;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the kernel's first line.
    pub first_line: Duration,
    /// Until the guest has booted.
    pub up: Duration,
    /// For the next sign of life once it has.
    pub silence: Duration,
    /// For all of it.
    pub total: Duration,
}

impl Limits {
    /// For a guest that is to go wrong.
    pub fn impatient(self) -> Self {
        Self {
            up: self.up.min(Duration::from_secs(90)),
            silence: self.silence.min(Duration::from_secs(15)),
            ..self
        }
    }
}

/// What comes from a guest.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// What it tells this harness.
    Event(Event),
    /// What a program in it printed.
    Line(String),
    /// Nothing has come for a moment.
    Nothing,
}

/// How a guest ended.
#[derive(Debug)]
pub enum End {
    /// It ran everything that it was to run.
    Done,
    /// It went wrong: a sentence without its full stop.
    Wrong(String),
    /// The user wanted no more.
    Interrupted,
}

/// The last lines of a guest's console.
#[derive(Debug, Default)]
pub struct Console(VecDeque<String>);

impl Console {
    fn push(&mut self, line: String) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    /// All lines that were kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The last `count` lines, or where the kernel panicked, as many as there are from its first complaint on.
    pub fn tail(&self, count: usize) -> Vec<String> {
        let end = self.0.len().saturating_sub(count);
        let complaint = self.0.iter().position(|line| {
            ["Kernel panic - ", "BUG: ", "Oops: "]
                .iter()
                .any(|word| line.contains(word))
        });
        let start = complaint.map_or(end, |first| first.saturating_sub(2).min(end));
        self.0.range(start..).cloned().collect()
    }

    fn panic(&self) -> Option<&str> {
        self.lines()
            .find_map(|line| line.split_once("Kernel panic - not syncing: "))
            .map(|(_, why)| why)
    }

    fn has_kernel(&self) -> bool {
        self.lines().any(|line| line.starts_with('['))
    }
}

/// Runs the guest that `command` starts, and gives `each` what comes from it; the console comes by the command's stderr.
///
/// Whatever happens, nothing of it runs any more afterwards.
///
/// # Errors
/// When it cannot be started.
pub fn run(
    command: &mut Command,
    limits: &Limits,
    mut each: impl FnMut(Said),
) -> Result<(End, Console)> {
    let mut group = Group::spawn(command)?;
    let (sender, received) = mpsc::channel();
    group.follow(sender);

    let started = Instant::now();
    let mut state = State {
        limits,
        up: false,
        done: false,
        heard: started,
        console: Console::default(),
    };
    let mut exited = false;
    let end = loop {
        let said = match received.recv_timeout(MOMENT) {
            Ok(line) => state.take(line),
            Err(RecvTimeoutError::Timeout) if exited => break state.ended(&group.end()?),
            Err(RecvTimeoutError::Timeout) => Some(Said::Nothing),
            Err(RecvTimeoutError::Disconnected) => break state.ended(&group.wait(MOMENT)?),
        };
        if let Some(said) = said {
            each(said);
        }
        exited = exited || group.has_exited();
        if interrupt::happened() {
            break End::Interrupted;
        }
        if !exited && let Some(why) = state.overdue(started.elapsed()) {
            break End::Wrong(why);
        }
    };
    group.end()?;
    Ok((end, state.console))
}

struct State<'a> {
    limits: &'a Limits,
    up: bool,
    done: bool,
    heard: Instant,
    console: Console,
}

impl State<'_> {
    fn take(&mut self, line: Line) -> Option<Said> {
        match line {
            Line::Console(line) => {
                self.console.push(line);
                None
            }
            Line::Program(line) => {
                self.heard = Instant::now();
                let Some(event) = Event::read(&line) else {
                    return Some(Said::Line(line));
                };
                self.up = true;
                self.done |= event == Event::Done;
                Some(Said::Event(event))
            }
        }
    }

    /// What the guest has taken too long for.
    fn overdue(&self, elapsed: Duration) -> Option<String> {
        let limits = self.limits;
        let seconds = |limit: Duration| limit.as_secs();
        if !self.up && elapsed > limits.first_line && !self.console.has_kernel() {
            return Some(format!(
                "the kernel printed nothing within {} s",
                seconds(limits.first_line)
            ));
        }
        if !self.up && elapsed > limits.up {
            return Some(format!(
                "the guest did not boot within {} s: nothing came from its user space",
                seconds(limits.up)
            ));
        }
        if self.up && self.heard.elapsed() > limits.silence {
            return Some(format!(
                "the guest hangs: nothing has come from it for {} s",
                seconds(limits.silence)
            ));
        }
        (elapsed > limits.total).then(|| {
            format!(
                "the guest was not through after {} s in all",
                seconds(limits.total)
            )
        })
    }

    /// What it means that the guest ended by itself.
    fn ended(&self, status: &ExitStatus) -> End {
        if self.done {
            return End::Done;
        }
        End::Wrong(match self.console.panic() {
            Some(why) => format!("the kernel panicked: {why}"),
            None if self.up => format!("the guest went down before it was through ({status})"),
            None if self.console.has_kernel() => {
                format!("the guest went down before it had booted ({status})")
            }
            None => format!("the guest could not be started ({status})"),
        })
    }
}

enum Line {
    Program(String),
    Console(String),
}

/// A child that leads a process group of its own; all of the group is killed when this is dropped.
struct Group {
    child: Child,
    id: Pid,
    ended: Option<ExitStatus>,
}

impl Group {
    fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            // Pipes: QEMU opens them anew, and would write a file from its beginning each time.
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        let id = Pid::from_raw(i32::try_from(child.id())?);
        Ok(Self {
            child,
            id,
            ended: None,
        })
    }

    fn follow(&mut self, lines: Sender<Line>) {
        if let Some(stdout) = self.child.stdout.take() {
            follow(stdout, lines.clone(), Line::Program);
        }
        if let Some(stderr) = self.child.stderr.take() {
            follow(stderr, lines, Line::Console);
        }
    }

    /// Whether the child has exited; it is left unreaped, so that its id stays that of its group.
    fn has_exited(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(
            waitid(Id::Pid(self.id), flags),
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
        )
    }

    /// Gives the child that long to exit by itself.
    fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while !self.has_exited() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.end()
    }

    /// Kills what is left of the group.
    fn end(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        // No such group: nothing is left.
        let _ = killpg(self.id, Signal::SIGKILL);
        let status = self
            .child
            .wait()
            .context("the guest cannot be waited for")?;
        self.ended = Some(status);
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn follow(stream: impl Read + Send + 'static, lines: Sender<Line>, kind: fn(String) -> Line) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(kind(line)).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        first_line: Duration::from_secs(1),
        up: Duration::from_secs(2),
        silence: Duration::from_secs(1),
        total: Duration::from_secs(4),
    };
    const UP: &str = r#"echo '@steer {"event":"up","release":"6.1"}'"#;
    const DONE: &str = r#"echo '@steer {"event":"done"}'"#;

    fn guest(script: &str) -> (End, Console, Vec<Said>) {
        let mut said = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let (end, console) = run(&mut command, &LIMITS, |it| said.push(it)).unwrap();
        said.retain(|it| *it != Said::Nothing);
        (end, console, said)
    }

    fn wrong(script: &str) -> String {
        match guest(script) {
            (End::Wrong(why), ..) => why,
            (end, ..) => panic!("{end:?}"),
        }
    }

    #[test]
    fn a_guest_is_through_when_it_says_so() {
        let (end, console, said) = guest(&format!("echo '[ 0.0] Linux' >&2; {UP}; echo x; {DONE}"));
        assert!(matches!(end, End::Done), "{end:?}");
        assert_eq!(console.tail(30), ["[ 0.0] Linux"]);
        let release = "6.1".to_owned();
        assert_eq!(
            said,
            [
                Said::Event(Event::Up { release }),
                Said::Line("x".to_owned()),
                Said::Event(Event::Done)
            ]
        );
    }

    #[test]
    fn a_guest_that_goes_down_early_tells_why() {
        assert!(wrong(&format!("{UP}; exit 3")).contains("before it was through"));
        assert!(wrong("echo '[ 0.0] Linux' >&2").contains("before it had booted"));
        assert!(wrong("echo 'no such machine' >&2; exit 1").contains("could not be started"));
        let script = format!("{UP}; echo '[ 9.1] Kernel panic - not syncing: sysrq' >&2; exit 255");
        assert_eq!(wrong(&script), "the kernel panicked: sysrq");
    }

    #[test]
    fn a_guest_that_prints_nothing_is_given_up() {
        assert!(wrong("sleep 60").contains("printed nothing within 1 s"));
        assert!(wrong("echo '[ 0.0] Linux' >&2; sleep 60").contains("not boot within 2 s"));
        assert!(wrong(&format!("{UP}; sleep 60")).contains("hangs"));
        let beats = format!("{UP}; while :; do echo; sleep 0.2; done");
        assert!(wrong(&beats).contains("not through after 4 s"));
    }

    #[test]
    fn console_lines_are_no_sign_of_life() {
        let script = format!("{UP}; while :; do echo '[ 9] stall' >&2; sleep 0.2; done");
        assert!(wrong(&script).contains("hangs"));
    }

    #[test]
    fn nothing_of_a_guest_outlives_it() {
        for last in ["exit 0", "sleep 60"] {
            let (_, _, said) = guest(&format!("echo $$; sleep 60 & {last}"));
            let Some(Said::Line(id)) = said.first() else {
                panic!("{said:?}")
            };
            let group = Pid::from_raw(id.parse().unwrap());
            let gone = (0..50).any(|_| {
                thread::sleep(Duration::from_millis(100));
                killpg(group, None).is_err()
            });
            assert!(gone, "something is left of the process group {group}");
        }
    }

    #[test]
    fn the_tail_of_a_panic_begins_before_its_first_line() {
        let mut console = Console::default();
        for number in 0..500 {
            console.push(format!("line {number}"));
        }
        assert_eq!(console.lines().count(), KEPT);
        assert_eq!(console.tail(2), ["line 498", "line 499"]);
        console.push("[1] BUG: kernel NULL pointer".to_owned());
        for number in 0..40 {
            console.push(format!("frame {number}"));
        }
        let tail = console.tail(30);
        assert_eq!(tail[0], "line 498");
        assert_eq!(tail.len(), 43);
    }
}
