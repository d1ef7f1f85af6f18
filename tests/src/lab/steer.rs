//! The steer binary, run in the box as on a real host.

use std::{
    env,
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    pty::openpty,
    sys::signal::{SigHandler, Signal, kill, signal},
    unistd::{Pid, setsid},
};

use super::{
    Lab, Ns,
    exec::{Ran, until},
};
use crate::pace::patience;

/// What steer prints once everything is attached.
const READY: &str = "ready";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A `steer run` in the box. Dropping it kills it, which leaves what it attached to the lab.
pub struct Steer {
    child: Child,
    log: PathBuf,
    config: Option<PathBuf>,
    terminal: Option<OwnedFd>,
}

impl Steer {
    /// All it has printed, both streams.
    pub fn output(&self) -> String {
        said(&self.log)
    }

    /// Its configuration file, if it has one.
    pub fn config(&self) -> Result<&Path> {
        self.config
            .as_deref()
            .context("this steer runs without a configuration file")
    }

    /// Asks it to read its files again.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Has it sleep, so that it notices nothing.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Has it wake.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Closes the terminal that [`Lab::steer_on_terminal`] gave it.
    pub fn close_terminal(&mut self) -> Result<()> {
        self.terminal.take().map(drop).context("it has no terminal")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready; an error if it ends before.
    pub fn wait_ready(&mut self) -> Result<()> {
        let limit = patience(READY_WITHIN);
        let (child, log) = (&mut self.child, &self.log);
        let mut ended = None;
        let over = until(limit, || {
            ended = child.try_wait().ok().flatten();
            ended.is_some() || said(log).lines().any(|line| line.contains(READY))
        });
        let what = match ended {
            Some(status) => format!("ended before it was ready ({status})"),
            None if over => return Ok(()),
            None => format!("is not ready after {} s", limit.as_secs()),
        };
        bail!("steer {what}:\n{}", self.output())
    }

    /// Waits until it has printed a line with this text.
    pub fn wait_said(&self, text: &str) -> Result<()> {
        let limit = patience(READY_WITHIN);
        let over = until(limit, || {
            said(&self.log).lines().any(|line| line.contains(text))
        });
        ensure!(
            over,
            "steer does not say \"{text}\" within {} s:\n{}",
            limit.as_secs(),
            self.output()
        );
        Ok(())
    }

    /// Fails if it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("steer ended ({status}):\n{}", self.output()),
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut ended = None;
        until(patience(READY_WITHIN), || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        ended.with_context(|| format!("steer does not end:\n{}", self.output()))
    }

    /// Asks it to end, and waits until it has; an error if it did not end well.
    pub fn terminate(mut self) -> Result<String> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait()?;
        let output = self.output();
        ensure!(
            status.success(),
            "steer ended badly on SIGTERM ({status}):\n{output}"
        );
        Ok(output)
    }

    /// Kills it: nothing of its own cleaning up runs.
    pub fn kill(mut self) -> Result<String> {
        self.signal(Signal::SIGKILL)?;
        self.wait()?;
        Ok(self.output())
    }

    /// Lets it outlive this process.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), signal).context("cannot signal steer: it has ended")
    }
}

impl Drop for Steer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lab {
    /// Starts `steer run` with a configuration in TOML, none if it is empty, and more `args`, and
    /// waits until it is ready.
    pub fn steer(&self, config: &str, args: &[&str]) -> Result<Steer> {
        let mut steer = self.steer_started(config, args, &[])?;
        steer.wait_ready()?;
        Ok(steer)
    }

    /// Starts `steer run` and does not wait. An `environment` is set for it, and has a debug build
    /// run, which alone listens to one.
    pub fn steer_started(
        &self,
        config: &str,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Steer> {
        self.steer_spawned(config, args, environment, false)
    }

    /// Starts `steer run` as a user does in a terminal, and waits until it is ready.
    pub fn steer_on_terminal(&self, config: &str) -> Result<Steer> {
        let mut steer = self.steer_spawned(config, &[], &[], true)?;
        steer.wait_ready()?;
        Ok(steer)
    }

    fn steer_spawned(
        &self,
        config: &str,
        args: &[&str],
        environment: &[(&str, &str)],
        on_terminal: bool,
    ) -> Result<Steer> {
        let log = self.unused("steer", "log");
        let output = File::create(&log)?;
        let binary = if environment.is_empty() {
            self.steer_binary()?
        } else {
            debug_steer()?
        };
        let mut command = self.steer_command(&binary, &["run"])?;
        let file = (!config.is_empty()).then(|| self.unused("steer", "toml"));
        if let Some(file) = &file {
            fs::write(file, config)?;
            command.arg("--config").arg(file);
        }
        command.args(args).envs(environment.iter().copied());
        let mut terminal = None;
        command.stdin(Stdio::null());
        if on_terminal {
            let pair = openpty(None, None).context("cannot make a terminal")?;
            fcntl(&pair.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            terminal = Some(pair.master);
            command.stdin(pair.slave);
            // SAFETY: between fork and exec these are system calls only.
            unsafe { command.pre_exec(take_terminal) };
        }
        let child = command
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start steer")?;
        Ok(Steer {
            child,
            log,
            config: file,
            terminal,
        })
    }

    /// Runs `steer cleanup`.
    pub fn steer_cleanup(&self) -> Result<Ran> {
        self.ask_steer(&["cleanup"])
    }

    /// Runs steer with these words, about the run of this lab.
    pub fn ask_steer(&self, words: &[&str]) -> Result<Ran> {
        Ran::of(&mut self.steer_asking(words)?)
    }

    /// The command that [`Self::ask_steer`] runs.
    pub fn steer_asking(&self, words: &[&str]) -> Result<Command> {
        self.steer_command(&self.steer_binary()?, words)
    }

    /// Runs lines of the shell in the box as root types them there: `steer` and, if the lab has one, `docker` are on the
    /// `PATH`, and `/etc` and the BPF file system are the session's own.
    pub fn session(&self, script: &str) -> Result<Ran> {
        const BEGIN: &str = r#"
            cp -a /etc/. "$OWN_ETC" && mount --bind "$OWN_ETC" /etc
            mount -t bpf bpf /sys/fs/bpf
        "#;
        let mut place = self.place(Ns::Box, &self.box_cgroup("steer")?);
        let own_etc = self.dir.join("etc-of-session");
        fs::create_dir_all(&own_etc)?;
        let steer = self.steer_binary()?;
        let folder = steer.parent().context("steer lies nowhere")?;
        let mut path = env::var("PATH").unwrap_or_default();
        if self.docker.is_some() {
            place.over.insert(0, self.private_run());
            place
                .over
                .push((self.dir.join("etc-docker"), "/etc/docker"));
        }
        let mut command = place.command("sh")?;
        if self.docker.is_some() {
            path = self.with_docker(&mut command)?;
        }
        command
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("OWN_ETC", own_etc);
        command.args(["-ec", &format!("{BEGIN}\n{script}")]);
        Ran::of(&mut command)
    }

    /// Runs `steer doctor --json` in the box, in a mount namespace that `prelude`, lines of the shell, has changed before.
    pub fn steer_doctor(&self, prelude: &str, args: &[&str]) -> Result<Ran> {
        let mut place = self.place(Ns::Box, &self.box_cgroup("steer")?);
        if self.docker.is_some() {
            place.over.insert(0, self.private_run());
        }
        let mut command = place.command("sh")?;
        command
            .args(["-ec", &format!("{prelude}\nexec \"$@\""), "doctor"])
            .arg(self.steer_binary()?)
            .args(["doctor", "--json"])
            .args(args);
        Ran::of(&mut command)
    }

    /// Octets of a value in a map of the lab's steer.
    pub fn octets_of_value(&self, map: &str) -> Result<usize> {
        let map = self.steer_bpffs().join(map).display().to_string();
        let shown = self.run(Ns::Box, &["bpftool", "-j", "map", "show", "pinned", &map])?;
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout()?)?;
        let octets = shown["bytes_value"].as_u64();
        Ok(octets.context("bpftool tells no size")?.try_into()?)
    }

    /// The pins of the steer that runs in this lab.
    pub fn steer_bpffs(&self) -> PathBuf {
        self.bpffs().join("steer")
    }

    fn steer_command(&self, binary: &Path, words: &[&str]) -> Result<Command> {
        let mut place = self.place(Ns::Box, &self.box_cgroup("steer")?);
        if self.docker.is_some() {
            place.over.insert(0, self.private_run());
        }
        let mut command = place.command(binary)?;
        command.args(words).arg("--bpffs").arg(self.steer_bpffs());
        command.arg("--run-dir").arg(self.dir.join("run"));
        Ok(command)
    }

    /// The binary that is run.
    pub fn steer_binary(&self) -> Result<PathBuf> {
        self.steer.clone().map_or_else(steer_binary, Ok)
    }

    fn unused(&self, stem: &str, extension: &str) -> PathBuf {
        let names = (0..).map(|number| self.dir.join(format!("{stem}-{number}.{extension}")));
        names
            .into_iter()
            .find(|file| !file.exists())
            .unwrap_or_default()
    }
}

/// Begins a session of its own, with the standard input for its terminal, and is told when that goes, though the tests
/// may not be (`nohup`).
pub(super) fn take_terminal() -> io::Result<()> {
    setsid()?;
    // SAFETY: no handler is installed, but one taken away.
    unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }?;
    // SAFETY: the file is open, and the call takes a number and no pointer.
    if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// A debug build of steer, whose start can be made to fail: `STEER_DEBUG_BIN`, else the one that
/// cargo built beside this program.
fn debug_steer() -> Result<PathBuf> {
    env::var_os("STEER_DEBUG_BIN").map_or_else(built_beside, |path| Ok(path.into()))
}

/// The binary under test when the lab was not given one: `STEER_BIN`, else as above.
fn steer_binary() -> Result<PathBuf> {
    env::var_os("STEER_BIN").map_or_else(built_beside, |path| Ok(path.into()))
}

fn built_beside() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir: &Path| dir.join("steer"))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            anyhow!(
                "no steer binary beside {}: build it by `cargo build -p steer`, or name one by \
                 STEER_BIN and a debug build by STEER_DEBUG_BIN",
                own.display()
            )
        })
}
