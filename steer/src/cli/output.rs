//! What a command prints, its log, and the one line of a failure.

use anstream::ColorChoice;
use anstyle::{AnsiColor, Effects, Style};
use anyhow::{Context, Result};
use std::borrow::Borrow;
use std::io::{self, Write as _};
use tracing_subscriber::EnvFilter;

/// Sends the log to standard error, at the level of `RUST_LOG` where it is set, else by how often `-v` was given. What the
/// kernel programs log comes whole: they were told how much.
pub fn set_up_log(verbose: u8) {
    let level = match verbose {
        0 | 1 => "warn,steer_ebpf=trace",
        2 => "warn,steer=debug,steer_ebpf=trace",
        _ => "info,steer=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A log that is already there is one of a test's.
    let _ = log.try_init();
}

/// The one line that a failure is told in.
pub fn error_line(error: &anyhow::Error) -> String {
    format!("steer: {error:#}")
}

/// Prints lines. Whoever reads them may stop before their end.
pub(super) fn print(lines: &[impl Borrow<str>]) -> Result<()> {
    let mut text = lines.join("\n");
    text.push('\n');
    write(&text)
}

/// Empties the terminal for what comes next.
pub(super) fn clear() -> Result<()> {
    write("\x1b[H\x1b[2J")
}

fn write(text: &str) -> Result<()> {
    let mut stdout = io::stdout();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        // As other programs end then, without a word.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.context("cannot write to standard output"),
    }
}

/// Text of others in one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether what is printed may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// On a terminal.
    Always,
    /// Elsewhere, and where `NO_COLOR` says so.
    Never,
}

impl Colour {
    /// As standard output and the environment want it.
    pub(super) fn of_output() -> Self {
        match anstream::AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => Self::Never,
            _ => Self::Always,
        }
    }

    /// What is well.
    pub(super) fn good(self, text: &str) -> String {
        self.styled(text, AnsiColor::Green.on_default())
    }

    /// What is not.
    pub(super) fn bad(self, text: &str) -> String {
        self.styled(text, AnsiColor::Red.on_default())
    }

    /// What is to be seen first.
    pub(super) fn strong(self, text: &str) -> String {
        self.styled(text, Style::new().effects(Effects::BOLD))
    }

    fn styled(self, text: &str, style: Style) -> String {
        match self {
            Self::Never => text.to_owned(),
            Self::Always => format!("{style}{text}{style:#}"),
        }
    }
}
