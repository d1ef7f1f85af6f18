//! Which processes there are, and which holds a socket.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name, as the kernel cuts it: after 15 characters.
    pub name: String,
}

/// Whether a process of that name runs.
pub fn runs(name: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .any(|comm| comm.trim_end() == name)
}

/// Cgroups by id, those given and all below them.
pub fn cgroups_below(roots: impl IntoIterator<Item = PathBuf>) -> HashMap<u64, PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = HashMap::new();
    let mut left: Vec<PathBuf> = roots.into_iter().collect();
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(folders.map(|entry| entry.path()));
        found.insert(metadata.ino(), path);
    }
    found
}

/// The processes in these cgroups that hold sockets with these inodes. One that ends meanwhile holds none.
pub fn holders<'a>(
    cgroups: impl IntoIterator<Item = &'a PathBuf>,
    inodes: &HashSet<u64>,
) -> HashMap<u64, Process> {
    let mut holders = HashMap::new();
    for cgroup in cgroups {
        let listed = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for pid in listed.lines().filter_map(|line| line.parse().ok()) {
            let folder = PathBuf::from(format!("/proc/{pid}"));
            let mut held = sockets(&folder)
                .filter(|inode| inodes.contains(inode))
                .peekable();
            if held.peek().is_none() {
                continue;
            }
            let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            let name = name.trim_end().to_owned();
            holders.extend(held.map(|inode| {
                let name = name.clone();
                (inode, Process { pid, name })
            }));
        }
    }
    holders
}

/// The inodes of the sockets that a process holds.
fn sockets(folder: &Path) -> impl Iterator<Item = u64> {
    let files = fs::read_dir(folder.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    files.filter_map(|file| {
        let link = fs::read_link(file.path()).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{fd::AsRawFd as _, unix::net::UnixStream};

    #[test]
    fn this_process_holds_its_sockets() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let text = link.to_str().unwrap().to_owned();
        let found = sockets(Path::new("/proc/self"));
        assert!(
            found
                .map(|inode| format!("socket:[{inode}]"))
                .any(|it| it == text)
        );
    }
}
