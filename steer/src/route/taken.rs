//! Whether a VPN has taken the host's default route, and by what else packets leave.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Error,
    guard::families,
    lookup::{self, Packet, Way},
    netlink::Netlink,
    plan::{Family, IfIndex, TableId, Taken},
};

/// Public addresses in both halves of IPv4, and one of IPv6. Their routes are looked up; nothing is sent to them.
const ANYWHERE: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)),
    IpAddr::V4(Ipv4Addr::new(193, 0, 14, 129)),
    IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe)),
];

/// Asks the kernel where a packet to anywhere would go that has no mark: whatever route or rule has it go there
/// (OpenVPN's `redirect-gateway`, with `def1` or without, wg-quick's rule, an administrator's own).
pub async fn taken(vpns: &[IfIndex]) -> Result<Taken, Error> {
    let netlink = Netlink::connect()?;
    let mut taken = Taken::default();
    for family in families() {
        for address in ANYWHERE {
            if Family::of(address) != family {
                continue;
            }
            let way = lookup::by(&netlink, &Packet::to(address)).await?;
            if let Way::Out { interface, .. } = way
                && vpns.contains(&interface)
            {
                taken.families.insert(family);
                taken.by.insert(interface);
            }
        }
        let routes = netlink.routes(family, TableId::MAIN).await?;
        let defaults = routes.into_iter().filter_map(|seen| seen.default);
        taken.others.extend(defaults.filter(|route| {
            let interface = route.target.interface();
            interface.is_some_and(|interface| !vpns.contains(&interface.index))
        }));
    }
    Ok(taken)
}
