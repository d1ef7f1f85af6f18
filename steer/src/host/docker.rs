//! Docker's networks, as its API tells or as the names of its bridges suggest.

use super::{HostError, Kind, Link};
use crate::config::DockerChoice;
use crate::origin::Sourced;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long Docker may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where its socket is when nothing else is said.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];
/// The option of a network that names its bridge.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// A network of the driver `bridge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Docker's name for it; none where only its bridge was seen.
    pub name: Option<String>,
    /// The bridge.
    pub interface: String,
}

/// Why Docker did not say.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It answered with an error, or nothing listens.
    #[error(transparent)]
    Api(#[from] bollard::errors::Error),
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// Docker's networks of the driver `bridge`.
///
/// Where Docker is looked for by itself and does not answer, its bridges are told by their names, and a note says so.
///
/// # Errors
/// Docker does not answer at the socket that the user named.
pub async fn networks(
    choice: &Sourced<DockerChoice>,
    links: &[Link],
    notes: &mut Vec<String>,
) -> Result<Vec<Network>, HostError> {
    match &choice.value {
        DockerChoice::Off => Ok(by_name(links)),
        DockerChoice::Socket(socket) => ask(socket).await.map_err(|source| HostError::Docker {
            origin: choice.origin.clone(),
            socket: socket.clone(),
            source,
        }),
        DockerChoice::Auto => {
            let host = std::env::var("DOCKER_HOST").ok();
            let Some(socket) = find_socket(host.as_deref()) else {
                return Ok(by_name(links));
            };
            match ask(&socket).await {
                Ok(networks) => Ok(networks),
                Err(error) => {
                    notes.push(format!(
                        "Docker does not answer at {} ({error}): docker0 and bridges named br- and 12 hexadecimal digits are taken for its networks",
                        socket.display()
                    ));
                    Ok(by_name(links))
                }
            }
        }
    }
}

/// The socket to try, given the value of `DOCKER_HOST`.
fn find_socket(docker_host: Option<&str>) -> Option<PathBuf> {
    if let Some(path) = docker_host.and_then(|host| host.strip_prefix("unix://")) {
        return Some(PathBuf::from(path));
    }
    SOCKETS.iter().map(PathBuf::from).find(|path| path.exists())
}

async fn ask(socket: &Path) -> Result<Vec<Network>, AskError> {
    let answer = async {
        let docker = Docker::connect_with_unix(
            &socket.to_string_lossy(),
            PATIENCE.as_secs(),
            API_DEFAULT_VERSION,
        )?;
        // Docker 20.10 refuses requests of a version newer than its own.
        docker.negotiate_version().await?.list_networks(None).await
    };
    let networks = tokio::time::timeout(PATIENCE, answer).await??;
    Ok(networks.into_iter().filter_map(bridge_network).collect())
}

fn bridge_network(network: bollard::models::Network) -> Option<Network> {
    if network.driver.as_deref() != Some("bridge") {
        return None;
    }
    let option = network
        .options
        .and_then(|mut options| options.remove(BRIDGE_NAME))
        .filter(|name| !name.is_empty());
    let interface = option.or_else(|| Some(format!("br-{}", network.id?.get(..12)?)))?;
    Some(Network {
        name: network.name,
        interface,
    })
}

/// The bridges that Docker would have named so.
fn by_name(links: &[Link]) -> Vec<Network> {
    let bridges = links
        .iter()
        .filter(|link| link.kind == Kind::Bridge && is_dockers_name(&link.name));
    bridges
        .map(|link| Network {
            name: None,
            interface: link.name.clone(),
        })
        .collect()
}

fn is_dockers_name(name: &str) -> bool {
    let is_id = |id: &str| {
        id.len() == 12
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    name == "docker0" || name.strip_prefix("br-").is_some_and(is_id)
}
