//! All guests of a run: as many at a time as the machine bears, each by virtme-ng, each in a folder of its own.

use std::{
    fs::{self, File},
    io::{LineWriter, Write as _},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{
    accel::Acceleration,
    interrupt,
    kernels::Kernel,
    machine::{self, Console, End, Limits, Said},
    outcome::{Fault, GroupOutcome, Outcome, Reader},
    protocol::{Event, Plan},
    screen::{Row, Screen},
    table::clock,
    tools::Tools,
};

/// How many of a console's lines a failure quotes.
const QUOTED: usize = 30;
/// What udev would load into a guest for its processor and its devices, which nothing there uses; emulated, that takes
/// half of the boot.
const UNWANTED: [&str; 14] = [
    "aesni_intel",
    "ahci",
    "crc32_pclmul",
    "crc32c_intel",
    "crct10dif_pclmul",
    "evdev",
    "ghash_clmulni_intel",
    "i6300esb",
    "kvm",
    "kvm_amd",
    "kvm_intel",
    "powernow_k8",
    "qemu_fw_cfg",
    "serio_raw",
];
/// Where a guest has file systems of its own over those of the host.
const HIDDEN: [&str; 9] = [
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/var/cache",
    "/var/log",
    "/var/tmp",
    "/var/lib/apt",
    "/var/lib/private",
];

/// What the guests of a run have in common.
pub struct Fleet<'a> {
    /// What runs them.
    pub tools: &'a Tools,
    /// How they are run.
    pub acceleration: Acceleration,
    /// How long they may take.
    pub limits: Limits,
    /// Where their output goes.
    pub folder: &'a Path,
    /// What they are to do.
    pub plan: Plan,
    /// Whether it is a choice among the tests, so that a group may have none.
    pub filtered: bool,
}

impl Fleet<'_> {
    /// Runs a guest for each of `kernels`, `jobs` at a time.
    ///
    /// # Errors
    /// When a guest cannot be started, or the user wants no more.
    pub fn run(&self, kernels: &[Kernel], jobs: usize) -> Result<Vec<Outcome>> {
        let own = std::env::current_exe().context("this program's own path cannot be found")?;
        let [whole, short] = ["plan", "short-plan"]
            .map(|name| self.folder.join(format!("{name}-{}.json", process::id())));
        for path in [&own, &whole]
            .into_iter()
            .chain(kernels.iter().map(|kernel| &kernel.image))
        {
            ensure_visible(path)?;
        }
        self.plan.write(&whole)?;
        self.plan.without_ends_only().write(&short)?;
        let (whole, short) = (Remove(whole), Remove(short));

        let _watch = interrupt::Watch::begin();
        let width = kernels.iter().map(|it| it.version.len()).max().unwrap_or(0);
        let screen = Screen::new(width);
        // The newest and the oldest first, for they run most, and no such guest is to be the last, alone.
        let is_end = |place: usize| place == 0 || place == kernels.len() - 1;
        let (ends, between): (Vec<_>, Vec<_>) =
            (kernels.iter().enumerate().rev()).partition(|&(place, _)| is_end(place));
        let queue = Mutex::new(ends.into_iter().chain(between));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let mut outcomes = Vec::new();
            while !interrupt::happened()
                && let Some((place, kernel)) = next()
            {
                let guest = Guest {
                    fleet: self,
                    kernel,
                    row: screen.row(&kernel.version),
                };
                let plan = if is_end(place) { &whole } else { &short };
                outcomes.push((place, guest.run(&own, &plan.0)));
            }
            outcomes
        };
        let mut outcomes: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.min(kernels.len()))
                .map(|_| scope.spawn(work))
                .collect();
            workers
                .into_iter()
                .filter_map(|worker| worker.join().ok())
                .flatten()
                .collect()
        });
        if interrupt::happened() {
            bail!("interrupted: every guest was ended");
        }
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// One guest.
struct Guest<'a> {
    fleet: &'a Fleet<'a>,
    kernel: &'a Kernel,
    row: Row<'a>,
}

impl Guest<'_> {
    fn run(mut self, own: &Path, plan: &Path) -> Result<Outcome> {
        let kernel = self.kernel;
        let place = tempfile::Builder::new()
            .prefix("steer-vm-")
            .tempdir()
            .context("no folder for a guest can be made")?;
        let mut command = self.command(own, plan, &place)?;
        let mut log = Log::create(&self.file("log"))?;

        let mut reader = Reader::new(&kernel.version, &kernel.release);
        self.row.show("booting");
        let (end, console) = machine::run(&mut command, &self.fleet.limits, |said| match said {
            Said::Event(event) => {
                reader.event(&event);
                self.tell(&event, &reader);
            }
            Said::Line(line) => {
                log.line(reader.elapsed(), &line);
                reader.line(&line);
                self.row.show(line.trim());
            }
            Said::Nothing => self.row.beat(),
        })
        .with_context(|| format!("the guest of {}", kernel.version))?;
        fs::write(
            self.file("console"),
            console
                .lines()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )?;

        let fault = match end {
            End::Done => None,
            End::Wrong(what) => Some(self.fault(what, &console)),
            End::Interrupted => Some(self.fault("the guest was interrupted".to_owned(), &console)),
        };
        let mut outcome = reader.finish(fault);
        if !self.fleet.filtered {
            outcome.distrust_silence();
        }
        Ok(outcome)
    }

    fn command(&self, own: &Path, plan: &Path, place: &TempDir) -> Result<Command> {
        let fleet = self.fleet;
        let mut command = Command::new(&fleet.tools.vng);
        command
            .arg("--run")
            .arg(&self.kernel.image)
            .args(fleet.acceleration.arguments())
            .args(["--memory", "2G", "--user", "root", "--verbose"])
            .arg("--append")
            .arg(format!("modprobe.blacklist={}", UNWANTED.join(",")))
            .arg("--exec")
            .arg(format!(
                "exec {} vm-guest {} 2>&1",
                quoted(own)?,
                quoted(plan)?
            ))
            .current_dir("/")
            .env("PATH", fleet.tools.path()?)
            // Sockets and the like; and no configuration of the user's.
            .env("TMPDIR", place.path())
            .env("HOME", place.path());
        Ok(command)
    }

    /// Tells what has come to its end.
    fn tell(&mut self, event: &Event, reader: &Reader) {
        match event {
            Event::Up { .. } => {
                let took = clock(reader.elapsed().as_secs_f64());
                self.row.tell(&format!("booted in {took}"));
            }
            Event::Begin { group } => self.row.group(group),
            Event::Beat { doing } => self.row.show(doing),
            Event::End { seconds, .. } => {
                let ran = |group: &&GroupOutcome| !group.passed() || group.tally.total() > 0;
                if let Some(group) = reader.group().filter(ran) {
                    let verdict = if group.passed() { "" } else { ": FAILED" };
                    self.row.tell(&format!(
                        "{} {}{verdict}: {}",
                        group.name,
                        clock(*seconds),
                        group.tally
                    ));
                }
            }
            Event::Done => {}
        }
    }

    fn fault(&mut self, what: String, console: &Console) -> Fault {
        self.row.tell(&format!("FAILED: {what}"));
        Fault {
            what,
            console: console.tail(QUOTED),
        }
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = format!("{}.{extension}", self.kernel.version);
        self.fleet.folder.join(name)
    }
}

/// All that a guest's tests print, each line with the seconds since the guest was started.
struct Log(LineWriter<File>);

impl Log {
    fn create(file: &Path) -> Result<Self> {
        let file =
            File::create(file).with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(Self(LineWriter::new(file)))
    }

    fn line(&mut self, elapsed: Duration, line: &str) {
        // A copy for whoever looks closer: the run goes on without it.
        let _ = writeln!(self.0, "{:7.1}  {line}", elapsed.as_secs_f64());
    }
}

/// A file that goes with this.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Makes sure that guests see `path` as this machine does.
fn ensure_visible(path: &Path) -> Result<()> {
    let hiding = HIDDEN.iter().find(|folder| path.starts_with(folder));
    match hiding {
        Some(folder) => bail!(
            "guests do not see {}, for they have a {folder} of their own: put it elsewhere (XDG_CACHE_HOME, CARGO_TARGET_DIR)",
            path.display()
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("/a b/it's")).unwrap(), r"'/a b/it'\''s'");
    }

    #[test]
    fn what_guests_cannot_see_is_refused() {
        assert!(ensure_visible(Path::new("/home/me/target")).is_ok());
        assert!(ensure_visible(Path::new("/var/cached")).is_ok());
        let error = ensure_visible(Path::new("/var/cache/steer/vm/x")).unwrap_err();
        assert!(error.to_string().contains("a /var/cache of their own"));
    }
}
