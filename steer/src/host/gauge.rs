//! What the kernel counts of an interface, and how large its packets may be.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use netlink_packet_route::link::LinkAttribute;

use super::{HostError, link};
use crate::route::IfIndex;

/// Size and numbers of an interface's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// The largest packet, in octets.
    pub mtu: u32,
    /// Packets received so far.
    pub received: u64,
    /// Packets sent so far.
    pub sent: u64,
}

/// Those of all interfaces of this process' network namespace, as `ip -s link` prints them.
///
/// # Errors
/// The kernel did not answer.
pub async fn gauges() -> Result<BTreeMap<IfIndex, Gauge>, HostError> {
    let listed =
        link::asked(async |handle| handle.link().get().execute().try_collect::<Vec<_>>().await);
    let mut gauges = BTreeMap::new();
    for message in listed.await? {
        let mut gauge = Gauge::default();
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => gauge.mtu = mtu,
                LinkAttribute::Stats64(stats) => {
                    gauge.received = stats.rx_packets;
                    gauge.sent = stats.tx_packets;
                }
                _ => {}
            }
        }
        gauges.insert(IfIndex(message.header.index), gauge);
    }
    Ok(gauges)
}
