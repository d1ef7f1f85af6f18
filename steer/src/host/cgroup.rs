//! The cgroups whose processes are steered.

mod mounts;

pub use mounts::cgroup2_mounts;

use super::HostError;
use crate::config::CgroupChoice;
use crate::origin::{Origin, Sourced};
use crate::suggest;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The programs that "auto" stands for.
const DAEMONS: [&str; 2] = ["dockerd", "containerd"];
/// What runs beside them in their cgroups, as the kernel cuts names: after 15 characters.
const PARTS_OF_DOCKER: [&str; 8] = [
    "dockerd",
    "containerd",
    "containerd-shim",
    "docker-proxy",
    "docker-containe",
    "docker-init",
    "runc",
    "exe",
];
/// How many levels down a cgroup is looked for whose first levels the user left out.
const SEARCH_DEPTH: usize = 3;
/// Where systemd runs them.
const UNITS: [&str; 2] = [
    "system.slice/docker.service",
    "system.slice/containerd.service",
];

/// A cgroup to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its directory.
    pub path: PathBuf,
    /// Its inode, which is its id in the kernel (`bpf_get_current_cgroup_id`).
    pub id: u64,
    /// The daemons found in it; empty where the user named it.
    pub daemons: Vec<Daemon>,
}

/// A process that "auto" stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

/// The cgroup2 hierarchy: where it is mounted, and who is in it.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    proc: PathBuf,
    mounts: Vec<PathBuf>,
}

impl Hierarchy {
    /// The hierarchy as this process sees it.
    ///
    /// # Errors
    /// No cgroup2 is mounted, or `/proc` cannot be read.
    pub fn read() -> Result<Self, HostError> {
        Self::read_at(Path::new("/proc"))
    }

    /// Where it is mounted.
    pub fn mounts(&self) -> &[PathBuf] {
        &self.mounts
    }

    /// The same with another `/proc`.
    ///
    /// # Errors
    /// As [`Hierarchy::read`].
    pub fn read_at(proc: &Path) -> Result<Self, HostError> {
        let path = proc.join("self/mounts");
        let text = fs::read_to_string(&path).map_err(|source| HostError::Read {
            what: path.display().to_string(),
            source,
        })?;
        let mounts = cgroup2_mounts(&text);
        if mounts.is_empty() {
            return Err(HostError::Unclear(
                "no cgroup2 is mounted; mount it with mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
                    .to_owned(),
            ));
        }
        Ok(Self {
            proc: proc.to_owned(),
            mounts,
        })
    }

    /// The cgroups that the settings mean, without those that lie below another: a program attached to both would run twice.
    ///
    /// # Errors
    /// One that is named is not there, or a daemon shares its cgroup with every process of the host.
    pub fn resolve(
        &self,
        choices: &[Sourced<CgroupChoice>],
        notes: &mut Vec<String>,
    ) -> Result<Vec<Cgroup>, HostError> {
        let mut found: Vec<Cgroup> = Vec::new();
        for choice in choices {
            let cgroups = match &choice.value {
                CgroupChoice::Auto => self.of_daemons(&choice.origin, notes)?,
                CgroupChoice::Path(path) => vec![self.named(path, &choice.origin)?],
            };
            for cgroup in cgroups {
                match found.iter_mut().find(|known| known.id == cgroup.id) {
                    Some(known) => known.daemons.extend(cgroup.daemons),
                    None => found.push(cgroup),
                }
            }
        }
        let paths: Vec<_> = found.iter().map(|cgroup| cgroup.path.clone()).collect();
        found.retain(|cgroup| {
            !paths
                .iter()
                .any(|other| *other != cgroup.path && cgroup.path.starts_with(other))
        });
        Ok(found)
    }

    /// The same of those that are there: a daemon that was restarted has a new cgroup, which is found by looking again.
    pub fn present(&self, choices: &[Sourced<CgroupChoice>]) -> Vec<Cgroup> {
        let there = |choice: &&Sourced<CgroupChoice>| {
            self.resolve(std::slice::from_ref(*choice), &mut Vec::new())
                .is_ok()
        };
        let there: Vec<_> = choices.iter().filter(there).cloned().collect();
        self.resolve(&there, &mut Vec::new()).unwrap_or_default()
    }

    /// Where the cgroups are that the settings mean, from the hierarchy's root or as the user wrote it.
    pub fn paths(choices: &[Sourced<CgroupChoice>]) -> impl Iterator<Item = &Path> {
        choices.iter().flat_map(|choice| match &choice.value {
            CgroupChoice::Auto => UNITS.iter().map(Path::new).collect(),
            CgroupChoice::Path(path) => vec![path.as_path()],
        })
    }

    /// The folders in which they come and go, or what they will lie in.
    pub fn folders(&self, choices: &[Sourced<CgroupChoice>]) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        for path in Self::paths(choices) {
            for mount in &self.mounts {
                // An absolute path stays as it is.
                let path = mount.join(path);
                let mut above = path
                    .ancestors()
                    .skip(1)
                    .take_while(|above| above.starts_with(mount));
                folders.extend(above.find(|above| above.is_dir()).map(Path::to_owned));
            }
        }
        folders
    }

    fn of_daemons(
        &self,
        origin: &Origin,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Cgroup>, HostError> {
        let mut found = Vec::new();
        for (daemon, cgroup) in self.daemons()? {
            if cgroup == Path::new("/") {
                return Err(self.in_the_root(&daemon, origin));
            }
            match self.below_mounts(&cgroup) {
                Some((path, id)) => found.push(Cgroup {
                    path,
                    id,
                    daemons: vec![daemon],
                }),
                None => notes.push(format!(
                    "{} (process {}) is in the cgroup {}, which is not below {}: it is not steered",
                    daemon.name,
                    daemon.pid,
                    cgroup.display(),
                    self.mounts_listed()
                )),
            }
        }
        for cgroup in &found {
            let strangers = self.strangers(&cgroup.path);
            if !strangers.is_empty() {
                notes.push(format!(
                    "{} is not Docker's alone: {} there {} steered as well",
                    cgroup.path.display(),
                    strangers.join(", "),
                    if strangers.len() == 1 { "is" } else { "are" }
                ));
            }
        }
        if found.is_empty() {
            let units = UNITS
                .iter()
                .filter_map(|unit| self.below_mounts(Path::new(unit)));
            let units = units.filter(|(path, _)| self.is_ours(path));
            found.extend(units.map(|(path, id)| Cgroup {
                path,
                id,
                daemons: Vec::new(),
            }));
        }
        if found.is_empty() {
            notes.push(
                "no dockerd or containerd runs in this network namespace: image pulls are not steered until steer is started after Docker"
                    .to_owned(),
            );
        }
        Ok(found)
    }

    /// The names of the processes right in a cgroup that are no part of Docker.
    fn strangers(&self, cgroup: &Path) -> Vec<String> {
        let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        let names = procs
            .lines()
            .filter_map(|pid| fs::read_to_string(self.proc.join(pid).join("comm")).ok());
        let mut names: Vec<_> = names.map(|name| name.trim_end().to_owned()).collect();
        names.retain(|name| !PARTS_OF_DOCKER.contains(&name.as_str()));
        names.sort();
        names.dedup();
        names
    }

    fn in_the_root(&self, daemon: &Daemon, origin: &Origin) -> HostError {
        let mount = self.mounts[0].display();
        let Daemon { name, pid } = daemon;
        HostError::about(
            origin,
            format!(
                "{name} (process {pid}) is in the root cgroup, where steering it would steer every process of the host; give it a cgroup of its own with mkdir {mount}/{name} && echo {pid} > {mount}/{name}/cgroup.procs, or steer every process with --cgroup {mount}"
            ),
        )
    }

    /// The daemons of this network namespace, each with its cgroup's path from the hierarchy's root.
    fn daemons(&self) -> Result<Vec<(Daemon, PathBuf)>, HostError> {
        self.processes(&DAEMONS)
    }

    /// The processes of this network namespace that have one of these names, each with its cgroup's directory. This one is none.
    pub fn named_processes(&self, names: &[&str]) -> Vec<(Daemon, PathBuf)> {
        let own = std::process::id();
        let found = self.processes(names).unwrap_or_default().into_iter();
        let others = found.filter(|(process, _)| process.pid != own);
        let there = others.filter_map(|(process, of)| Some((process, self.below_mounts(&of)?.0)));
        there.collect()
    }

    fn processes(&self, names: &[&str]) -> Result<Vec<(Daemon, PathBuf)>, HostError> {
        let entries = fs::read_dir(&self.proc).map_err(|source| HostError::Read {
            what: self.proc.display().to_string(),
            source,
        })?;
        let mut pids: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        // A process that ends meanwhile is as good as one that was never there.
        Ok(pids
            .into_iter()
            .filter_map(|pid| self.process(pid, names))
            .collect())
    }

    /// The directory of a cgroup as the user wrote it, if it is there.
    pub fn find(&self, path: &Path) -> Option<PathBuf> {
        let found = self.named(path, &Origin::Default).ok()?;
        Some(found.path)
    }

    /// The directory of this process's own cgroup.
    pub fn own(&self) -> Option<PathBuf> {
        let cgroup = self.cgroup_of("self")?;
        self.below_mounts(&cgroup).map(|(path, _)| path)
    }

    /// The directory of a process's cgroup.
    pub fn of_process(&self, pid: u32) -> Option<PathBuf> {
        let cgroup = self.cgroup_of(&pid.to_string())?;
        self.below_mounts(&cgroup).map(|(path, _)| path)
    }

    fn cgroup_of(&self, process: &str) -> Option<PathBuf> {
        let cgroups = fs::read_to_string(self.proc.join(process).join("cgroup")).ok()?;
        let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
        Some(PathBuf::from(cgroup))
    }

    fn process(&self, pid: u32, names: &[&str]) -> Option<(Daemon, PathBuf)> {
        let process = self.proc.join(pid.to_string());
        let name = fs::read_to_string(process.join("comm"))
            .ok()?
            .trim_end()
            .to_owned();
        if !names.contains(&name.as_str()) || !self.shares_netns(pid) {
            return None;
        }
        let cgroup = self.cgroup_of(&pid.to_string())?;
        Some((Daemon { name, pid }, cgroup))
    }

    fn shares_netns(&self, pid: u32) -> bool {
        let netns = |process: &str| fs::read_link(self.proc.join(process).join("ns/net")).ok();
        netns("self").is_some_and(|own| netns(&pid.to_string()) == Some(own))
    }

    /// Whether no process of another network namespace is in the cgroup.
    fn is_ours(&self, cgroup: &Path) -> bool {
        let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        procs
            .lines()
            .filter_map(|line| line.parse().ok())
            .all(|pid| self.shares_netns(pid))
    }

    fn named(&self, path: &Path, origin: &Origin) -> Result<Cgroup, HostError> {
        let refuse = |why| Err(HostError::about(origin, why));
        let named = |(path, id)| {
            Ok(Cgroup {
                path,
                id,
                daemons: Vec::new(),
            })
        };
        if path.is_relative() {
            return match self.below_mounts(path) {
                Some(found) => named(found),
                None => refuse(format!(
                    "there is no cgroup {} below {}{}",
                    path.display(),
                    self.mounts_listed(),
                    self.nearby(path)
                )),
            };
        }
        let Some(mount) = self.mounts.iter().find(|mount| path.starts_with(mount)) else {
            let hint = match self.below_mounts(path) {
                Some((found, _)) => format!("; did you mean {}?", found.display()),
                None => "; give a path below it, or one relative to it".to_owned(),
            };
            return refuse(format!(
                "{} is not in the cgroup2 hierarchy at {}{hint}",
                path.display(),
                self.mounts_listed()
            ));
        };
        match directory(path) {
            Some(id) => named((path.components().collect(), id)),
            None => {
                let relative = path.strip_prefix(mount).unwrap_or(path);
                refuse(format!(
                    "there is no cgroup {}{}",
                    path.display(),
                    self.nearby(relative)
                ))
            }
        }
    }

    /// The directory of a cgroup given by its path from the hierarchy's root, with its inode.
    fn below_mounts(&self, cgroup: &Path) -> Option<(PathBuf, u64)> {
        let relative = cgroup.strip_prefix("/").unwrap_or(cgroup);
        if relative.starts_with("..") {
            return None;
        }
        self.mounts.iter().find_map(|mount| {
            let path: PathBuf = mount.join(relative).components().collect();
            directory(&path).map(|id| (path, id))
        })
    }

    /// What exists where the user looked.
    fn nearby(&self, relative: &Path) -> String {
        if let Some(found) = self
            .mounts
            .iter()
            .find_map(|mount| find(mount, relative, SEARCH_DEPTH))
        {
            return format!("; did you mean {}?", found.display());
        }
        let mut parent = relative;
        while let Some(above) = parent.parent() {
            let missing = parent
                .strip_prefix(above)
                .unwrap_or(parent)
                .to_string_lossy();
            parent = above;
            let Some((directory, _)) = self.below_mounts(parent) else {
                continue;
            };
            let mut children = children(&directory);
            children.sort();
            if let Some(near) = suggest::nearest(&missing, children.iter().map(String::as_str)) {
                return format!("; did you mean {}?", parent.join(near).display());
            }
            if children.is_empty() {
                return format!("; {} has none below it", directory.display());
            }
            let more = if children.len() > 8 { ", …" } else { "" };
            children.truncate(8);
            return format!(
                "; {} has {}{more}",
                directory.display(),
                children.join(", ")
            );
        }
        String::new()
    }

    fn mounts_listed(&self) -> String {
        self.mounts
            .iter()
            .map(|mount| mount.display().to_string())
            .collect::<Vec<_>>()
            .join(" or ")
    }
}

/// A cgroup below `directory`, with its full path, whose path ends with `name`.
fn find(directory: &Path, name: &Path, depth: usize) -> Option<PathBuf> {
    let children = children(directory)
        .into_iter()
        .map(|child| directory.join(child));
    let children: Vec<_> = children.collect();
    children
        .iter()
        .find(|child| child.ends_with(name))
        .cloned()
        .or_else(|| {
            depth
                .checked_sub(1)
                .and_then(|depth| children.iter().find_map(|child| find(child, name, depth)))
        })
}

fn directory(path: &Path) -> Option<u64> {
    let metadata: io::Result<_> = fs::metadata(path);
    metadata
        .ok()
        .filter(fs::Metadata::is_dir)
        .map(|metadata| metadata.ino())
}

fn children(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let directories = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests;
