//! Which interface is the VPN's.

use super::{HostError, Link};
use crate::config::VpnChoice;
use crate::origin::Sourced;
use crate::route::Vpn;
use crate::suggest;

/// The VPN's interface among those that are there.
///
/// # Errors
/// The one named is not there; or none was named, and not exactly one is an obvious VPN that is up.
pub fn choose(choice: &Sourced<VpnChoice>, links: &[Link]) -> Result<Vpn, HostError> {
    let refuse = |why| Err(HostError::about(&choice.origin, why));
    match &choice.value {
        VpnChoice::Named(name) => match links.iter().find(|link| link.name == *name) {
            Some(link) if link.kind == super::Kind::Loopback => refuse(format!(
                "{name} is the loopback device and cannot be the VPN; {}",
                name_one(links)
            )),
            Some(link) => Ok(vpn(link)),
            None => refuse(format!(
                "there is no interface \"{name}\"; {}",
                nearest_or_list(name, links)
            )),
        },
        VpnChoice::Auto => {
            let usable: Vec<_> = candidates(links)
                .filter(|link| link.up && has_address(link))
                .collect();
            match usable.as_slice() {
                [link] => Ok(vpn(link)),
                [] => refuse(format!("no VPN is up; {}", name_one(links))),
                several => refuse(format!(
                    "several interfaces could be the VPN: {}; choose one with --vpn IFACE",
                    list(several.iter().copied())
                )),
            }
        }
    }
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

fn vpn(link: &Link) -> Vpn {
    Vpn {
        name: link.name.clone(),
        index: link.index,
        up: link.up,
        v4: link.v4.clone(),
        v6: link.v6.clone(),
    }
}
