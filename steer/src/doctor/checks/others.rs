//! Other software that steers traffic.

use crate::doctor::{
    facts::Facts,
    finding::{Check, Finding},
};

pub(super) const STEERING: Check =
    Check::new("other-steering", "other software that steers traffic");

/// How one is known, and what to watch for.
struct Other {
    name: &'static str,
    /// Names of processes, as the kernel cuts them.
    processes: &'static [&'static str],
    /// What names of its interfaces begin with.
    interfaces: &'static [&'static str],
    watch: Watch,
}

/// What to watch for.
enum Watch {
    /// Nothing: it was tried, or its numbers are others.
    Nothing(&'static str),
    /// This.
    For(&'static str),
}

use Watch::{For, Nothing};

const OTHERS: [Other; 12] = [
    Other {
        name: "Tailscale",
        processes: &["tailscaled"],
        interfaces: &["tailscale"],
        watch: For(
            "its interface is a tun like a VPN's: name yours, [vpn] interface. Its marks are others. An exit node takes the default route by a rule that comes before steer's, of priority 5270, and then takes the VPN's flows too",
        ),
    },
    Other {
        name: "Clash, mihomo or sing-box",
        processes: &["clash", "clash-meta", "mihomo", "sing-box", "verge-mihomo"],
        interfaces: &["Meta", "utun", "clash", "sing-tun"],
        watch: For(
            "with its tun and auto-route it takes every flow of the host, steered ones too; with fake-ip its DNS gives addresses that exist only in it. Let it be a proxy without tun, or name its tun as the VPN",
        ),
    },
    Other {
        name: "V2Ray or Xray",
        processes: &["v2ray", "xray"],
        interfaces: &["xray"],
        watch: For(
            "transparent proxying (TPROXY or REDIRECT rules) takes packets before they are routed by steer's mark: take those rules away for what steer steers",
        ),
    },
    Other {
        name: "dae",
        processes: &["dae"],
        interfaces: &["dae0"],
        watch: For(
            "it steers by eBPF at the same hooks of bridges: bind it to other interfaces (lan_interface) than those of Docker's networks",
        ),
    },
    Other {
        name: "redsocks",
        processes: &["redsocks", "redsocks2"],
        interfaces: &[],
        watch: For(
            "its REDIRECT rules send connections to a local port, where their names are no more steer's to judge",
        ),
    },
    Other {
        name: "Cilium",
        processes: &["cilium-agent"],
        interfaces: &["cilium_"],
        watch: For(
            "its pods are on no bridge, and are not steered; its own programs on the network card come after steer's routing",
        ),
    },
    Other {
        name: "Calico",
        processes: &["calico-node", "calico-felix"],
        interfaces: &["cali", "vxlan.calico"],
        watch: Nothing("its pods are on no bridge, and are not steered; its marks are others"),
    },
    Other {
        name: "kube-proxy",
        processes: &["kube-proxy"],
        interfaces: &["kube-ipvs"],
        watch: Nothing("its marks 0x4000 and 0x8000 are others"),
    },
    Other {
        name: "firewalld",
        processes: &["firewalld"],
        interfaces: &[],
        watch: Nothing("steer's table stands beside its own, and survives its reload"),
    },
    Other {
        name: "Netbird",
        processes: &["netbird"],
        interfaces: &["wt0"],
        watch: For("its interface is WireGuard like a VPN's: name yours, [vpn] interface"),
    },
    Other {
        name: "Cloudflare WARP",
        processes: &["warp-svc"],
        interfaces: &["CloudflareWARP"],
        watch: For(
            "it takes the default route by rules of its own and sets the host's resolver to itself; use its mode \"proxy\" or exclude what steer steers",
        ),
    },
    Other {
        name: "Mullvad's app",
        processes: &["mullvad-daemon"],
        interfaces: &["wg0-mullvad"],
        watch: For(
            "its firewall drops what does not take its VPN, direct flows too; use a WireGuard configuration file of Mullvad's rather than the app",
        ),
    },
];

/// Programs that fill sets of addresses from the DNS, for rules that mark.
const SETS: [&str; 2] = ["@dnsmasq", "--match-set"];

pub(super) fn steering(facts: &Facts) -> Finding {
    let runs = |other: &&Other| {
        let by_process = other
            .processes
            .iter()
            .any(|name| facts.processes.contains(*name));
        let mut links = facts.all_links().iter();
        let by_interface = links.any(|link| {
            other
                .interfaces
                .iter()
                .any(|begin| link.name.starts_with(begin))
        });
        by_process || by_interface
    };
    let found: Vec<_> = OTHERS.iter().filter(runs).collect();
    let mut known = Vec::new();
    let mut watch = Vec::new();
    for other in &found {
        known.push(other.name.to_owned());
        match other.watch {
            For(what) => watch.push(format!("{}: {what}", other.name)),
            Nothing(_) => {}
        }
    }
    let filters = facts.filters.as_deref().unwrap_or_default();
    if SETS.iter().any(|set| filters.contains(set)) {
        known.push("a firewall with sets of addresses".to_owned());
        watch.push("a firewall with sets of addresses: if its rules mark what dnsmasq or ipset put there for a routing rule, two steer the same flows; leave such names to one of them".to_owned());
    }
    if watch.is_empty() {
        let harmless = found.iter().map(|other| match other.watch {
            Nothing(why) | For(why) => format!("{}: {why}", other.name),
        });
        let harmless: Vec<_> = harmless.collect();
        return STEERING.well(if harmless.is_empty() {
            "none that is known".to_owned()
        } else {
            harmless.join("; ")
        });
    }
    STEERING.advice(super::list(&known), watch.join(". "))
}
