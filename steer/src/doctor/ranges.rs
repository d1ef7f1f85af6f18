//! Ranges of private addresses that nothing uses yet.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::{daemon_json, facts::Facts};
use crate::rules::Net;

/// Private ranges (RFC 1918), the ones that hosts, clouds and VPNs use least first. 100.64.0.0/10 is the providers'.
const PRIVATE: [(Net, u8); 3] = [
    (v4(10, 0, 8), 200),
    (v4(172, 16, 12), 0),
    (v4(192, 168, 16), 0),
];
/// Routes this short stand for the default route: 0.0.0.0/0, and OpenVPN's two halves.
const DEFAULT_ROUTE: u8 = 1;
/// What a pool is divided into.
const SIZE: u8 = 24;

/// What Docker may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The default bridge's network, of which the bridge has the first address.
    pub bridge: Net,
    /// What other networks are cut from, in pieces of [`Proposal::SIZE`].
    pub pool: Net,
}

impl Proposal {
    /// The prefix of each network of the pool.
    pub const SIZE: u8 = SIZE;

    /// The value of `bip`: the bridge's address and prefix.
    pub fn bip(&self) -> String {
        let address = match self.bridge.address() {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() + 1)),
            v6 => v6,
        };
        format!("{address}/{}", self.bridge.prefix())
    }

    /// An entry of `default-address-pools`.
    pub fn pool_json(&self) -> Value {
        json!({ "base": self.pool.to_string(), "size": SIZE })
    }
}

/// Ranges that overlap nothing that is used, if there are any: a pool as large as leaves room for a bridge's network beside it, up to
/// a /16.
pub fn propose(used: &[Net]) -> Option<Proposal> {
    (16..SIZE).find_map(|prefix| {
        let pool = free(prefix, used)?;
        let mut used = used.to_vec();
        used.push(pool);
        let bridge = free(SIZE, &used)?;
        Some(Proposal { bridge, pool })
    })
}

/// Whether two ranges have an address in common.
pub fn overlap(a: Net, b: Net) -> bool {
    let (wide, narrow) = if a.prefix() <= b.prefix() {
        (a, b)
    } else {
        (b, a)
    };
    wide.address().is_ipv4() == narrow.address().is_ipv4()
        && Net::around(narrow.address(), wide.prefix()) == Some(wide)
}

/// Whether a route to it stands for the default route.
pub fn is_everywhere(net: Net) -> bool {
    net.prefix() <= DEFAULT_ROUTE
}

/// Everything that the host uses: routes of every table, interfaces, Docker's networks and those that it is told to make, name
/// servers.
pub fn used(facts: &Facts) -> Vec<Net> {
    let mut used = Vec::new();
    if let Ok(survey) = &facts.survey {
        used.extend(survey.routes.iter().map(|route| route.to));
    }
    for link in facts.all_links() {
        used.extend(link.networks.iter().copied());
        used.extend(link.addresses().filter_map(host));
    }
    for network in facts.docker.networks.iter().flatten() {
        used.extend(network.subnets.iter().copied());
    }
    if let Ok(Some(text)) = &facts.docker.daemon_text {
        used.extend(daemon_json::networks(text));
    }
    used.extend(facts.names.servers().into_iter().filter_map(host));
    used.retain(|net| !is_everywhere(*net));
    used.sort();
    used.dedup();
    used
}

fn host(address: IpAddr) -> Option<Net> {
    Net::around(address, if address.is_ipv4() { 32 } else { 128 })
}

/// The first free range of that prefix.
fn free(prefix: u8, used: &[Net]) -> Option<Net> {
    PRIVATE.iter().find_map(|&(private, first)| {
        let (begin, end) = bounds(private)?;
        // From the middle to the end, then from the beginning.
        let middle = begin + (u64::from(first) << 16);
        free_between(prefix, middle, end, used)
            .or_else(|| free_between(prefix, begin, middle, used))
    })
}

fn free_between(prefix: u8, begin: u64, end: u64, used: &[Net]) -> Option<Net> {
    let size = 1_u64 << (32 - prefix);
    let mut place = begin;
    while place + size <= end {
        let address = Ipv4Addr::from_bits(u32::try_from(place).ok()?);
        let net = Net::around(address.into(), prefix)?;
        let in_the_way = used.iter().filter(|other| overlap(net, **other));
        let Some(behind) = in_the_way.filter_map(|other| Some(bounds(*other)?.1)).max() else {
            return Some(net);
        };
        place = behind.next_multiple_of(size);
    }
    None
}

/// The first address of a range of IPv4, and the first behind it.
fn bounds(net: Net) -> Option<(u64, u64)> {
    match net.address() {
        IpAddr::V4(address) => {
            let begin = u64::from(address.to_bits());
            Some((begin, begin + (1_u64 << (32 - net.prefix()))))
        }
        IpAddr::V6(_) => None,
    }
}

const fn v4(a: u8, b: u8, prefix: u8) -> Net {
    Net::v4(Ipv4Addr::new(a, b, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn proposed(used: &[&str]) -> Option<(String, String)> {
        let proposal = propose(&nets(used))?;
        Some((proposal.bip(), proposal.pool.to_string()))
    }

    #[test]
    fn what_is_seldom_used_comes_first() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(proposed(&[]), pair("10.201.0.1/24", "10.200.0.0/16"));
        assert_eq!(
            proposed(&["172.16.0.0/12", "10.200.7.0/24"]),
            pair("10.200.0.1/24", "10.201.0.0/16")
        );
        assert_eq!(
            proposed(&["10.0.0.0/8", "172.16.0.0/16"]),
            pair("172.18.0.1/24", "172.17.0.0/16")
        );
    }

    #[test]
    fn where_nothing_is_free_nothing_is_proposed() {
        assert_eq!(
            proposed(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]),
            None
        );
        let half = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/17"];
        let (bip, pool) = proposed(&half).unwrap();
        assert_eq!((&*bip, &*pool), ("192.168.192.1/24", "192.168.128.0/18"));
    }

    #[test]
    fn ranges_overlap_where_one_holds_the_other() {
        let overlap = |a: &str, b: &str| {
            let nets = nets(&[a, b]);
            assert_eq!(overlap(nets[0], nets[1]), overlap(nets[1], nets[0]));
            overlap(nets[0], nets[1])
        };
        assert!(overlap("172.16.0.0/12", "172.17.0.0/16"));
        assert!(overlap("172.17.0.0/16", "172.17.0.0/16"));
        assert!(!overlap("172.16.0.0/12", "172.32.0.0/16"));
        assert!(!overlap("::/0", "172.32.0.0/16"));
        assert!(overlap("fd00::/8", "fd00:1::/64"));
    }

    fn private() -> impl Strategy<Value = Net> {
        (any::<u32>(), 0_usize..3, 8_u8..=32).prop_map(|(bits, place, prefix)| {
            let (private, _) = PRIVATE[place];
            let IpAddr::V4(base) = private.address() else {
                panic!("a private range of IPv4");
            };
            let prefix = prefix.max(private.prefix());
            let address = base.to_bits() | (bits >> private.prefix());
            Net::around(Ipv4Addr::from_bits(address).into(), prefix).unwrap()
        })
    }

    proptest! {
        #[test]
        fn nothing_proposed_overlaps_anything_used(used in prop::collection::vec(private(), 0..60)) {
            if let Some(proposal) = propose(&used) {
                for used in used {
                    prop_assert!(!overlap(proposal.pool, used), "{proposal:?} {used}");
                    prop_assert!(!overlap(proposal.bridge, used), "{proposal:?} {used}");
                }
                prop_assert!(!overlap(proposal.pool, proposal.bridge));
                let within = |net| PRIVATE.iter().any(|(private, _)| overlap(*private, net));
                prop_assert!(within(proposal.pool) && within(proposal.bridge));
            }
        }
    }
}
