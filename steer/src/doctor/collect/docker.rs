//! Docker: what its API tells, how it was started, and its file.

use std::{fs, io, path::Path};

use crate::{
    config::DockerChoice,
    doctor::facts::{Docker, Looked},
    host::docker,
};

pub(super) async fn collect(choice: &DockerChoice, daemon_json: &Path) -> Docker {
    let socket = docker::socket(choice);
    let networks = match &socket {
        Some(socket) => super::looked(docker::ranges(socket).await),
        None if *choice == DockerChoice::Off => {
            Err("docker is \"off\" in the configuration".to_owned())
        }
        None => Err("there is no socket of Docker's at /var/run/docker.sock".to_owned()),
    };
    let arguments = arguments();
    Docker {
        socket,
        networks,
        runs: arguments.is_some(),
        arguments: arguments.unwrap_or_default(),
        daemon_json: daemon_json.to_owned(),
        daemon_text: text(daemon_json),
    }
}

/// What dockerd was started with, if it runs in this network namespace.
fn arguments() -> Option<Vec<String>> {
    let own = fs::read_link("/proc/self/ns/net").ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut daemons = processes.map(|entry| entry.path()).filter(|process| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name == "dockerd\n")
            && fs::read_link(process.join("ns/net")).is_ok_and(|netns| netns == own)
    });
    let line = fs::read_to_string(daemons.next()?.join("cmdline")).ok()?;
    Some(line.split('\0').skip(1).map(str::to_owned).collect())
}

fn text(path: &Path) -> Looked<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}
