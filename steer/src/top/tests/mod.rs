//! Samples made up, and what becomes of them.

mod keys;
mod pictures;
mod rates;

use std::net::IpAddr;

use crate::inspect::{
    Path,
    usage::{Count, Totals, Usage, Use},
    vpns::VpnFact,
};
use crate::route::OnDown;

fn count(down: u64, up: u64) -> Count {
    Count {
        bytes_in: down,
        bytes_out: up,
        packets_in: down.div_ceil(1_000),
        packets_out: up.div_ceil(1_000),
    }
}

fn to(name: Option<&str>, address: &str, path: Path, down: u64, up: u64) -> Use {
    Use {
        path,
        vpn: None,
        who: "processes".to_owned(),
        bridge: None,
        near: None,
        address: address.parse().unwrap(),
        name: name.map(str::to_owned),
        contested: false,
        count: count(down, up),
    }
}

fn by(who: &str, near: &str, it: Use) -> Use {
    let near: IpAddr = near.parse().unwrap();
    Use {
        who: who.to_owned(),
        bridge: Some("docker0".to_owned()),
        near: Some(near),
        ..it
    }
}

/// A sample so many seconds after the first, with totals that are the sums of what went to whom.
fn usage(seconds: u64, uses: Vec<Use>) -> Usage {
    let mut totals = Totals::default();
    for it in &uses {
        let total = match (it.path, &it.bridge) {
            (Path::Vpn, None) => &mut totals.processes_vpn,
            (Path::Vpn, Some(_)) => &mut totals.containers_vpn,
            (_, None) => &mut totals.processes_direct,
            (_, Some(_)) => &mut totals.containers_direct,
        };
        *total = total.plus(&it.count);
    }
    Usage {
        at: 5_000 + seconds * 1_000,
        uptime: 3_600 + seconds,
        vpns: vec![VpnFact {
            name: "vpn".to_owned(),
            default: true,
            interface: Some("wg0".to_owned()),
            up: true,
            addresses: Vec::new(),
            on_down: OnDown::Block,
        }],
        totals,
        dropped: [("packet_wrong_path".to_owned(), 2)].into(),
        uses,
    }
}
