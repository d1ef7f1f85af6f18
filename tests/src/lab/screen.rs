//! A program that draws on a whole terminal, and what can be seen there.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};

use super::{exec::until, steer::take_terminal};
use crate::pace::patience;

/// How long to wait for something to be seen.
const LIMIT: Duration = Duration::from_secs(20);

/// A program on a terminal of its own. Dropping it kills it.
pub struct Screen {
    child: Child,
    master: File,
    told: Arc<Mutex<Vec<u8>>>,
    size: (u16, u16),
}

impl Screen {
    /// Starts it on a terminal of so many columns and lines.
    pub fn start(mut command: Command, (columns, lines): (u16, u16)) -> Result<Self> {
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).context("cannot make a terminal")?;
        fcntl(&pair.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        command
            .stdin(pair.slave.try_clone()?)
            .stdout(pair.slave.try_clone()?)
            .stderr(Stdio::from(pair.slave));
        // SAFETY: between fork and exec these are system calls only.
        unsafe { command.pre_exec(take_terminal) };
        let child = command.spawn().context("cannot start the program")?;
        // Its ends of the terminal's other side.
        drop(command);
        let master = File::from(pair.master);
        let told: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut reader, log) = (master.try_clone()?, Arc::clone(&told));
        thread::spawn(move || {
            let mut octets = [0; 4096];
            // Ends when nobody has the other side any more.
            while let Ok(size @ 1..) = reader.read(&mut octets) {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.extend_from_slice(&octets[..size]);
            }
        });
        Ok(Self {
            child,
            master,
            told,
            size: (columns, lines),
        })
    }

    /// All that it has written, escapes too.
    pub fn written(&self) -> String {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&told).into_owned()
    }

    /// What is on the screen, line by line.
    pub fn seen(&self) -> String {
        picture(&self.written(), self.size)
    }

    /// Waits until something is on the screen, and does `meanwhile` again and again.
    pub fn wait_seen(&self, text: &str, mut meanwhile: impl FnMut() -> Result<()>) -> Result<()> {
        let mut failed = None;
        let seen = until(patience(LIMIT), || {
            failed = meanwhile().err();
            failed.is_some() || self.seen().contains(text)
        });
        match failed {
            Some(error) => Err(error),
            None if seen => Ok(()),
            None => bail!("\"{text}\" is not to be seen:\n{}", self.seen()),
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes())?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        Ok(())
    }

    /// Whether the terminal shows what is typed, line by line, as it does where no program has taken it over.
    pub fn is_plain(&self) -> Result<bool> {
        let wanted = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        Ok(tcgetattr(self.master.as_fd())?.local_flags.contains(wanted))
    }

    /// Waits until it has ended, and fails if the terminal is not as it was.
    pub fn wait_restored(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        let ended = until(patience(LIMIT), || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        ensure!(ended, "it goes on");
        ensure!(self.is_plain()?, "the terminal stays raw");
        let written = self.written();
        for (on, off) in [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")] {
            ensure!(
                written.rfind(off) > written.rfind(on),
                "the terminal is left as it was drawn on: {written:?}"
            );
        }
        status.context("no status")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows that was written this: cursor moves and erasures are followed, styles are not.
fn picture(written: &str, (columns, lines): (u16, u16)) -> String {
    let (columns, lines) = (usize::from(columns), usize::from(lines));
    let mut cells = vec![vec![' '; columns]; lines];
    let (mut line, mut column) = (0, 0);
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => {
                let mut parameters = String::new();
                let end = loop {
                    match letters.next() {
                        Some('[') => {}
                        Some(end) if end.is_ascii_alphabetic() => break end,
                        Some(other) => parameters.push(other),
                        None => return text(&cells),
                    }
                };
                let number = |at: usize| -> usize {
                    let number = parameters.split(';').nth(at);
                    number.and_then(|it| it.parse().ok()).unwrap_or(1)
                };
                match end {
                    'H' => (line, column) = (number(0) - 1, number(1) - 1),
                    'J' => cells = vec![vec![' '; columns]; lines],
                    _ => {}
                }
            }
            '\n' => line += 1,
            '\r' => column = 0,
            letter => {
                if let Some(cell) = cells.get_mut(line).and_then(|cells| cells.get_mut(column)) {
                    *cell = letter;
                }
                column += 1;
            }
        }
    }
    text(&cells)
}

fn text(cells: &[Vec<char>]) -> String {
    let lines = cells.iter().map(|cells| {
        let line: String = cells.iter().collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_over_is_not_seen() {
        let written = "\x1b[2J\x1b[1;1Hold\x1b[38;5;6m text\x1b[0m\x1b[2;3H×x\x1b[1;1Hnew";
        assert_eq!(picture(written, (10, 3)), "new text\n  ×x\n\n");
    }
}
