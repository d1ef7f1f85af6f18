//! The checks, in the order in which they are told.

mod addresses;
mod docker;
mod names;
mod numbers;
mod others;
mod rules;
mod scopes;
mod system;
mod vpn;

use super::{
    facts::Facts,
    finding::{Check, Finding},
};

type Examine = fn(&Facts) -> Finding;

/// Every check with what it does: a check tells one finding.
const ALL: [(Check, Examine); 33] = [
    (rules::CONFIGURATION, rules::configuration),
    (system::KERNEL, system::kernel),
    (system::BTF, system::btf),
    (system::BPF_FS, system::bpf_fs),
    (system::CGROUP2, system::cgroup2),
    (system::CAPABILITIES, system::capabilities),
    (system::NFT, system::nft),
    (docker::SOCKET, docker::socket),
    (docker::CGROUP, docker::cgroup),
    (docker::DAEMON_JSON, docker::daemon_json),
    (docker::IP_FORWARD, docker::ip_forward),
    (docker::MTU, docker::mtu),
    (vpn::FOUND, vpn::found),
    (vpn::UP, vpn::up),
    (vpn::ADDRESSES, vpn::addresses),
    (vpn::ANSWERS, vpn::answers),
    (vpn::DEFAULT_ROUTE, vpn::default_route),
    (vpn::RP_FILTER, vpn::rp_filter),
    (vpn::MTU, vpn::mtu),
    (addresses::OVERLAP, addresses::overlap),
    (addresses::POOLS, addresses::pools),
    (names::SERVERS, names::servers),
    (names::HIDDEN, names::hidden),
    (names::CACHE, names::cache),
    (numbers::MARK, numbers::mark),
    (numbers::FILTERS, numbers::filters),
    (numbers::PRIORITY, numbers::priority),
    (others::STEERING, others::steering),
    (rules::LAYERS, rules::layers),
    (rules::BROAD, rules::broad),
    (scopes::SCOPES, scopes::scopes),
    (scopes::RESOLVERS, scopes::resolvers),
    (scopes::GATEWAYS, scopes::gateways),
];

/// Every check there is.
pub fn all() -> impl Iterator<Item = Check> {
    ALL.iter().map(|(check, _)| *check)
}

/// What each check finds, in their order.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    ALL.iter().map(|(_, examine)| examine(facts)).collect()
}

/// Words of a list, with `and` before the last.
fn list<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => one.as_ref().to_owned(),
        [before @ .., last] => {
            let before: Vec<_> = before.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", before.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests;
