//! A systemd in the box, with the unit that steer is shipped with and nothing else.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    Lab, Ns, cgroup2,
    exec::{Daemon, Ran, until},
};
use crate::pace::patience;

/// The unit, beside this crate.
const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/steer.service");
/// Where the machine's own units are, which this systemd is not to see.
const UNITS: &str = "/etc/systemd/system";
/// What a unit without an order of its own comes after, and what it ends before.
const TARGETS: &str = "sysinit basic network multi-user shutdown";
/// What this systemd sees of the machine that is not at its place: the lab's folder, and steer.
const LAB: &str = "/mnt/lab";
const STEER: &str = "/mnt/steer";

/// Where it looks for cgroups; its own and those that it makes are in the lab's.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What steer says, in the lab's folder.
const LOG: &str = "unit.log";

const WAIT: Duration = Duration::from_secs(20);

/// A systemd. Dropping it kills it and what it runs.
pub struct Systemd {
    /// `unshare`, which takes process 1 along when it ends.
    _daemon: Daemon,
    pid: String,
}

impl Lab {
    /// Starts a systemd as process 1 of a PID namespace of its own, and steer by its unit, with a configuration in TOML; both are
    /// ready.
    pub fn systemd(&self, config: &str) -> Result<Systemd> {
        self.write_unit_config(config)?;
        let pid = self.dir.join("systemd.pid");
        let drop_in = format!(
            "[Service]\nExecStart=\nExecStart={STEER} run --config {LAB}/unit.toml --bpffs {LAB}/bpf/steer\n\
             ReadWritePaths={LAB}/bpf\nStandardOutput=append:{LAB}/{LOG}\nStandardError=append:{LAB}/{LOG}\n"
        );
        fs::write(self.dir.join("drop-in.conf"), drop_in)?;
        let begin = format!(
            "mount --make-rprivate /
            read -r pid rest </proc/self/stat; echo $pid >{pid}
            mount -t proc proc /proc
            mount --bind {cgroup2} {CGROUPS}
            for folder in /run/systemd /mnt {UNITS} /lib/systemd/system /usr/local/lib/systemd/system; do
                [ ! -d $folder ] || mount -t tmpfs tmpfs $folder
            done
            mkdir {LAB}; mount --rbind {dir} {LAB}
            : >{STEER}; mount --bind {steer} {STEER}
            for target in {TARGETS}; do
                printf '[Unit]\\nDefaultDependencies=no\\n' >{UNITS}/$target.target
            done
            cp {UNIT} {UNITS}/steer.service
            mkdir {UNITS}/steer.service.d; cp {LAB}/drop-in.conf {UNITS}/steer.service.d/lab.conf
            export container=steer-lab
            exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no",
            pid = pid.display(),
            cgroup2 = cgroup2()?.display(),
            dir = self.dir.display(),
            steer = self.steer_binary()?.display(),
        );
        let mut command = self.command_in(&self.box_cgroup("systemd")?, "unshare")?;
        command
            .args(["--pid", "--mount", "--fork", "--kill-child"])
            .args(["sh", "-ec", &begin]);
        let mut daemon = Daemon::start("systemd", command, &self.dir)?;
        let mut systemd = None;
        daemon.wait(patience(WAIT), || {
            systemd = fs::read_to_string(&pid).ok();
            let Some(pid) = systemd.as_deref() else {
                return false;
            };
            self.systemctl(pid.trim(), "is-active multi-user.target")
                .is_ok_and(|ran| ran.ok())
        })?;
        let systemd = Systemd {
            _daemon: daemon,
            pid: systemd.context("it is there")?.trim().to_owned(),
        };
        systemd
            .control(self, "start steer")
            .with_context(|| self.unit_said())?;
        Ok(systemd)
    }

    fn write_unit_config(&self, config: &str) -> Result<()> {
        let config = config.replace(&cgroup2()?.display().to_string(), CGROUPS);
        Ok(fs::write(self.dir.join("unit.toml"), config)?)
    }

    /// What steer has said under a systemd.
    fn unit_said(&self) -> String {
        fs::read_to_string(self.dir.join(LOG)).unwrap_or_default()
    }

    fn systemctl(&self, pid: &str, line: &str) -> Result<Ran> {
        let mut command = self.command(Ns::Box, "nsenter")?;
        command
            .args(["--mount", "--pid", "--target", pid, "systemctl"])
            .args(line.split(' '));
        Ran::of(&mut command)
    }
}

impl Systemd {
    /// What `systemctl` says to a command line.
    pub fn control(&self, lab: &Lab, line: &str) -> Result<String> {
        lab.systemctl(&self.pid, line)?.stdout()
    }

    /// Has steer run by another configuration from now on.
    pub fn restart(&self, lab: &Lab, config: &str) -> Result<()> {
        lab.write_unit_config(config)?;
        self.control(lab, "restart steer").map(drop)
    }

    /// Waits until a steer runs that is not this one, and is ready.
    pub fn wait_other(&self, lab: &Lab, than: u32) -> Result<()> {
        let other = until(patience(WAIT), || {
            self.steer(lab).is_ok_and(|pid| pid != than)
                && self.control(lab, "is-active steer").is_ok()
        });
        ensure!(
            other,
            "steer is not started again; it said:\n{}",
            lab.unit_said()
        );
        Ok(())
    }

    /// Steer's process.
    pub fn steer(&self, lab: &Lab) -> Result<u32> {
        let processes = lab
            .cgroup()
            .join("systemd/system.slice/steer.service/cgroup.procs");
        let processes = fs::read_to_string(&processes)
            .with_context(|| format!("cannot read {}", processes.display()))?;
        let first = processes.lines().next().context("steer does not run")?;
        first.parse().context("a PID is a number")
    }
}
