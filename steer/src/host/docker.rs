//! Docker's networks, as its API tells or as the names of its bridges suggest.

use super::{HostError, Kind, Link};
use crate::config::DockerChoice;
use crate::origin::Sourced;
use crate::rules::Net;
use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::net::IpAddr;
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

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Docker's name for it, without the slash.
    pub name: String,
    /// Its id, whole.
    pub id: String,
    /// Whose network it uses: the host's, another container's, or networks of its own.
    pub network: NetworkOf,
    /// Its addresses, by the names of its networks.
    pub addresses: Vec<(String, IpAddr)>,
}

/// Whose network a container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkOf {
    /// Networks of its own, or none.
    Own,
    /// The host's.
    Host,
    /// That of the container with this id or name.
    Container(String),
}

impl NetworkOf {
    /// What the mode of a container's network says.
    pub(super) fn told(mode: Option<&str>) -> Self {
        match mode {
            Some("host") => Self::Host,
            Some(mode) => mode
                .strip_prefix("container:")
                .map_or(Self::Own, |other| Self::Container(other.to_owned())),
            None => Self::Own,
        }
    }
}

/// Why Docker did not say.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It answered with an error, or nothing listens.
    #[error(transparent)]
    Api(#[from] Error),
    /// There is nothing at the path.
    #[error("there is no such socket")]
    Absent,
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
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
        DockerChoice::Socket(socket) => ask(socket)
            .await
            .map(|networks| with_names(networks, links))
            .map_err(|source| HostError::Docker {
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
                Ok(networks) => Ok(with_names(networks, links)),
                Err(error) => {
                    notes.push(format!(
                        "Docker does not answer at {} ({error}): the bridges with names that it gives (docker0, br-0123456789ab) are taken for its networks",
                        socket.display()
                    ));
                    Ok(by_name(links))
                }
            }
        }
    }
}

/// The containers that run, as Docker tells; none where it is not to be asked or does not answer.
pub async fn containers(choice: &DockerChoice) -> Vec<Container> {
    let Some(socket) = socket(choice) else {
        return Vec::new();
    };
    let listed = asked(&socket, async |docker| docker.list_containers(None).await).await;
    let listed = listed.inspect_err(|error| tracing::debug!("no containers: {error}"));
    let listed = listed.unwrap_or_default();
    listed.into_iter().filter_map(container).collect()
}

/// The container that has an address.
pub fn at(containers: &[Container], address: IpAddr) -> Option<&Container> {
    let has = |it: &&Container| it.addresses.iter().any(|(_, found)| *found == address);
    containers.iter().find(has)
}

/// The first process of a container.
pub async fn process_of(choice: &DockerChoice, id: &str) -> Option<u32> {
    let socket = socket(choice)?;
    let told = asked(&socket, async |docker| {
        docker.inspect_container(id, None).await
    })
    .await;
    u32::try_from(told.ok()?.state?.pid?).ok()
}

fn container(summary: bollard::models::ContainerSummary) -> Option<Container> {
    let name = container_name(summary.names?)?;
    let networks = summary.network_settings.and_then(|it| it.networks);
    let mut addresses = Vec::new();
    for (network, endpoint) in networks.unwrap_or_default() {
        let given = [endpoint.ip_address, endpoint.global_ipv6_address];
        let given = given.into_iter().flatten();
        let parsed = given.filter_map(|text| text.parse().ok());
        addresses.extend(parsed.map(|address| (network.clone(), address)));
    }
    addresses.sort();
    Some(Container {
        name,
        id: summary.id?,
        network: NetworkOf::told(summary.host_config?.network_mode.as_deref()),
        addresses,
    })
}

/// A container's own name among those that it has: others are what those that are linked to it call it.
pub(super) fn container_name(names: Vec<String>) -> Option<String> {
    let mut names = names.iter().map(|name| name.trim_start_matches('/'));
    let own = names.clone().find(|name| !name.contains('/'));
    own.or_else(|| names.next()).map(str::to_owned)
}

/// A network of Docker's with its ranges of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Docker's name for it.
    pub network: String,
    /// The bridge, if it is of the driver `bridge`.
    pub interface: Option<String>,
    /// Its ranges.
    pub subnets: Vec<Net>,
}

/// The socket that Docker would be asked at; none where it is not to be asked, or nothing is at the usual places.
pub fn socket(choice: &DockerChoice) -> Option<PathBuf> {
    match choice {
        DockerChoice::Off => None,
        DockerChoice::Socket(socket) => Some(socket.clone()),
        DockerChoice::Auto => find_socket(std::env::var("DOCKER_HOST").ok().as_deref()),
    }
}

/// The ranges of Docker's networks, of whatever driver.
///
/// # Errors
/// Docker does not answer at the socket.
pub async fn ranges(socket: &Path) -> Result<Vec<Ranges>, AskError> {
    let ranges = |network: bollard::models::Network| {
        let configured = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
        let subnets = configured.into_iter().flatten();
        let subnets = subnets.filter_map(|config| config.subnet.as_deref()?.parse().ok());
        let subnets = subnets.collect();
        Some(Ranges {
            network: network.name.clone()?,
            interface: bridge_network(network).map(|network| network.interface),
            subnets,
        })
    };
    let networks = asked(socket, async |docker| docker.list_networks(None).await).await?;
    Ok(networks.into_iter().filter_map(ranges).collect())
}

/// What Docker told, and the bridges that bear its names but were not told of: Docker makes a bridge before it tells of
/// the network, and a container may be on it at once.
fn with_names(mut networks: Vec<Network>, links: &[Link]) -> Vec<Network> {
    for network in by_name(links) {
        if networks
            .iter()
            .all(|known| known.interface != network.interface)
        {
            networks.push(network);
        }
    }
    networks
}

/// The socket to try, given the value of `DOCKER_HOST`.
fn find_socket(docker_host: Option<&str>) -> Option<PathBuf> {
    if let Some(path) = docker_host.and_then(|host| host.strip_prefix("unix://")) {
        return Some(PathBuf::from(path));
    }
    SOCKETS.iter().map(PathBuf::from).find(|path| path.exists())
}

async fn ask(socket: &Path) -> Result<Vec<Network>, AskError> {
    let networks = asked(socket, async |docker| docker.list_networks(None).await).await?;
    Ok(networks.into_iter().filter_map(bridge_network).collect())
}

/// What Docker answers to a question, in good time.
pub(super) async fn asked<T>(
    socket: &Path,
    question: impl AsyncFnOnce(Docker) -> Result<T, Error>,
) -> Result<T, AskError> {
    if !socket.exists() {
        return Err(AskError::Absent);
    }
    let answer = async {
        // Requests carry no version until one is negotiated, so that no Docker finds them too new or too old.
        let docker = Docker::connect_with_unix(
            &socket.to_string_lossy(),
            2 * PATIENCE.as_secs(),
            API_DEFAULT_VERSION,
        )?;
        question(docker).await
    };
    let answered = tokio::time::timeout(PATIENCE, answer).await;
    Ok(answered.map_err(|_| AskError::Timeout)??)
}

pub(super) fn bridge_network(network: bollard::models::Network) -> Option<Network> {
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

/// The networks that the names of bridges tell of.
pub fn by_name(links: &[Link]) -> Vec<Network> {
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

/// Whether Docker gives such names to bridges.
pub fn is_dockers_name(name: &str) -> bool {
    let is_id = |id: &str| {
        id.len() == 12
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    name == "docker0" || name == "docker_gwbridge" || name.strip_prefix("br-").is_some_and(is_id)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::link::tests::link;
    use super::*;
    use crate::origin::Origin;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};

    /// The first line of the next request.
    pub(in super::super) async fn request(stream: &mut UnixStream) -> Option<String> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut request).await;
            read.ok().filter(|&count| count > 0)?;
        }
        let text = String::from_utf8(request).ok()?;
        text.lines().next().map(str::to_owned)
    }

    /// A dockerd that knows some calls, whatever its version.
    pub(in super::super) async fn daemon(
        listener: UnixListener,
        answer: impl Fn(&str) -> Option<String> + Clone + Send + 'static,
    ) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                while let Some(line) = request(&mut stream).await {
                    let path = line.split(' ').nth(1).unwrap_or_default();
                    let (status, body) = match answer(path) {
                        Some(body) => ("200 OK", body),
                        None => ("404 Not Found", r#"{"message":"not found"}"#.to_owned()),
                    };
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    }

    async fn asked(socket: &Path) -> Result<Vec<Network>, String> {
        let choice = Sourced::new(
            DockerChoice::Socket(socket.to_owned()),
            Origin::Flag("--docker"),
        );
        let answer = networks(&choice, &[], &mut Vec::new()).await;
        answer.map_err(|error| crate::cli::error_line(&error.into()))
    }

    #[tokio::test]
    async fn networks_come_with_their_bridges() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let text = format!(
            r#"[{{"Name":"bridge","Id":"{id}","Driver":"bridge","Options":{{"com.docker.network.bridge.name":"docker0"}}}},
                    {{"Name":"web","Id":"{id}","Driver":"bridge","Options":{{}}}},
                    {{"Name":"host","Id":"{id}","Driver":"host","Options":null}}]"#
        );
        let network = |name: &str, interface: &str| Network {
            name: Some(name.to_owned()),
            interface: interface.to_owned(),
        };
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(daemon(listener, move |path| {
            path.starts_with("/networks").then(|| text.clone())
        }));
        assert_eq!(
            asked(&socket).await,
            Ok(vec![
                network("bridge", "docker0"),
                network("web", "br-0123456789ab")
            ])
        );
        server.abort();
    }

    #[tokio::test]
    async fn a_named_socket_that_is_silent_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(
            asked(&socket).await.unwrap_err(),
            format!(
                "steer: --docker: Docker does not answer at {}; see that dockerd runs and the path is right, or use --docker off: no answer within 2 s",
                socket.display()
            )
        );
    }

    #[tokio::test]
    async fn a_named_socket_that_is_not_there_is_an_error() {
        assert_eq!(
            asked(Path::new("/nonexistent/docker.sock"))
                .await
                .unwrap_err(),
            "steer: --docker: Docker does not answer at /nonexistent/docker.sock; see that dockerd runs and the path is right, or use --docker off: there is no such socket"
        );
    }

    #[tokio::test]
    async fn without_docker_bridges_go_by_their_names() {
        let links = [
            link(1, "docker0", Kind::Bridge),
            link(2, "br-0123456789ab", Kind::Bridge),
            link(3, "br-lan", Kind::Bridge),
            link(4, "br-0123456789AB", Kind::Bridge),
            link(5, "br-ffffffffffff", Kind::Veth),
        ];
        let off = Sourced::default_value(DockerChoice::Off);
        let networks = networks(&off, &links, &mut Vec::new()).await.unwrap();
        let interfaces: Vec<_> = networks
            .iter()
            .map(|network| network.interface.as_str())
            .collect();
        assert_eq!(interfaces, ["docker0", "br-0123456789ab"]);
    }

    #[test]
    fn docker_host_names_the_socket_when_it_is_one() {
        assert_eq!(
            find_socket(Some("unix:///x/docker.sock")),
            Some(PathBuf::from("/x/docker.sock"))
        );
        assert_eq!(find_socket(Some("tcp://127.0.0.1:2375")), find_socket(None));
    }
}
