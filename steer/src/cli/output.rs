//! What a command prints, its log, and the one line of a failure.

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
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
