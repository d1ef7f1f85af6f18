//! What `--fix` may do: a few acts that can be taken back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    daemon_json,
    journal::{Act, JournalError},
};

/// A safe act.
#[derive(Clone, Debug, PartialEq)]
pub enum Fix {
    /// Has the kernel forward IPv4, now and after the next boot.
    Forward,
    /// Sets keys of Docker's configuration file, whose path is the first.
    DaemonJson(PathBuf, Vec<(String, Value)>),
}

/// Where sysctls for the next boot go.
const DROP_IN: &str = "/etc/sysctl.d/90-steer-doctor.conf";
const DROP_IN_TEXT: &str = "# By steer doctor --fix: without it no container reaches anything outside this host.\n\
                            net.ipv4.ip_forward = 1\n";
const CONF: &str = "/proc/sys/net/ipv4/conf";
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

impl Fix {
    /// What it does, to be read behind "it".
    pub fn describe(&self) -> String {
        match self {
            Self::Forward => {
                format!("sets net.ipv4.ip_forward to 1, now and in {DROP_IN}")
            }
            Self::DaemonJson(path, keys) => {
                let keys = keys
                    .iter()
                    .map(|(key, value)| format!("\"{key}\": {value}"));
                format!(
                    "sets {} in {}, and leaves all else there as it is",
                    keys.collect::<Vec<_>>().join(", "),
                    path.display()
                )
            }
        }
    }

    /// What is left to do once it was done.
    pub fn afterwards(&self) -> Option<&'static str> {
        match self {
            Self::Forward => None,
            Self::DaemonJson(..) => Some(
                "dockerd must be restarted to read its file: systemctl restart docker (containers stop, unless live-restore is set, and then the default bridge keeps its addresses until a restart without them). Networks that exist keep their ranges until they are removed and made anew: docker network rm NAME, docker network create NAME, or docker compose down and up",
            ),
        }
    }
}

impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.describe())
    }
}

/// All the acts of some fixes. Those of one file become one change.
///
/// # Errors
/// A file cannot be read, or cannot be changed without doing more than is meant.
pub fn acts(fixes: &[Fix]) -> Result<Vec<Act>, JournalError> {
    let mut acts = Vec::new();
    let mut keys: Vec<(PathBuf, Vec<(String, Value)>)> = Vec::new();
    for fix in fixes {
        match fix {
            Fix::Forward => acts.extend(forward()),
            Fix::DaemonJson(path, wanted) => {
                let of_file = match keys.iter_mut().find(|(file, _)| file == path) {
                    Some((_, keys)) => keys,
                    None => {
                        keys.push((path.clone(), Vec::new()));
                        &mut keys.last_mut().expect("one was just pushed").1
                    }
                };
                for (key, value) in wanted {
                    if !of_file.iter().any(|(known, _)| known == key) {
                        of_file.push((key.clone(), value.clone()));
                    }
                }
            }
        }
    }
    for (path, keys) in keys {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(JournalError::io("read", &path, source)),
        };
        let text = daemon_json::set(&text, &keys).map_err(|source| JournalError::Edit {
            path: path.clone(),
            source,
        })?;
        acts.push(Act::write(&path, text.into_bytes()));
    }
    Ok(acts)
}

fn forward() -> Vec<Act> {
    let mut acts = vec![Act::write(
        Path::new(DROP_IN),
        DROP_IN_TEXT.as_bytes().to_vec(),
    )];
    // The kernel sets these along with it.
    let interfaces = fs::read_dir(CONF).into_iter().flatten().flatten();
    let along = interfaces.map(|interface| interface.path().join("forwarding"));
    let along = along.chain([Path::new(CONF).join("all/accept_redirects")]);
    acts.push(Act::Sysctl {
        path: FORWARD.into(),
        value: "1".to_owned(),
        along: along.collect(),
    });
    acts
}
