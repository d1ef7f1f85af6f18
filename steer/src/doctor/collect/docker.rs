//! Docker: what its API tells, how it was started, and its file.

use std::{fs, io, path::Path};

use crate::{
    config::DockerChoice,
    doctor::{
        DAEMON_JSON,
        facts::{Docker, Looked},
    },
    host::{
        docker,
        inventory::{Inventory, inventory},
    },
};

pub(super) async fn collect(
    choice: &DockerChoice,
    named: Option<&Path>,
    has_scopes: bool,
) -> Docker {
    let socket = docker::socket(choice);
    let networks = match &socket {
        Some(socket) => super::looked(docker::ranges(socket).await),
        None if *choice == DockerChoice::Off => {
            Err("docker is \"off\" in the configuration".to_owned())
        }
        None => Err("there is no socket of Docker's at /var/run/docker.sock".to_owned()),
    };
    let inventory = match (&socket, &networks) {
        _ if !has_scopes => Err("there are no scopes".to_owned()),
        (Some(socket), Ok(_)) => super::looked(inventory(socket).await),
        (_, Err(why)) => Err(why.clone()),
        (None, Ok(_)) => Ok(Inventory::default()),
    };
    let arguments = arguments();
    let daemon_json = named
        .or_else(|| config_file(arguments.as_deref()?))
        .unwrap_or(Path::new(DAEMON_JSON));
    Docker {
        socket,
        inventory,
        networks,
        runs: arguments.is_some(),
        daemon_json: daemon_json.to_owned(),
        daemon_text: text(daemon_json),
        arguments: arguments.unwrap_or_default(),
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

/// The file that dockerd was told to read.
fn config_file(arguments: &[String]) -> Option<&Path> {
    const FLAG: &str = "--config-file";
    let mut rest = arguments.iter();
    let file = rest.by_ref().find_map(|argument| {
        let file = argument.strip_prefix(FLAG)?;
        Some(file.strip_prefix('=').unwrap_or(file))
    })?;
    // Behind an equals sign, or by itself. Of a relative path nobody else knows where it begins.
    let file = match file {
        "" => rest.next()?,
        file => file,
    };
    Some(Path::new(file)).filter(|file| file.is_absolute())
}

fn text(path: &Path) -> Looked<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerd_may_have_been_told_another_file() {
        for (arguments, file) in [
            (&["--debug"][..], None),
            (&["--config-file=/a.json"], Some("/a.json")),
            (&["--debug", "--config-file", "/b.json"], Some("/b.json")),
            (&["--config-file", "b.json"], None),
            (&["--config-file"], None),
        ] {
            let arguments: Vec<_> = arguments.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(
                config_file(&arguments),
                file.map(Path::new),
                "{arguments:?}"
            );
        }
    }
}
