//! Which scope selects a container or a network.

use super::ScopeId;
use crate::config::{Scope, Selector};
use crate::host::inventory::{Container, Network};

/// Compose's label for the project of a container.
pub(super) const PROJECT: &str = "com.docker.compose.project";

/// Whether containers are selected by what they are, rather than by where they are.
pub(super) fn is_about_containers(selector: &Selector) -> bool {
    rank(selector).is_some()
}

/// The scope of a container by what it is, whatever its networks are in.
pub(super) fn by_container(scopes: &[Scope], container: &Container) -> Option<ScopeId> {
    let selecting = scopes.iter().enumerate().filter_map(|(place, scope)| {
        let rank = rank(&scope.selector)?;
        selects(&scope.selector, container).then_some((rank, place))
    });
    selecting.min().map(|(_, place)| ScopeId(place))
}

/// The scope of those on a network that are in no other.
pub(super) fn by_network(scopes: &[Scope], network: &Network) -> Option<ScopeId> {
    let selects = |scope: &Scope| match &scope.selector {
        Selector::Network(pattern) => pattern.matches(&network.name),
        _ => false,
    };
    scopes.iter().position(selects).map(ScopeId)
}

/// Whether a container is selected by what it is.
pub(super) fn selects(selector: &Selector, container: &Container) -> bool {
    match selector {
        Selector::Container(pattern) => pattern.matches(&container.name),
        Selector::Label { key, value } => container
            .labels
            .get(key)
            .is_some_and(|has| value.as_ref().is_none_or(|value| value == has)),
        Selector::Compose(project) => container.labels.get(PROJECT) == Some(project),
        Selector::Network(_) | Selector::Cgroup(_) => false,
    }
}

/// Who wins among those that select containers, the lowest first.
fn rank(selector: &Selector) -> Option<u8> {
    match selector {
        Selector::Container(_) => Some(0),
        Selector::Label { .. } => Some(1),
        Selector::Compose(_) => Some(2),
        Selector::Network(_) | Selector::Cgroup(_) => None,
    }
}
