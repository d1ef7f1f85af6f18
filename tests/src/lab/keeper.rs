//! Removing labs, whatever becomes of the process that made them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result, bail};

const DOWN: &str = include_str!("down.sh");
/// Where labs keep their files. Not under `/run`: that is often mounted noexec, and
/// containers run from here.
const LABS: &str = "/var/lib/steer-lab";
/// What every name of a lab begins with.
const PREFIX: &str = "steer-lab-";

/// A child that removes the lab once this process is gone, by whatever way: it waits for the
/// end of a pipe that only this process holds open.
pub(super) struct Keeper {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Keeper {
    /// Begins to watch over the lab `name`.
    pub fn watch(name: &str, dir: &Path, cgroup2: &Path) -> Result<Self> {
        let script = "trap '' INT TERM HUP; read -r word; [ \"$word\" = keep ] || eval \"$DOWN\"";
        let mut child = Command::new("setsid")
            .args(["sh", "-c", script, "lab", name])
            .args([dir, cgroup2])
            .env("DOWN", DOWN)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the lab's keeper: is setsid (util-linux) installed?")?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Lets the lab outlive this process.
    pub fn keep(mut self) -> Result<()> {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(b"keep\n")
                .context("the lab's keeper is gone")?;
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.child.wait();
    }
}

/// The folder of a new lab and its name: unique among this machine's labs.
pub(super) fn new_lab() -> Result<(String, PathBuf)> {
    fs::create_dir_all(LABS).with_context(|| format!("cannot make {LABS}"))?;
    let pid = std::process::id();
    for number in 0..1000 {
        let name = format!("{PREFIX}{pid}-{number}");
        let dir = Path::new(LABS).join(&name);
        match fs::create_dir(&dir) {
            Ok(()) => return Ok((name, dir)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", dir.display()));
            }
        }
    }
    bail!("{LABS} is full of labs of process {pid}: `cargo xtask lab down` removes them")
}

/// Removes every lab that was kept or that a killed run left, and returns their names.
/// A lab whose process still runs is left alone.
pub fn down() -> Result<Vec<String>> {
    let entries = match fs::read_dir(LABS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {LABS}")),
    };
    let cgroup2 = super::cgroup2()?;
    let mut gone = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kept = entry.path().join("kept").exists();
        if !name.starts_with(PREFIX) || (maker_runs(&name) && !kept) {
            continue;
        }
        drop(Keeper::watch(&name, &entry.path(), &cgroup2)?);
        if entry.path().exists() {
            bail!(
                "{} could not be removed: run as root",
                entry.path().display()
            );
        }
        gone.push(name);
    }
    // Fails while another lab has its folder there, as it should.
    let _ = fs::remove_dir(LABS);
    Ok(gone)
}

fn maker_runs(name: &str) -> bool {
    let pid = name[PREFIX.len()..].split('-').next().unwrap_or_default();
    Path::new("/proc").join(pid).exists()
}
