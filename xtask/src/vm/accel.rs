//! Whether guests can run by KVM. That `/dev/kvm` opens says little: a kernel has to boot by it.

use std::{
    fmt,
    fs::OpenOptions,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::machine::{self, End, Limits};
use crate::step;

/// How guests are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// By the processor.
    Kvm,
    /// By QEMU's software emulation, ten to twenty times slower.
    Emulation,
}

/// A kernel without a root file system gets that far and no farther.
const THROUGH: &str = "Unable to mount root fs";

const PROBE: Limits = Limits {
    first_line: Duration::from_secs(5),
    up: Duration::from_secs(20),
    silence: Duration::from_secs(20),
    total: Duration::from_secs(20),
};

impl Acceleration {
    /// Boots `kernel` by KVM, if there is any, and says in a line what will be used.
    pub fn find(qemu: &Path, kernel: &Path) -> Self {
        let started = Instant::now();
        match probe(qemu, kernel) {
            Ok(()) => {
                let took = step::seconds(started.elapsed());
                step::note(&format!("KVM works: a kernel booted by it in {took}"));
                Self::Kvm
            }
            Err(why) => {
                step::note(&format!("{why}: software emulation"));
                Self::Emulation
            }
        }
    }

    /// Arguments of vng.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["--disable-microvm", "--cpus", "2"],
            // Emulated processors run in threads of their own, and two of them have made kernels panic.
            Self::Emulation => &["--disable-microvm", "--cpus", "1", "--disable-kvm"],
        }
    }

    /// How long to wait for what; a machine that is busy with other guests takes several times as long as one that is not.
    pub fn limits(self) -> Limits {
        let seconds = Duration::from_secs;
        match self {
            Self::Kvm => Limits {
                first_line: seconds(20),
                up: seconds(90),
                silence: seconds(30),
                total: seconds(15 * 60),
            },
            Self::Emulation => Limits {
                first_line: seconds(60),
                up: seconds(300),
                silence: seconds(90),
                total: seconds(40 * 60),
            },
        }
    }
}

impl fmt::Display for Acceleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Emulation => "software emulation",
        })
    }
}

/// Boots `kernel` with no root file system; an error is a sentence that says why KVM is not used.
fn probe(qemu: &Path, kernel: &Path) -> Result<(), String> {
    if !Path::new("/dev/kvm").exists() {
        return Err("there is no KVM here".to_owned());
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Err(format!("KVM is here but cannot be used ({error})"));
    }
    let mut command = Command::new(qemu);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ])
        .args(["-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256M"])
        .args(["-chardev", "file,id=console,path=/dev/stderr"])
        .args(["-serial", "chardev:console"])
        .args(["-append", "earlyprintk=serial console=ttyS0 panic=-1"])
        .arg("-kernel")
        .arg(kernel);
    judge(&mut command, &PROBE)
}

fn judge(command: &mut Command, limits: &Limits) -> Result<(), String> {
    match machine::run(command, limits, |_| {}) {
        Ok((_, console)) if console.lines().any(|line| line.contains(THROUGH)) => Ok(()),
        Ok((End::Wrong(why), console)) => {
            let last = console.lines().last().unwrap_or_default().trim().to_owned();
            let last = if last.is_empty() {
                String::new()
            } else {
                format!("; the last line was: {last}")
            };
            Err(format!("KVM is here but boots no kernel ({why}{last})"))
        }
        Ok((end, _)) => Err(format!(
            "KVM is here but a first guest was cut short ({end:?})"
        )),
        Err(error) => Err(format!("KVM is here but {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Limits = Limits {
        first_line: Duration::from_secs(1),
        up: Duration::from_secs(2),
        ..PROBE
    };

    fn shell(script: &str) -> Result<(), String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        judge(&mut command, &SHORT)
    }

    #[test]
    fn only_a_kernel_that_went_all_the_way_proves_it() {
        assert_eq!(
            shell("echo '[ 1.0] VFS: Unable to mount root fs on 0,0' >&2"),
            Ok(())
        );
        let silent = shell("sleep 60").unwrap_err();
        assert!(silent.contains("printed nothing within 1 s"), "{silent}");
        let stuck = shell("echo '[ 0.1] Linux' >&2; sleep 60").unwrap_err();
        assert!(stuck.contains("did not boot within 2 s"), "{stuck}");
        let aborted = shell("echo 'kvm run failed' >&2; exit 1").unwrap_err();
        assert!(aborted.contains("kvm run failed"), "{aborted}");
    }
}
