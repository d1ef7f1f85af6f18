//! Which scope each bridge and each address of a container is in, from what the configuration says and what Docker has.

mod forward;
mod notes;
mod select;

pub use forward::{ForwardTo, NoTarget, Target};

use crate::config::{Scope, Selector};
use crate::host::docker::{self, NetworkOf};
use crate::host::inventory::{Container, Inventory, Network};
use crate::route::IfIndex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use steer_common::types::{Address, ScopeEntry, ScopeKey};

/// A scope, by its place in [`Settings::scopes`](crate::config::Settings::scopes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopeId(pub usize);

/// What is in which scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// What the containers on each steered bridge are in. A bridge that bears one of Docker's names and of which Docker has not told
    /// is not there: nobody knows yet what its containers are in.
    pub bridges: BTreeMap<IfIndex, BridgeScope>,
    /// What each address on a bridge is in whose containers are judged by themselves; `None`: in no scope, so that rules alone speak of it. Of other addresses there nobody
    /// knows yet.
    pub addresses: BTreeMap<(IfIndex, IpAddr), Option<ScopeId>>,
    /// What is in each scope, in their order.
    pub members: Vec<Members>,
    /// Where each forwarded port leads to, in the order of the configuration.
    pub forwards: Vec<ForwardTo>,
    /// What the user should know and is no error, a sentence each.
    pub notes: Vec<String>,
}

/// What the containers on a bridge are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeScope {
    /// All in this scope, or all in none.
    Known(Option<ScopeId>),
    /// Each in what its address says.
    Each,
}

/// What is in a scope now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Docker's networks that it selects, by name.
    pub networks: BTreeSet<String>,
    /// The containers with an address in it, by name, and those that use the network of such a one.
    pub containers: BTreeSet<String>,
}

/// Whether anything of somebody's could leave his network. What is sent from a link-local address cannot, and Docker tells of none.
pub fn may_leave(who: &ScopeKey) -> bool {
    who.address == Address::default() || who.address.is_steerable()
}

/// What the programs were told of somebody behind a bridge; unknown where they were told nothing.
pub fn entry(
    told: impl Fn(&ScopeKey) -> Option<ScopeEntry>,
    bridge: IfIndex,
    address: IpAddr,
) -> ScopeEntry {
    let bridge = ScopeKey::of_bridge(bridge.0);
    let found = match told(&bridge) {
        Some(each) if each.default == ScopeEntry::EACH => told(&ScopeKey {
            address: address.into(),
            ..bridge
        }),
        whole => whole,
    };
    found.unwrap_or_default()
}

/// Which scope an entry of the programs means.
pub fn scope_id(entry: &ScopeEntry) -> Option<ScopeId> {
    usize::try_from(entry.scope)
        .ok()?
        .checked_sub(1)
        .map(ScopeId)
}

/// Puts the steered bridges and the addresses on them into scopes. The inventory must be younger than the bridges, for Docker makes a bridge before it
/// tells of the network.
///
/// Of the scopes that select a container one by its name wins, then one by a label, then one by its Compose project, then one by the network; among equals the
/// first.
pub fn assign(
    scopes: &[Scope],
    inventory: &Inventory,
    bridges: &[(IfIndex, String)],
) -> Assignment {
    let view = View {
        scopes,
        inventory,
        bridges,
    };
    let mut assignment = Assignment {
        members: vec![Members::default(); scopes.len()],
        forwards: forward::forwards(&view),
        notes: notes::notes(&view),
        ..Assignment::default()
    };
    for (bridge, name) in bridges {
        if let Some(scope) = view.of_bridge(name) {
            assignment.bridges.insert(*bridge, scope);
        }
    }
    for network in &inventory.networks {
        let scope = select::by_network(scopes, network);
        if let (Some(scope), Some(_)) = (scope, view.bridge_of(network)) {
            let members = &mut assignment.members[scope.0];
            members.networks.insert(network.name.clone());
        }
    }
    for container in &inventory.containers {
        for place in view.places(container) {
            let Some(bridge) = place.bridge else {
                continue;
            };
            if let Some(scope) = place.scope {
                let members = &mut assignment.members[scope.0];
                members.containers.insert(container.name.clone());
            }
            if assignment.bridges.get(&bridge) != Some(&BridgeScope::Each) {
                continue;
            }
            for &address in place.addresses {
                let entry = assignment.addresses.entry((bridge, address));
                let scope = entry.or_insert(place.scope);
                *scope = stricter(*scope, place.scope);
            }
        }
    }
    assignment
}

/// What holds where two containers are told to have one address: a scope rather than none, or the first.
fn stricter(one: Option<ScopeId>, other: Option<ScopeId>) -> Option<ScopeId> {
    one.into_iter().chain(other).min()
}

/// What there is, to be judged.
struct View<'a> {
    scopes: &'a [Scope],
    inventory: &'a Inventory,
    bridges: &'a [(IfIndex, String)],
}

/// A network that a container uses, with its addresses there.
struct Place<'a> {
    network: &'a Network,
    /// Its bridge, if that is steered.
    bridge: Option<IfIndex>,
    addresses: &'a [IpAddr],
    scope: Option<ScopeId>,
}

impl<'a> View<'a> {
    /// What the containers on a bridge are in; none while nobody knows.
    fn of_bridge(&self, name: &str) -> Option<BridgeScope> {
        let is_any = |kind: fn(&Selector) -> bool| self.scopes.iter().any(|it| kind(&it.selector));
        if self.scopes.is_empty() {
            return Some(BridgeScope::Known(None));
        }
        let Some(network) = self.inventory.on_bridge(name) else {
            return (!docker::is_dockers_name(name)).then_some(BridgeScope::Known(None));
        };
        if is_any(select::is_about_containers) {
            return Some(BridgeScope::Each);
        }
        Some(BridgeScope::Known(select::by_network(self.scopes, network)))
    }

    fn bridge_of(&self, network: &Network) -> Option<IfIndex> {
        let bridge = network.bridge.as_deref()?;
        let found = self.bridges.iter().find(|(_, name)| name == bridge);
        found.map(|(index, _)| *index)
    }

    /// Whose network a container uses: its own or another's; none for the host's, or that of one who has gone.
    fn owner(&self, container: &'a Container) -> Option<&'a Container> {
        match &container.network {
            NetworkOf::Own => Some(container),
            NetworkOf::Host => None,
            NetworkOf::Container(other) => {
                let other = self.inventory.container(other)?;
                (other.network == NetworkOf::Own).then_some(other)
            }
        }
    }

    /// The networks that a container has addresses on.
    fn places(&self, container: &'a Container) -> Vec<Place<'a>> {
        let Some(owner) = self.owner(container) else {
            return Vec::new();
        };
        let by_itself = select::by_container(self.scopes, owner);
        let places = owner.endpoints.iter().filter_map(|endpoint| {
            let network = self.inventory.network(&endpoint.network)?;
            Some(Place {
                network,
                bridge: self.bridge_of(network),
                addresses: &endpoint.addresses,
                scope: by_itself.or_else(|| select::by_network(self.scopes, network)),
            })
        });
        places.filter(|place| !place.addresses.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
