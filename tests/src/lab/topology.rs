//! The namespaces, links, addresses and routes, as the commands one would type.

use super::plan::{
    DIRECT_V4, DIRECT_V6, PUBLIC_RESOLVER_V4, RESOLVER_V4, RESOLVER_V6, Range, TEST_RESOLVER_V4,
    TEST_RESOLVER_V6,
};

const CONF6: &str = "/proc/sys/net/ipv6/conf";

/// One of the lab's network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ns {
    /// The Docker host.
    Box,
    /// Its provider, which blocks.
    Isp,
    /// All servers.
    Internet,
    /// The far end of the tunnel.
    Vpn,
}

impl Ns {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Box, Self::Isp, Self::Internet, Self::Vpn];

    /// What its name ends with.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Isp => "isp",
            Self::Internet => "net",
            Self::Vpn => "vpn",
        }
    }
}

/// Makes the namespaces and joins them; run outside of them.
pub(super) fn links(name: &str) -> String {
    let mut script = String::new();
    for ns in Ns::ALL {
        let ns = ns.suffix();
        script += &format!(
            "ip netns add {name}-{ns}
             {}
             ip -n {name}-{ns} link set lo up\n",
            no_dad(&format!("{name}-{ns}"))
        );
    }
    for (near, far) in [
        ("box", "isp"),
        ("isp", "net"),
        ("isp", "vpn"),
        ("vpn", "net"),
    ] {
        let near_dev = if near == "box" { "eth0" } else { far };
        script += &format!(
            "ip link add {near_dev} netns {name}-{near} type veth peer name {near} netns {name}-{far}\n\
             ip -n {name}-{near} link set {near_dev} up\n\
             ip -n {name}-{far} link set {near} up\n"
        );
    }
    script
}

/// Without duplicate address detection link-local addresses are there at once, not between two
/// snapshots.
pub(super) fn no_dad(netns: &str) -> String {
    format!(
        "ip netns exec {netns} sh -c 'echo 0 | tee {CONF6}/all/accept_dad >{CONF6}/default/accept_dad'"
    )
}

/// What is to be run inside `ns`.
pub(super) fn inside(ns: Ns) -> String {
    let common = "
        echo 1 | tee /proc/sys/net/ipv6/conf/all/forwarding >/proc/sys/net/ipv4/ip_forward";
    let own = match ns {
        Ns::Box => "
            for dev in all default; do echo 1 >/proc/sys/net/ipv4/conf/$dev/rp_filter; done
            ip addr add 10.10.0.2/24 dev eth0
            ip addr add fd00:10::2/64 dev eth0 nodad
            ip route add default via 10.10.0.1
            ip -6 route add default via fd00:10::1"
            .to_owned(),
        Ns::Isp => isp(),
        Ns::Internet => internet(),
        Ns::Vpn => "
            ip addr add 10.30.0.2/24 dev isp
            ip addr add 10.40.0.1/24 dev net
            ip addr add fd00:40::1/64 dev net nodad
            ip route add default via 10.40.0.254
            ip -6 route add default via fd00:40::fe
            nft -f - <<'NFT'
            table inet vpn {
                chain postrouting {
                    type nat hook postrouting priority srcnat
                    oifname net masquerade
                }
            }\nNFT\n"
            .to_owned(),
    };
    let relaxed = "
        for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$file; done";
    match ns {
        Ns::Box => format!("{common}{own}"),
        _ => format!("{common}{relaxed}{own}"),
    }
}

fn isp() -> String {
    let (blocked_v4, blocked_v6) = (Range::Blocked.v4(), Range::Blocked.v6());
    format!(
        "
        ip addr add 10.10.0.1/24 dev box
        ip addr add fd00:10::1/64 dev box nodad
        ip addr add {DIRECT_V4}/24 dev net
        ip addr add {DIRECT_V6}/64 dev net nodad
        ip addr add 10.30.0.1/24 dev vpn
        ip route add default via 10.20.0.254
        ip -6 route add default via fd00:20::fe
        nft -f - <<'NFT'
        table inet isp {{
            counter blocked_tcp {{ }}
            counter blocked_udp {{ }}
            chain forward {{
                type filter hook forward priority filter
                iifname box ip daddr {blocked_v4} goto blocked
                iifname box ip6 daddr {blocked_v6} goto blocked
            }}
            chain blocked {{
                meta l4proto tcp counter name blocked_tcp reject with tcp reset
                meta l4proto udp counter name blocked_udp drop
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat
                oifname {{ net, vpn }} masquerade
            }}
        }}\nNFT\n"
    )
}

fn internet() -> String {
    // A whole range routed to loopback is an address for TCP, but for the source of an IPv6
    // datagram only with ip_nonlocal_bind.
    let mut script = format!(
        "
        echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind
        ip addr add 10.20.0.254/24 dev isp
        ip addr add fd00:20::fe/64 dev isp nodad
        ip addr add 10.40.0.254/24 dev vpn
        ip addr add fd00:40::fe/64 dev vpn nodad
        ip addr add {RESOLVER_V4}/32 dev lo
        ip addr add {RESOLVER_V6}/128 dev lo nodad
        ip addr add {PUBLIC_RESOLVER_V4}/32 dev lo
        ip addr add {TEST_RESOLVER_V4}/32 dev lo
        ip addr add {TEST_RESOLVER_V6}/128 dev lo nodad\n"
    );
    for range in Range::ALL {
        script += &format!("ip route add local {} dev lo\n", range.v4());
        script += &format!("ip -6 route add local {} dev lo\n", range.v6());
    }
    script
}
