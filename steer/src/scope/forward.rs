//! Where forwarded ports lead to.

use super::{Place, ScopeId, View};
use crate::config::Forward;
use crate::host::inventory::Container;
use crate::route::IfIndex;
use crate::suggest;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Compose's label for the service of a container.
const SERVICE: &str = "com.docker.compose.service";
/// Compose's label for a container that runs once, beside those of its service.
const ONE_OFF: &str = "com.docker.compose.oneoff";

/// A forwarded port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardTo {
    /// The scope that it is of.
    pub scope: ScopeId,
    /// What is to be forwarded.
    pub forward: Forward,
    /// Where that is now.
    pub target: Result<Target, NoTarget>,
}

/// A container that a port can be forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub container: String,
    /// The bridge that it is on, in the scope.
    pub bridge: IfIndex,
    /// Its IPv4 address there.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address there.
    pub v6: Option<Ipv6Addr>,
}

/// Why a port leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// There is no such container.
    #[error("there is no container and no Compose service \"{name}\"{}", hint(.near.as_deref()))]
    Absent {
        /// The name.
        name: String,
        /// A container's that it could have been meant for.
        near: Option<String>,
    },
    /// It has no address, so it does not run.
    #[error("\"{0}\" does not run")]
    Stopped(String),
    /// It runs outside of the scope.
    #[error(
        "\"{0}\" is on no steered network in the scope; put it there, or forward the port in the scope that it is in"
    )]
    Elsewhere(String),
    /// The Compose service has several containers in the scope.
    #[error("the Compose service \"{name}\" has several containers, {}; name one of them", containers.join(", "))]
    Several {
        /// The service.
        name: String,
        /// Its containers.
        containers: Vec<String>,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

/// Where each port of each scope leads to.
pub(super) fn forwards(view: &View<'_>) -> Vec<ForwardTo> {
    let mut forwards = Vec::new();
    for (place, scope) in view.scopes.iter().enumerate() {
        let scope_id = ScopeId(place);
        forwards.extend(scope.forward.iter().map(|forward| ForwardTo {
            scope: scope_id,
            forward: forward.clone(),
            target: target(view, scope_id, &forward.container),
        }));
    }
    forwards
}

fn target(view: &View<'_>, scope: ScopeId, name: &str) -> Result<Target, NoTarget> {
    let containers = &view.inventory.containers;
    if let Some(container) = containers.iter().find(|it| it.name == name) {
        return reached(view, scope, container).ok_or_else(|| unreached(view, name, &[container]));
    }
    let is_meant = |container: &&Container| {
        let is_once = container.labels.get(ONE_OFF).is_some_and(|it| it == "True");
        container.labels.get(SERVICE).is_some_and(|it| it == name) && !is_once
    };
    let of_service: Vec<_> = containers.iter().filter(is_meant).collect();
    let mut targets = of_service.iter().filter_map(|it| reached(view, scope, it));
    match (targets.next(), targets.next()) {
        (Some(target), None) => Ok(target),
        (Some(one), Some(two)) => Err(NoTarget::Several {
            name: name.to_owned(),
            containers: [one, two]
                .into_iter()
                .chain(targets)
                .map(|it| it.container)
                .collect(),
        }),
        (None, _) => Err(unreached(view, name, &of_service)),
    }
}

/// A container as it is reached in a scope.
fn reached(view: &View<'_>, scope: ScopeId, container: &Container) -> Option<Target> {
    let places = view.places(container).into_iter();
    let within = places.filter(|place| place.scope == Some(scope) && place.bridge.is_some());
    // As Docker chooses the network that a container's default route is by, which answers take.
    let place = within.min_by_key(|place| (place.network.internal, &place.network.name))?;
    Some(Target {
        container: container.name.clone(),
        bridge: place.bridge?,
        v4: first(&place, |address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }),
        v6: first(&place, |address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6),
        }),
    })
}

fn first<T>(place: &Place<'_>, of: impl Fn(IpAddr) -> Option<T>) -> Option<T> {
    place.addresses.iter().copied().find_map(of)
}

/// Why none of these containers is reached.
fn unreached(view: &View<'_>, name: &str, containers: &[&Container]) -> NoTarget {
    let name = name.to_owned();
    if containers.is_empty() {
        let names = view.inventory.containers.iter().map(|it| it.name.as_str());
        let near = suggest::nearest(&name, names).map(str::to_owned);
        return NoTarget::Absent { name, near };
    }
    if containers
        .iter()
        .any(|it| it.running || !view.places(it).is_empty())
    {
        NoTarget::Elsewhere(name)
    } else {
        NoTarget::Stopped(name)
    }
}
