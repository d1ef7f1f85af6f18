//! What does not leave the host, as far as addresses tell.

use std::{collections::BTreeSet, net::IpAddr};

use super::Link;
use crate::{route::IfIndex, rules::Net};

/// The host's own addresses, and the networks of the bridges that are steered.
pub fn home(links: &[Link], is_steered: impl Fn(IfIndex) -> bool) -> BTreeSet<Net> {
    let own = links.iter().flat_map(Link::addresses).filter_map(alone);
    let steered = links.iter().filter(|link| is_steered(link.index));
    let networks = steered.flat_map(|link| link.networks.iter().copied());
    own.chain(networks).collect()
}

fn alone(address: IpAddr) -> Option<Net> {
    let bits = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    Net::around(address, bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Kind;

    fn link(index: u32, network: &str) -> Link {
        let (address, prefix) = network.split_once('/').unwrap();
        let address: IpAddr = address.parse().unwrap();
        let mut link = Link {
            index: IfIndex(index),
            name: format!("if{index}"),
            kind: Kind::Bridge,
            up: true,
            controller: None,
            v4: Vec::new(),
            v6: Vec::new(),
            networks: Net::around(address, prefix.parse().unwrap())
                .into_iter()
                .collect(),
        };
        match address {
            IpAddr::V4(v4) => link.v4.push(v4),
            IpAddr::V6(v6) => link.v6.push(v6),
        }
        link
    }

    #[test]
    fn own_addresses_and_networks_behind_steered_bridges() {
        let links = [
            link(2, "192.0.2.7/24"),
            link(3, "172.17.0.1/16"),
            link(4, "2001:db8::1/64"),
        ];
        let home = home(&links, |index| index == IfIndex(3));
        let home: Vec<_> = home.iter().map(ToString::to_string).collect();
        assert_eq!(
            home,
            [
                "172.17.0.0/16",
                "172.17.0.1/32",
                "192.0.2.7/32",
                "2001:db8::1/128"
            ]
        );
    }
}
