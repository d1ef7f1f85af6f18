//! What the user should know of scopes: what they do not select, and what goes past them.

use super::{ScopeId, View, select};
use crate::config::{Scope, Selector, Way};
use crate::host::docker::NetworkOf;
use crate::host::inventory::Container;
use crate::pattern::Pattern;
use crate::suggest;
use std::collections::BTreeSet;

/// More names than these are not listed.
const LISTED: usize = 12;

/// A sentence for each thing that may not be as it was meant.
pub(super) fn notes(view: &View<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let of_containers = |scope: &&Scope| scope.selector.is_of_containers();
    for scope in view.scopes.iter().filter(of_containers) {
        if let Some(why) = selects_nothing(view, &scope.selector) {
            notes.push(format!("{}: {why}", scope.origin));
        }
    }
    for container in &view.inventory.containers {
        notes.extend(of_container(view, container));
    }
    notes
}

fn selects_nothing(view: &View<'_>, selector: &Selector) -> Option<String> {
    let (networks, containers) = (&view.inventory.networks, &view.inventory.containers);
    if let Selector::Network(pattern) = selector {
        let names: Vec<_> = networks.iter().map(|it| it.name.as_str()).collect();
        if names.iter().any(|name| pattern.matches(name)) {
            return None;
        }
        let said = named("network of Docker's", pattern);
        return Some(
            match suggest::nearest(pattern.as_str(), names.iter().copied()) {
                Some(near) => format!("{said}; did you mean \"{near}\"?"),
                None if (1..=LISTED).contains(&names.len()) => {
                    format!("{said} yet; the networks are {}", names.join(", "))
                }
                None => format!("{said} yet"),
            },
        );
    }
    if containers.iter().any(|it| select::selects(selector, it)) {
        return None;
    }
    let labels = || containers.iter().flat_map(|it| &it.labels);
    let (said, known): (_, BTreeSet<String>) = match selector {
        Selector::Container(pattern) => (
            named("container", pattern),
            containers.iter().map(|it| it.name.clone()).collect(),
        ),
        Selector::Label { value: None, .. } => (
            format!("no container has the label \"{}\"", selector.value()),
            labels().map(|(key, _)| key.clone()).collect(),
        ),
        Selector::Label { .. } => (
            format!("no container has the label \"{}\"", selector.value()),
            labels()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        _ => (
            format!(
                "no container is of the Compose project \"{}\"",
                selector.value()
            ),
            labels()
                .filter(|(key, _)| *key == select::PROJECT)
                .map(|(_, project)| project.clone())
                .collect(),
        ),
    };
    let known = known.iter().map(String::as_str);
    Some(match suggest::nearest(&selector.value(), known) {
        Some(near) => format!("{said}; did you mean \"{near}\"?"),
        None => format!("{said} yet"),
    })
}

fn named(what: &str, pattern: &Pattern) -> String {
    match pattern.is_exact() {
        true => format!("no {what} is named \"{pattern}\""),
        false => format!("no {what} matches \"{pattern}\""),
    }
}

/// What a container sends past the scope that it is in, or is meant to be in.
fn of_container(view: &View<'_>, container: &Container) -> Vec<String> {
    let name = &container.name;
    let told = |scope: ScopeId, what: String| {
        let origin = &view.scopes[scope.0].origin;
        format!("{origin}: the container \"{name}\" {what}")
    };
    let meant = select::by_container(view.scopes, container);
    let places = view.places(container);
    if container.network != NetworkOf::Own {
        let meant = meant.filter(|_| container.running);
        let note = meant.and_then(|meant| Some(told(meant, of_guest(view, container, meant)?)));
        return note.into_iter().collect();
    }
    let mut notes = Vec::new();
    for place in &places {
        let network = &place.network.name;
        let is_past = |scope: &ScopeId| view.scopes[scope.0].default != Way::Direct;
        if let Some(scope) = place.scope.filter(is_past) {
            match &place.network.bridge {
                _ if place.bridge.is_some() => {}
                Some(bridge) => notes.push(told(
                    scope,
                    format!(
                        "is on the network {network}, whose bridge {bridge} is not steered, so what it sends there goes past the scope; add it to attach.bridges"
                    ),
                )),
                None => notes.push(told(
                    scope,
                    format!(
                        "is on the network {network} of the driver {}, where nothing is steered, so what it sends there goes past the scope",
                        place.network.driver
                    ),
                )),
            }
            continue;
        }
        let isolated = places.iter().find_map(|it| it.scope.filter(is_past));
        if let Some(scope) = isolated.filter(|_| !place.network.internal) {
            notes.push(told(
                scope,
                format!(
                    "is on the network {network} as well, so what it sends there goes past the scope; take it off that network, or select it by container = \"{name}\""
                ),
            ));
        }
    }
    notes
}

/// Why a container that uses another's network, or the host's, is not in the scope that selects it.
fn of_guest(view: &View<'_>, container: &Container, meant: ScopeId) -> Option<String> {
    let host = "uses the host's network, so it is not in the scope; give it a network of Docker's";
    let other = match &container.network {
        NetworkOf::Own => return None,
        NetworkOf::Host => return Some(host.to_owned()),
        NetworkOf::Container(other) => view.inventory.container(other)?,
    };
    if other.network == NetworkOf::Host {
        return Some(host.to_owned());
    }
    let places = view.places(container);
    let is_elsewhere = places.iter().any(|place| place.scope != Some(meant));
    is_elsewhere.then(|| {
        format!(
            "uses the network of \"{0}\", which is not in the scope, so neither is it; select \"{0}\"",
            other.name
        )
    })
}
