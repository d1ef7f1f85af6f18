//! Docker's networks and containers with their addresses, those included that do not run yet.
//!
//! The list of containers has an address only once its process runs. A network, asked by itself, has it as soon as the endpoint is made:
//! half a second before the process with Docker 20.10, a tenth with 28.5; so both are asked. The one call that tells all of a container,
//! `/containers/{id}/json`, waits for a container that starts, and is left alone.

use super::docker::{self, AskError, NetworkOf, asked};
use crate::rules::Net;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EndpointResource};
use bollard::query_parameters::ListContainersOptions;
use futures_util::future;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

/// What Docker has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Its networks, of whatever driver, by name.
    pub networks: Vec<Network>,
    /// Its containers, running or not, by name.
    pub containers: Vec<Container>,
}

/// A network of Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id, whole.
    pub id: String,
    /// Its driver.
    pub driver: String,
    /// The bridge, if it is of the driver `bridge`.
    pub bridge: Option<String>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Its ranges of addresses.
    pub subnets: Vec<Net>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id, whole.
    pub id: String,
    /// Docker's name for it, without the slash.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// Whether its process runs; one that does not may have addresses already.
    pub running: bool,
    /// Whose network it uses: the host's, another container's, or networks of its own.
    pub network: NetworkOf,
    /// The networks that it is on, each once.
    pub endpoints: Vec<Endpoint>,
}

/// A container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The network's id.
    pub network: String,
    /// The container's addresses there, in rising order; none while it has not begun to start.
    pub addresses: Vec<IpAddr>,
}

impl Inventory {
    /// The network with that id.
    pub fn network(&self, id: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.id == id)
    }

    /// The network on that bridge.
    pub fn on_bridge(&self, bridge: &str) -> Option<&Network> {
        let is_on = |network: &&Network| network.bridge.as_deref() == Some(bridge);
        self.networks.iter().find(is_on)
    }

    /// The container with that id, or else that name.
    pub fn container(&self, known_as: &str) -> Option<&Container> {
        let by_id = self.containers.iter().find(|it| it.id == known_as);
        by_id.or_else(|| self.containers.iter().find(|it| it.name == known_as))
    }
}

/// Asks Docker for all of it.
///
/// A container that is made meanwhile may be missing, and an address that moves meanwhile belongs to who has it in the end.
///
/// # Errors
/// Docker does not answer at the socket.
pub async fn inventory(socket: &Path) -> Result<Inventory, AskError> {
    let all = ListContainersOptions {
        all: true,
        ..ListContainersOptions::default()
    };
    // Containers first: what a network says of its endpoints is then the newer word.
    let (summaries, networks, endpoints) = asked(socket, async |docker| {
        let summaries = docker.list_containers(Some(all)).await?;
        let networks = docker.list_networks(None).await?;
        let networks: Vec<_> = networks.into_iter().filter_map(network).collect();
        let endpoints = networks.iter().map(async |network| {
            match docker.inspect_network(&network.id, None).await {
                Ok(inspected) => Ok(inspected.containers.unwrap_or_default()),
                // It has gone since.
                Err(Error::DockerResponseServerError {
                    status_code: 404, ..
                }) => Ok(HashMap::new()),
                Err(error) => Err(error),
            }
        });
        let endpoints = future::try_join_all(endpoints).await?;
        Ok((summaries, networks, endpoints))
    })
    .await?;
    Ok(together(summaries, networks, endpoints))
}

/// One inventory of what was told: containers, networks, and the endpoints of each of these.
fn together(
    summaries: Vec<ContainerSummary>,
    networks: Vec<Network>,
    told: Vec<HashMap<String, EndpointResource>>,
) -> Inventory {
    let listed = summaries
        .into_iter()
        .filter_map(|it| container(it, &networks));
    let mut containers: Vec<_> = listed.collect();
    for (network, told) in networks.iter().zip(told) {
        for (holder, endpoint) in told {
            let addresses = [endpoint.ipv4_address, endpoint.ipv6_address];
            let addresses = addresses.into_iter().flatten();
            let addresses: Vec<_> = addresses.filter_map(|text| address(&text)).collect();
            // Before its container joins, an endpoint has an id of its own and the container's name.
            let joins = endpoint.name.filter(|_| holder.starts_with("ep-"));
            for container in &mut containers {
                let holds = container.id == holder || joins.as_ref() == Some(&container.name);
                let endpoint = container
                    .endpoints
                    .iter_mut()
                    .find(|it| it.network == network.id);
                match (holds, endpoint) {
                    (true, Some(endpoint)) => endpoint.addresses.extend(&addresses),
                    (true, None) => container.endpoints.push(Endpoint {
                        network: network.id.clone(),
                        addresses: addresses.clone(),
                    }),
                    (false, Some(endpoint)) => {
                        endpoint.addresses.retain(|it| !addresses.contains(it));
                    }
                    (false, None) => {}
                }
            }
        }
    }
    for endpoint in containers.iter_mut().flat_map(|it| &mut it.endpoints) {
        endpoint.addresses.sort();
        endpoint.addresses.dedup();
    }
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let mut networks = networks;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Inventory {
        networks,
        containers,
    }
}

fn network(network: bollard::models::Network) -> Option<Network> {
    let configured = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
    let subnets = configured.into_iter().flatten();
    let subnets = subnets.filter_map(|config| config.subnet.as_deref()?.parse().ok());
    Some(Network {
        name: network.name.clone()?,
        id: network.id.clone()?,
        driver: network.driver.clone().unwrap_or_default(),
        internal: network.internal.unwrap_or_default(),
        subnets: subnets.collect(),
        bridge: docker::bridge_network(network).map(|network| network.interface),
    })
}

fn container(summary: ContainerSummary, networks: &[Network]) -> Option<Container> {
    let on = summary.network_settings.and_then(|it| it.networks);
    let mut endpoints = Vec::new();
    for (name, endpoint) in on.unwrap_or_default() {
        // A container that has not been started has no id there yet.
        let is_it = |network: &&Network| match endpoint.network_id.as_deref() {
            None | Some("") => network.name == name,
            Some(id) => network.id == id,
        };
        let Some(network) = networks.iter().find(is_it) else {
            continue;
        };
        let addresses = [endpoint.ip_address, endpoint.global_ipv6_address];
        let addresses = addresses.into_iter().flatten();
        endpoints.push(Endpoint {
            network: network.id.clone(),
            addresses: addresses.filter_map(|text| address(&text)).collect(),
        });
    }
    endpoints.sort_by(|a, b| a.network.cmp(&b.network));
    let mode = summary.host_config.and_then(|it| it.network_mode);
    Some(Container {
        id: summary.id?,
        name: docker::container_name(summary.names?)?,
        labels: summary.labels.unwrap_or_default(),
        running: matches!(
            summary.state,
            Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED)
        ),
        network: NetworkOf::told(mode.as_deref()),
        endpoints,
    })
}

/// An address, with its prefix or without.
fn address(text: &str) -> Option<IpAddr> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    address.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::docker::tests::daemon;
    use super::*;
    use serde_json::{Value, json};
    use tokio::net::UnixListener;

    /// One that runs, with an address on a network whose id is `id of` and the network's name.
    pub(crate) fn container(name: &str, network: &str, address: &str) -> Container {
        Container {
            id: format!("id of {name}"),
            name: name.to_owned(),
            labels: HashMap::new(),
            running: true,
            network: NetworkOf::Own,
            endpoints: vec![Endpoint {
                network: format!("id of {network}"),
                addresses: vec![address.parse().unwrap()],
            }],
        }
    }

    const WEB: &str = "0123456789ab0000";
    const BRIDGE: &str = "ba9876543210ffff";

    fn networks() -> Value {
        json!([
            {"Name": "web", "Id": WEB, "Driver": "bridge", "Internal": true,
                "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}, {"Subnet": "fd00:d1::/64"}]}},
            {"Name": "bridge", "Id": BRIDGE, "Driver": "bridge", "Internal": false,
                "Options": {"com.docker.network.bridge.name": "docker0"}},
            {"Name": "lan", "Id": "77", "Driver": "macvlan"},
        ])
    }

    /// As Docker 20.10 and 28.5 list them: one that was made, one that starts, one that runs and whose network another uses.
    fn containers() -> Value {
        let empty = json!({"NetworkID": "", "IPAddress": "", "GlobalIPv6Address": ""});
        json!([
            {"Id": "made", "Names": ["/made"], "State": "created", "HostConfig": {"NetworkMode": "web"},
                "NetworkSettings": {"Networks": {"web": empty}}},
            {"Id": "starts", "Names": ["/other/alias", "/starts"], "State": "created", "Labels": {"steer.path": "vpn"},
                "HostConfig": {"NetworkMode": "web"}, "NetworkSettings": {"Networks": {"web": empty}}},
            {"Id": "runs", "Names": ["/runs"], "State": "running", "HostConfig": {"NetworkMode": "bridge"},
                "NetworkSettings": {"Networks": {"bridge":
                    {"NetworkID": BRIDGE, "IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}}},
            {"Id": "shares", "Names": ["/shares"], "State": "running", "HostConfig": {"NetworkMode": "container:runs"},
                "NetworkSettings": {"Networks": {}}},
        ])
    }

    fn endpoint(name: &str, v4: &str, v6: &str) -> Value {
        json!({"Name": name, "EndpointID": "e", "MacAddress": "", "IPv4Address": v4, "IPv6Address": v6})
    }

    async fn asked(of_web: Value, of_bridge: Value) -> Inventory {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(daemon(listener, move |path| {
            let path = path.split('?').next().unwrap_or_default();
            Some(match path.strip_prefix("/networks/") {
                Some(WEB) => json!({"Name": "web", "Containers": of_web}).to_string(),
                Some(BRIDGE) => json!({"Name": "bridge", "Containers": of_bridge}).to_string(),
                Some(_) => return None,
                None if path == "/networks" => networks().to_string(),
                None if path == "/containers/json" => containers().to_string(),
                None => return None,
            })
        }));
        let told = inventory(&socket).await.unwrap();
        server.abort();
        told
    }

    fn addresses(inventory: &Inventory, container: &str) -> Vec<(String, Vec<String>)> {
        let container = inventory.container(container).unwrap();
        let endpoints = container.endpoints.iter().map(|endpoint| {
            let name = inventory.network(&endpoint.network).unwrap().name.clone();
            let addresses = endpoint.addresses.iter().map(ToString::to_string);
            (name, addresses.collect())
        });
        endpoints.collect()
    }

    fn on(network: &str, addresses: &[&str]) -> Vec<(String, Vec<String>)> {
        let addresses = addresses.iter().map(|&it| it.to_owned());
        vec![(network.to_owned(), addresses.collect())]
    }

    #[tokio::test]
    async fn a_container_that_starts_has_the_addresses_that_its_network_tells() {
        let web = json!({"starts": endpoint("starts", "172.18.0.2/16", "fd00:d1::2/64")});
        let bridge = json!({"runs": endpoint("runs", "172.17.0.2/16", "fd00:d0::2/64")});
        let told = asked(web, bridge).await;
        assert_eq!(addresses(&told, "made"), on("web", &[]));
        assert_eq!(
            addresses(&told, "starts"),
            on("web", &["172.18.0.2", "fd00:d1::2"])
        );
        assert_eq!(
            addresses(&told, "runs"),
            on("bridge", &["172.17.0.2", "fd00:d0::2"])
        );
        let container = |name| told.container(name).unwrap();
        assert_eq!(container("starts").labels["steer.path"], "vpn");
        assert!(container("runs").running && !container("starts").running);
        assert_eq!(
            container("shares").network,
            NetworkOf::Container("runs".to_owned())
        );

        let names: Vec<_> = told.networks.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["bridge", "lan", "web"]);
        let web = told.on_bridge("br-0123456789ab").unwrap();
        assert!(web.name == "web" && web.internal && web.subnets.len() == 2);
        assert_eq!(told.on_bridge("docker0").unwrap().name, "bridge");
        assert_eq!(told.networks[1].bridge, None);
    }

    #[tokio::test]
    async fn an_endpoint_that_nobody_has_joined_yet_is_its_containers_by_name() {
        let web = json!({"ep-79550d": endpoint("made", "172.18.0.3/16", "")});
        let told = asked(web, json!({})).await;
        assert_eq!(addresses(&told, "made"), on("web", &["172.18.0.3"]));
        assert_eq!(addresses(&told, "starts"), on("web", &[]));
    }

    #[tokio::test]
    async fn an_address_that_has_moved_is_who_has_it_now() {
        let bridge = json!({"starts": endpoint("starts", "172.17.0.2/16", "")});
        let told = asked(json!({}), bridge).await;
        assert_eq!(addresses(&told, "runs"), on("bridge", &[]));
        let starts = addresses(&told, "starts");
        assert!(
            starts.contains(&on("bridge", &["172.17.0.2"])[0]),
            "{starts:?}"
        );
    }

    #[tokio::test]
    async fn without_docker_there_is_an_error() {
        let error = inventory(Path::new("/nonexistent/docker.sock")).await;
        assert!(matches!(error, Err(AskError::Absent)));
    }
}
