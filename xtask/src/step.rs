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
const QUOTED_LINES: usize = 40;

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
    let (reader, writer) = io::pipe().context("a pipe cannot be made")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .with_context(|| format!("{label}: `{program}` cannot be started"))?;
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

    let progress = Progress::start(label);
    let mut tail = VecDeque::new();
    let status = loop {
        match received.recv_timeout(Duration::from_millis(200)) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                progress.show(&line);
                tail.push_back(line);
                if tail.len() > QUOTED_LINES {
                    tail.pop_front();
                }
            }
            Err(RecvTimeoutError::Disconnected) => break child.wait()?,
            // A service left behind by the command may hold the pipe open for ever.
            Err(RecvTimeoutError::Timeout) => {
                progress.beat(tail.back().map_or("", String::as_str), started.elapsed());
                if let Some(status) = child.try_wait()? {
                    break status;
                }
            }
        }
    };
    progress.finish();

    if !status.success() {
        let quoted: Vec<String> = tail.iter().map(|line| format!("    {line}")).collect();
        bail!(
            "{label} failed: `{}` ended with {status}\n{}",
            render(command),
            quoted.join("\n")
        );
    }
    if tail.iter().any(|line| line.starts_with("warning")) {
        tail.iter().for_each(|line| eprintln!("    {line}"));
    }
    note(&format!("{label}: done in {}", seconds(started.elapsed())));
    Ok(())
}

/// Runs `command` with its output passed on as it comes, and shown line by line to `read` too.
///
/// # Errors
/// When it cannot be started.
pub fn stream(command: &mut Command, mut read: impl FnMut(&str)) -> Result<ExitStatus> {
    let (reader, writer) = io::pipe().context("a pipe cannot be made")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("`{}` cannot be started", render(command)))?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        read(&line);
    }
    Ok(child.wait()?)
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
