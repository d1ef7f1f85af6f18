//! The format of `/etc/hosts`: an address, then names, which are meant alone (hosts(5)).

use super::{Parsed, without_comment};
use crate::rules::Scope;
use std::net::IpAddr;

/// What every such file begins with, for the host itself.
const LOCAL: [&str; 13] = [
    "localhost",
    "localhost.localdomain",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
    "0.0.0.0",
    "::",
];

pub(super) fn line(parsed: &mut Parsed, number: u32, line: &str) -> Result<(), String> {
    let text = without_comment(line);
    let mut fields = text.split_ascii_whitespace();
    let Some(address) = fields.next() else {
        return Ok(());
    };
    // An address of one link may carry the link's name.
    let bare = address.split_once('%').map_or(address, |(bare, _)| bare);
    if bare.parse::<IpAddr>().is_err() {
        return Err(format!(
            "\"{address}\" is no address; expected one and then names, as in 0.0.0.0 example.com"
        ));
    }
    let mut refused = None;
    for name in fields.filter(|name| !LOCAL.contains(name)) {
        if let Err(why) = parsed.names.add(name, Scope::Exact, number) {
            refused.get_or_insert(why.to_string());
        }
    }
    refused.map_or(Ok(()), Err)
}
