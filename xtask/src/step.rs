//! Steps that the user can watch: a spinner on a terminal, plain lines elsewhere.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, IsTerminal as _},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, how often a long step shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How much of a failed command's output the error quotes.
const QUOTED_LINES: usize = 200;
/// How long a command is silent before something else is done.
const MOMENT: Duration = Duration::from_millis(200);

/// Prints one finished fact.
pub fn note(line: &str) {
    eprintln!("  {line}");
}

/// Runs `command` to its end under the name `label`, showing its latest line of output while it runs.
///
/// # Errors
/// When it cannot be started or fails; the error quotes its last lines.
pub fn run(label: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let (status, tail) = attempt(label, command)?;

    let quote = || {
        tail.iter()
            .map(|line| format!("    {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    if !status.success() {
        bail!(
            "{label} failed: `{}` ended with {status}\n{}",
            render(command),
            quote()
        );
    }
    if tail.iter().any(|line| line.starts_with("warning")) {
        eprintln!("{}", quote());
    }
    note(&format!("{label}: done in {}", seconds(started.elapsed())));
    Ok(())
}

/// Runs `command` like [`run`], and leaves it to the caller to judge how it ended and what its last lines say.
///
/// # Errors
/// When it cannot be started.
pub fn attempt(label: &str, command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    let started = Instant::now();
    let progress = Progress::start(label);
    let mut tail = VecDeque::new();
    let status = follow(command, |line| match line {
        Some(line) if line.trim().is_empty() => {}
        Some(line) => {
            progress.show(line);
            tail.push_back(line.to_owned());
            if tail.len() > QUOTED_LINES {
                tail.pop_front();
            }
        }
        None => progress.beat(tail.back().map_or("", String::as_str), started.elapsed()),
    });
    progress.finish();
    let status = status.with_context(|| label.to_owned())?;
    Ok((status, tail.into()))
}

/// Does `work`, which runs no command that tells how it goes, under the name `label`.
///
/// # Errors
/// When the work fails.
pub fn during<T>(label: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let progress = Progress::start(label);
    let done = work();
    progress.finish();
    let done = done.with_context(|| format!("{label} failed"))?;
    note(&format!("{label}: done in {}", seconds(started.elapsed())));
    Ok(done)
}

/// Runs `command` with its output passed on as it comes, and shown line by line to `read` too.
///
/// # Errors
/// When it cannot be started.
pub fn stream(command: &mut Command, mut read: impl FnMut(&str)) -> Result<ExitStatus> {
    follow(command, |line| {
        if let Some(line) = line {
            println!("{line}");
            read(line);
        }
    })
}

/// Runs `command` and gives `each` every line that it prints, and `None` when it has been silent for a moment.
fn follow(command: &mut Command, mut each: impl FnMut(Option<&str>)) -> Result<ExitStatus> {
    let (reader, writer) = io::pipe().context("a pipe cannot be made")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("`{}` cannot be started", render(command)))?;
    // The command holds the writing ends; the pipe would never end while it does.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (lines, received) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(line).is_err() {
                break;
            }
        }
    });

    let mut ended = None;
    loop {
        match received.recv_timeout(MOMENT) {
            Ok(line) => each(Some(&line)),
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?),
            Err(RecvTimeoutError::Timeout) => {
                // What the command left running may hold the pipe open for ever; one more moment is for its last lines.
                if let Some(status) = ended {
                    return Ok(status);
                }
                ended = child.try_wait()?;
                each(None);
            }
        }
    }
}

/// A duration as people say it.
pub fn seconds(elapsed: Duration) -> String {
    let whole = elapsed.as_secs();
    if whole < 60 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// The command as it would be typed.
pub fn render(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    beats: std::cell::Cell<u64>,
}

impl Progress {
    fn start(label: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("  {spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            note(&format!("{label} …"));
        }
        Self {
            bar,
            label: label.to_owned(),
            beats: std::cell::Cell::new(0),
        }
    }

    fn show(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.to_owned());
        }
    }

    fn beat(&self, latest: &str, elapsed: Duration) {
        let beats = elapsed.as_secs() / HEARTBEAT.as_secs();
        if self.bar.is_none() && beats > self.beats.replace(beats) {
            note(&format!("{} … {}: {latest}", self.label, seconds(elapsed)));
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_quotes_what_was_printed() {
        let error = run("step", &mut shell("echo why >&2; exit 3"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("why") && error.contains("exit status: 3"),
            "{error}"
        );
    }

    #[test]
    fn what_a_command_leaves_running_is_not_waited_for() {
        let started = Instant::now();
        let mut lines = Vec::new();
        let status = stream(&mut shell("sleep 5 & echo last"), |line| {
            lines.push(line.to_owned())
        })
        .unwrap();
        assert!(status.success() && started.elapsed() < Duration::from_secs(4));
        assert_eq!(lines, ["last"]);
    }
}
