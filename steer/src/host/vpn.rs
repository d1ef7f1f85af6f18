//! Which interface is the VPN's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{HostError, Link};
use crate::config::VpnChoice;
use crate::origin::Sourced;
use crate::route::{Vpn, VpnId};
use crate::suggest;

/// The VPN's interface, or what keeps steer waiting for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is there, up or down.
    Found(Vpn),
    /// It is not there: which one, and what is.
    Awaited(String),
}

impl Choice {
    /// The interface, if it is there.
    pub fn found(self) -> Option<Vpn> {
        match self {
            Self::Found(vpn) => Some(vpn),
            Self::Awaited(_) => None,
        }
    }
}

/// The addresses that several VPNs have, each with the places of those.
pub fn shared_addresses<'a>(
    vpns: impl IntoIterator<Item = (VpnId, &'a Vpn)>,
) -> Vec<(IpAddr, Vec<VpnId>)> {
    let mut of: BTreeMap<IpAddr, Vec<VpnId>> = BTreeMap::new();
    for (id, vpn) in vpns {
        for address in vpn.addresses() {
            of.entry(address).or_default().push(id);
        }
    }
    of.retain(|_, ids| ids.len() > 1);
    of.into_iter().collect()
}

/// The VPN's interface among those that are there. Where none is named, it is the obvious VPN that is up.
///
/// # Errors
/// The one named cannot be it; or none was named, and several could be.
pub fn choose(choice: &Sourced<VpnChoice>, links: &[Link]) -> Result<Choice, HostError> {
    let refuse = |why| Err(HostError::about(&choice.origin, why));
    let awaited = |why| Ok(Choice::Awaited(why));
    match &choice.value {
        VpnChoice::Named(name) => match links.iter().find(|link| link.name == *name) {
            Some(link) if link.kind == super::Kind::Loopback => refuse(format!(
                "{name} is the loopback device and cannot be the VPN; {}",
                name_one(links)
            )),
            Some(link) => Ok(Choice::Found(of(link))),
            None => awaited(format!(
                "there is no interface \"{name}\"; {}",
                nearest_or_list(name, links)
            )),
        },
        VpnChoice::Auto => {
            let usable: Vec<_> = candidates(links)
                .filter(|link| link.up && has_address(link))
                .collect();
            match usable.as_slice() {
                [link] => Ok(Choice::Found(of(link))),
                [] => awaited(format!("no VPN is up; {}", name_one(links))),
                several => refuse(format!(
                    "several interfaces could be the VPN: {}; choose one with --vpn IFACE",
                    list(several.iter().copied())
                )),
            }
        }
    }
}

/// The addresses of interfaces that are up and not this VPN's. One that is down may be the VPN's, which is not known then.
pub fn of_others(vpn: Option<&Vpn>, links: &[Link]) -> BTreeSet<IpAddr> {
    let is_other = |link: &&Link| link.up && vpn.is_none_or(|vpn| vpn.index != link.index);
    links
        .iter()
        .filter(is_other)
        .flat_map(Link::addresses)
        .collect()
}

fn candidates(links: &[Link]) -> impl Iterator<Item = &Link> {
    // A tap that is a bridge's port is a virtual machine's network card.
    links
        .iter()
        .filter(|link| link.kind.may_be_vpn() && link.controller.is_none())
}

fn has_address(link: &Link) -> bool {
    !link.v4.is_empty() || !link.v6.is_empty()
}

fn nearest_or_list(name: &str, links: &[Link]) -> String {
    match suggest::nearest(name, links.iter().map(|link| link.name.as_str())) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => name_one(links),
    }
}

fn name_one(links: &[Link]) -> String {
    let candidates: Vec<_> = candidates(links).collect();
    if candidates.is_empty() {
        let others = links
            .iter()
            .filter(|link| link.kind != super::Kind::Loopback && link.controller.is_none());
        let others: Vec<_> = others.map(|link| link.name.as_str()).collect();
        let others = if others.is_empty() {
            "none".to_owned()
        } else {
            others.join(", ")
        };
        return format!(
            "there is no tun, wireguard or ppp device (other interfaces: {others}); start the VPN, or name its interface with --vpn IFACE"
        );
    }
    format!(
        "those like a VPN are {}; start the VPN, or name its interface with --vpn IFACE",
        list(candidates)
    )
}

fn list<'a>(links: impl IntoIterator<Item = &'a Link>) -> String {
    links
        .into_iter()
        .map(Link::describe)
        .collect::<Vec<_>>()
        .join(", ")
}

/// An interface as the VPN that it is.
pub fn of(link: &Link) -> Vpn {
    Vpn {
        name: link.name.clone(),
        index: link.index,
        up: link.up,
        v4: link.v4.clone(),
        v6: link.v6.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::tests::{down, link, with};
    use super::*;
    use crate::host::Kind;
    use crate::origin::Origin;
    use crate::route::IfIndex;

    fn auto(links: &[Link]) -> Result<String, String> {
        let choice = Sourced::default_value(VpnChoice::Auto);
        found(&choice, links).map(|vpn| vpn.name)
    }

    fn named(name: &str, links: &[Link]) -> Result<Vpn, String> {
        let choice = Sourced::new(VpnChoice::Named(name.to_owned()), Origin::Flag("--vpn"));
        found(&choice, links)
    }

    fn found(choice: &Sourced<VpnChoice>, links: &[Link]) -> Result<Vpn, String> {
        match choose(choice, links) {
            Ok(Choice::Found(vpn)) => Ok(vpn),
            Ok(Choice::Awaited(why)) => Err(format!("awaited: {why}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn host() -> Vec<Link> {
        vec![
            with(link(1, "lo", Kind::Loopback), &[]),
            with(link(2, "eth0", Kind::Other(String::new())), &["192.0.2.1"]),
            with(link(3, "docker0", Kind::Bridge), &["172.17.0.1"]),
        ]
    }

    #[test]
    fn each_kind_of_vpn_is_found() {
        for kind in [Kind::Tun, Kind::Wireguard, Kind::Ppp, Kind::Ovpn] {
            let mut links = host();
            links.push(with(link(4, "vpn0", kind), &["10.8.0.2", "fd00::2"]));
            assert_eq!(auto(&links).as_deref(), Ok("vpn0"));
            let vpn = named("vpn0", &links).unwrap();
            assert_eq!(
                (vpn.index, vpn.up, vpn.v4.len(), vpn.v6.len()),
                (IfIndex(4), true, 1, 1)
            );
        }
    }

    #[test]
    fn a_vpn_that_is_down_or_has_no_address_is_passed_over() {
        let mut links = host();
        links.push(with(link(4, "wg0", Kind::Wireguard), &["10.8.0.2"]));
        links.push(down(with(link(5, "tun0", Kind::Tun), &["10.9.0.2"])));
        links.push(link(6, "tap0", Kind::Tun));
        assert_eq!(auto(&links).as_deref(), Ok("wg0"));
    }

    #[test]
    fn a_virtual_machines_tap_is_no_vpn() {
        let mut links = host();
        links.push(Link {
            controller: Some(IfIndex(3)),
            ..with(link(4, "vnet0", Kind::Tun), &["10.8.0.2"])
        });
        links.push(with(link(5, "wg0", Kind::Wireguard), &["10.8.0.2"]));
        assert_eq!(auto(&links).as_deref(), Ok("wg0"));
    }

    #[test]
    fn without_a_vpn_what_is_there_is_listed() {
        assert_eq!(
            auto(&host()).unwrap_err(),
            "awaited: no VPN is up; there is no tun, wireguard or ppp device (other interfaces: eth0, docker0); start the VPN, or name its interface with --vpn IFACE"
        );
        let mut links = host();
        links.push(down(with(link(4, "wg0", Kind::Wireguard), &["10.8.0.2"])));
        links.push(link(5, "tun0", Kind::Tun));
        assert_eq!(
            auto(&links).unwrap_err(),
            "awaited: no VPN is up; those like a VPN are wg0 (wireguard, down, 10.8.0.2), tun0 (tun, no address); start the VPN, or name its interface with --vpn IFACE"
        );
    }

    #[test]
    fn of_several_the_user_must_choose() {
        let mut links = host();
        links.push(with(
            link(4, "wg0", Kind::Wireguard),
            &["10.8.0.2", "fd00::2"],
        ));
        links.push(with(link(5, "tailscale0", Kind::Tun), &["100.64.0.1"]));
        assert_eq!(
            auto(&links).unwrap_err(),
            "several interfaces could be the VPN: wg0 (wireguard, 10.8.0.2, fd00::2), tailscale0 (tun, 100.64.0.1); choose one with --vpn IFACE"
        );
        assert_eq!(named("wg0", &links).unwrap().name, "wg0");
    }

    #[test]
    fn a_name_that_is_not_there_is_told_with_what_is() {
        let mut links = host();
        links.push(with(link(4, "wg0", Kind::Wireguard), &["10.8.0.2"]));
        assert_eq!(
            named("wg1", &links).unwrap_err(),
            "awaited: there is no interface \"wg1\"; did you mean \"wg0\"?"
        );
        assert_eq!(
            named("tunnel", &links).unwrap_err(),
            "awaited: there is no interface \"tunnel\"; those like a VPN are wg0 (wireguard, 10.8.0.2); start the VPN, or name its interface with --vpn IFACE"
        );
        assert_eq!(
            named("lo", &links).unwrap_err(),
            "--vpn: lo is the loopback device and cannot be the VPN; those like a VPN are wg0 (wireguard, 10.8.0.2); start the VPN, or name its interface with --vpn IFACE"
        );
    }

    #[test]
    fn a_vpn_that_is_down_is_not_taken_for_another() {
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut links = host();
        links.push(down(with(link(4, "wg0", Kind::Wireguard), &["10.8.0.2"])));
        let auto = Sourced::default_value(VpnChoice::Auto);
        let unknown = choose(&auto, &links).unwrap().found();
        assert!(!of_others(unknown.as_ref(), &links).contains(&address("10.8.0.2")));
        let wg0 = named("wg0", &links).unwrap();
        links.push(with(link(5, "eth1", Kind::Veth), &["10.8.0.2"]));
        assert!(of_others(Some(&wg0), &links).contains(&address("10.8.0.2")));
    }

    #[test]
    fn a_named_one_may_be_down_or_of_any_kind() {
        let mut links = host();
        links.push(down(link(4, "wg0", Kind::Wireguard)));
        assert!(!named("wg0", &links).unwrap().up);
        assert!(named("eth0", &links).unwrap().up);
    }
}
