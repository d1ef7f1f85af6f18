//! The reverse path filter's sysctls. Files below /proc/sys/net show the network namespace of the thread that
//! opens them.

use std::{fs, io, path::PathBuf};

use super::{
    Error,
    plan::{IfIndex, Interface},
};

/// `net.ipv4.conf.all.rp_filter`.
pub(super) fn all() -> Result<u8, Error> {
    let path = path("all");
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    read(path.clone())?.ok_or_else(|| Error::Sysctl {
        path,
        source: missing(),
    })
}

/// An interface's own value; `None` when the interface is gone.
pub(super) fn get(interface: &Interface) -> Result<Option<u8>, Error> {
    match name(interface.index) {
        Some(name) => read(path(&name)),
        None => Ok(None),
    }
}

/// Sets an interface's own value. One that is gone is success: its value went with it.
pub(super) fn set(interface: &Interface, value: u8) -> io::Result<()> {
    let Some(name) = name(interface.index) else {
        return Ok(());
    };
    match fs::write(path(&name), value.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf")
        .join(name)
        .join("rp_filter")
}

/// By index, because an interface may have got another name since, and its name may be another interface's.
fn name(index: IfIndex) -> Option<String> {
    nix::net::if_::if_indextoname(index.0)
        .ok()?
        .into_string()
        .ok()
}

fn read(path: PathBuf) -> Result<Option<u8>, Error> {
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Sysctl { path, source }),
    };
    match text.trim().parse() {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Error::Sysctl {
            path,
            source: io::Error::other(error),
        }),
    }
}
