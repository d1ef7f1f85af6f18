//! What SIGHUP means: that a terminal has gone, or that the rules are to be read again.

use std::fs::{self, File};

/// Whether this run ends with its terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    had: bool,
}

impl Terminal {
    /// How it stands at the start. Who ignores SIGHUP then, as `nohup` has it, outlives the terminal.
    pub fn at_start() -> Self {
        Self {
            had: is_there() && !ignores_hangup(),
        }
    }

    /// Whether the terminal that the run was started from has gone. The kernel takes it from all its processes before it
    /// sends them SIGHUP.
    pub fn has_gone(self) -> bool {
        self.had && !is_there()
    }
}

/// Whether there is a controlling terminal: without one, opening this fails.
fn is_there() -> bool {
    File::open("/dev/tty").is_ok()
}

fn ignores_hangup() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_ignored(&status))
}

/// Whether the mask of ignored signals in a `status` of proc has SIGHUP, the first.
fn is_ignored(status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_told_by_the_mask_of_ignored_signals() {
        assert!(is_ignored("Name:\tsteer\nSigIgn:\t0000000000001001\n"));
        assert!(!is_ignored("Name:\tsteer\nSigIgn:\t0000000000001000\n"));
        assert!(!is_ignored(""));
    }
}
