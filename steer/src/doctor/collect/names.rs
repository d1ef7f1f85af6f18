//! Who resolves names on this host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::doctor::facts::Names;

/// Where glibc's module asks systemd-resolved, past the DNS.
const RESOLVED: &str = "/run/systemd/resolve/io.systemd.Resolve";
const NSCD: [&str; 2] = ["/run/nscd/socket", "/var/run/nscd/socket"];
/// Its main file, and folders whose files come after it.
const RESOLVED_CONF: &str = "/etc/systemd/resolved.conf";
const RESOLVED_DROP_INS: [&str; 3] = [
    "/usr/lib/systemd/resolved.conf.d",
    "/run/systemd/resolved.conf.d",
    "/etc/systemd/resolved.conf.d",
];

pub(super) fn collect() -> Names {
    let resolv_conf = fs::read_to_string("/etc/resolv.conf")
        .map_err(|error| format!("cannot read /etc/resolv.conf: {error}"));
    let mut files = vec![PathBuf::from(RESOLVED_CONF)];
    for folder in RESOLVED_DROP_INS {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut drop_ins: Vec<_> = entries.map(|entry| entry.path()).collect();
        drop_ins.sort();
        files.extend(drop_ins);
    }
    let resolved_conf = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    Names {
        resolv_conf,
        nsswitch: fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default(),
        resolved: Path::new(RESOLVED).exists(),
        resolved_conf: resolved_conf.collect::<Vec<_>>().join("\n"),
        nscd: NSCD.iter().any(|socket| Path::new(socket).exists()),
    }
}
