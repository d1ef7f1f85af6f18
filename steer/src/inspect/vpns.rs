//! The VPNs, and how they are.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use steer_common::types::{self, Verdict};

use super::Snapshot;
use crate::{
    config::Settings,
    host::vpn::shared_addresses,
    route::{OnDown, Vpn, VpnId},
};

/// A VPN of the configuration, and its interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnFact {
    /// Its name: `vpn` where it was given none.
    pub name: String,
    /// Whether it is that of whatever does not say which.
    pub default: bool,
    /// Its interface; none while there is none.
    pub interface: Option<String>,
    /// Whether that is up and has a carrier.
    pub up: bool,
    /// The addresses of the interface.
    pub addresses: Vec<IpAddr>,
    /// What becomes of what must take it while it is down: `block` or `direct`.
    pub on_down: OnDown,
}

impl VpnFact {
    /// How it is, without its name: `wg0 is up (10.8.0.2)`.
    pub fn state(&self) -> String {
        let Some(interface) = &self.interface else {
            return "there is none".to_owned();
        };
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let addresses = match addresses.as_slice() {
            [] => "no address".to_owned(),
            some => some.join(", "),
        };
        let up = if self.up { "up" } else { "down" };
        format!("{interface} is {up} ({addresses})")
    }
}

/// A VPN as one would say it: by its name where there are several.
pub fn the_vpn(name: Option<&str>) -> String {
    name.map_or_else(|| "the VPN".to_owned(), |name| format!("the VPN {name}"))
}

impl Snapshot {
    /// The VPNs, in the order of the configuration.
    pub(super) fn vpn_facts(&self) -> Vec<VpnFact> {
        let settings = &self.settings;
        let vpns = settings.vpns.iter().enumerate();
        let facts = vpns.map(|(place, vpn)| {
            let seen = self.vpns.get(place).and_then(Option::as_ref);
            VpnFact {
                name: vpn.name.clone(),
                default: settings.default_vpn.0 == place,
                interface: seen.map(|vpn| vpn.name.clone()),
                up: seen.is_some_and(|vpn| vpn.up),
                addresses: seen.map_or_else(Vec::new, |vpn| vpn.addresses().collect()),
                on_down: vpn.on_down.value,
            }
        });
        facts.collect()
    }

    /// The interface of a VPN, if it is there.
    pub(super) fn vpn(&self, path: types::Path) -> Option<&Vpn> {
        self.vpns.get(VpnId::of(path)?.0)?.as_ref()
    }

    /// The name of a VPN where there are several; none of the direct path.
    pub(super) fn vpn_name(&self, path: types::Path) -> Option<String> {
        let name = self.settings.vpn_name(VpnId::of(path)?);
        name.map(str::to_owned)
    }

    /// The name of the VPN that a rule's verdict says; none where it says none.
    pub(super) fn named_vpn(&self, verdict: Verdict) -> Option<String> {
        self.vpn_name(verdict.named())
    }
}

/// What is wrong with them, a sentence each.
pub(super) fn troubles(snapshot: &Snapshot, config: &types::Config) -> Vec<String> {
    let vpns = snapshot.settings.vpns.iter().enumerate();
    let troubles = vpns.filter_map(|(place, _)| {
        let id = VpnId(place);
        let vpn = the_vpn(snapshot.settings.vpn_name(id));
        let what = match snapshot.vpn(id.path()) {
            Some(it) if it.up && it.addresses().next().is_some() => return None,
            Some(it) if it.up => format!("{vpn} {} is up and has no address", it.name),
            Some(it) => format!("{vpn} {} is down", it.name),
            None if vpn == the_vpn(None) => "there is no VPN".to_owned(),
            None => format!("{vpn} is not there"),
        };
        Some(if config.vpn(id.path()).open != 0 {
            format!("{what}: what should take it goes direct meanwhile, as on_down says")
        } else {
            format!("{what}: what must take it is blocked meanwhile")
        })
    });
    troubles
        .chain(shared(&snapshot.settings, &snapshot.vpns))
        .collect()
}

/// Addresses that several of them have.
fn shared(settings: &Settings, vpns: &[Option<Vpn>]) -> Vec<String> {
    let there = vpns.iter().enumerate();
    let there = there.filter_map(|(place, vpn)| Some((VpnId(place), vpn.as_ref()?)));
    let name = |id: &VpnId| settings.vpns[id.0].name.clone();
    let told = |(address, ids): (IpAddr, Vec<VpnId>)| {
        let names: Vec<_> = ids.iter().map(name).collect();
        format!(
            "the VPNs {} have one address, {address}: unconnected datagrams for any but the first are stopped, and who comes by \
             those is answered by the first; have all but one given another",
            names.join(" and ")
        )
    };
    shared_addresses(there).into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{ConfigFile, Overrides},
        route::IfIndex,
    };

    #[test]
    fn an_address_that_several_have_is_told() {
        let text = "[[vpn]]\nname = \"us\"\ninterface = \"tun0\"\n[[vpn]]\nname = \"de\"\ninterface = \"wg0\"\n";
        let file = ConfigFile::parse(Path::new("steer.toml"), text).unwrap();
        let settings = Settings::resolve(file, Overrides::default()).unwrap();
        let vpn = |index, address: &str| {
            Some(Vpn {
                name: String::new(),
                index: IfIndex(index),
                up: true,
                v4: vec![address.parse().unwrap()],
                v6: vec![],
            })
        };
        let of = |other: &str| shared(&settings, &[vpn(3, "10.2.0.2"), vpn(4, other)]);
        assert!(of("10.2.0.3").is_empty());
        let told = of("10.2.0.2");
        assert!(
            told[0].starts_with("the VPNs us and de have one address, 10.2.0.2"),
            "{told:?}"
        );
    }
}
