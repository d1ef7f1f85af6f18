//! Running commands in a namespace and a cgroup of the lab.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// Where a command runs.
pub(super) struct Place {
    /// The network namespace, a file such as `/run/netns/NAME`.
    pub netns: PathBuf,
    /// The cgroup, a folder under the cgroup2 mount.
    pub cgroup: PathBuf,
    /// Files to lay over others, in a mount namespace of the command's own.
    pub over: Vec<(PathBuf, &'static str)>,
    /// The bundle of certificates that the command trusts.
    pub certificates: Option<PathBuf>,
}

impl Place {
    /// A command that will run here. Sockets, routes and cgroup are the lab's; files are the
    /// machine's, except those laid over.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let netns = File::open(&self.netns)
            .with_context(|| format!("cannot open the namespace {}", self.netns.display()))?;
        let procs = self.cgroup.join("cgroup.procs");
        let procs = OpenOptions::new()
            .write(true)
            .open(&procs)
            .with_context(|| format!("cannot open {}", procs.display()))?;
        let over: Vec<_> = self
            .over
            .iter()
            .filter(|(_, to)| Path::new(to).exists())
            .cloned()
            .collect();

        let mut command = Command::new(program);
        for key in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(key).env_remove(key.to_uppercase());
        }
        if let Some(bundle) = &self.certificates {
            command
                .env("SSL_CERT_FILE", bundle)
                .env("CURL_CA_BUNDLE", bundle);
            command.env_remove("SSL_CERT_DIR");
        }
        let enter = move || {
            (&procs).write_all(b"0")?;
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            unshare(CloneFlags::CLONE_NEWNS)?;
            let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
            mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)?;
            for (from, to) in &over {
                mount(
                    Some(from),
                    *to,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec `enter` makes system calls only: it allocates nothing
        // and takes no lock.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }
}

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Its exit status, `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// Runs `command` to its end, without input.
    pub fn of(command: &mut Command) -> Result<Self> {
        Self::fed(command, "")
    }

    /// Runs `command` to its end, with a short `text` for its input.
    pub(super) fn fed(command: &mut Command, text: &str) -> Result<Self> {
        let line = line(command);
        let mut run = || {
            let (read, mut write) = std::io::pipe()?;
            write.write_all(text.as_bytes())?;
            drop(write);
            command.stdin(read).output()
        };
        let output = run().with_context(|| format!("cannot run `{line}`: is it installed?"))?;
        Ok(Self {
            line,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Whether it ended well.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output if it ended well, else an error with all it said.
    pub fn stdout(self) -> Result<String> {
        if self.ok() {
            return Ok(self.stdout);
        }
        let code = self
            .code
            .map_or("a signal".to_owned(), |code| format!("status {code}"));
        bail!("`{}` ended with {code}: {}", self.line, self.said())
    }

    /// All it said, as one trimmed text.
    pub fn said(&self) -> String {
        format!("{}\n{}", self.stdout.trim(), self.stderr.trim())
            .trim()
            .to_owned()
    }
}

/// A server of the lab, its output in a file.
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`; what it prints goes to `NAME.log` in `dir`.
    pub fn start(name: &'static str, mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}: is it installed?"))?;
        Ok(Self { name, child, log })
    }

    /// Waits until `ready` holds; an error tells the end of the log.
    pub fn wait(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let mut ended = None;
        let over = until(limit, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || ready()
        });
        let what = match ended {
            Some(status) => format!("ended early ({status})"),
            None if over => return Ok(()),
            None => format!("is not ready after {} s", limit.as_secs()),
        };
        bail!("{} {what}; it said:\n{}", self.name, self.tail())
    }

    /// Waits until it has printed `line`.
    pub fn wait_said(&mut self, limit: Duration, line: &str) -> Result<()> {
        let log = self.log.clone();
        self.wait(limit, || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains(line))
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(mut self, limit: Duration) -> Result<()> {
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGTERM,
        )?;
        let ended = until(limit, || self.child.try_wait().is_ok_and(|it| it.is_some()));
        ensure!(
            ended,
            "{} does not end; it said:\n{}",
            self.name,
            self.tail()
        );
        Ok(())
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its group, for it may be a shell with the server below it. Killing what has ended is no
        // failure; waiting leaves no zombie.
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Waits until `ready` holds; false when it does not within `limit`.
pub(super) fn until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Runs `work` on a thread of its own in a network namespace.
pub(super) fn within<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(netns)
        .with_context(|| format!("cannot open the namespace {}", netns.display()))?;
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET)
                .map(|()| work())
                .context("cannot enter it")
        });
        thread
            .join()
            .map_err(|_| anyhow!("the work in {} panicked", netns.display()))?
    })
}

/// Runs a shell script that stops at the first failure; the error names the line.
pub(super) fn script(mut command: Command, text: &str) -> Result<()> {
    let ran = Ran::of(command.arg("-exc").arg(text))?;
    if ran.ok() {
        return Ok(());
    }
    let said: Vec<_> = ran.stderr.lines().collect();
    Err(anyhow!(
        "{}",
        said[said.len().saturating_sub(2)..].join(": ")
    ))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
