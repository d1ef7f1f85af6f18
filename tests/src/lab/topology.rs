//! The namespaces, links, addresses and routes, as the commands one would type.
//!
//! Each namespace takes one `ip` process for all of its commands: starting a process is what
//! takes the time where the processor is emulated.

use std::{fmt::Write as _, fs, process::Command};

use anyhow::{Context, Result};

use super::{
    Lab,
    exec::{Ran, within},
    plan::{
        DIRECT_V4, DIRECT_V6, PUBLIC_RESOLVER_V4, RESOLVER_V4, RESOLVER_V6, Range,
        TEST_RESOLVER_V4, TEST_RESOLVER_V6,
    },
};

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

/// Makes the namespaces, joins them, and gives them addresses and routes.
pub(super) fn build(lab: &Lab) -> Result<()> {
    let name = &lab.name;
    let mut add = String::new();
    for ns in Ns::ALL {
        let _ = writeln!(add, "netns add {name}-{}", ns.suffix());
    }
    ip(Command::new("ip"), &add)?;
    // Before there are links, which take the defaults.
    for ns in Ns::ALL {
        within(&lab.netns(ns), || sysctls(ns))??;
    }
    let mut links = String::new();
    for (near, far) in [
        ("box", "isp"),
        ("isp", "net"),
        ("isp", "vpn"),
        ("vpn", "net"),
    ] {
        let near_dev = if near == "box" { "eth0" } else { far };
        let _ = writeln!(
            links,
            "link add {near_dev} netns {name}-{near} type veth peer name {near} netns {name}-{far}"
        );
    }
    ip(Command::new("ip"), &links)?;
    for ns in Ns::ALL {
        ip(lab.command(ns, "ip")?, &inside(ns))?;
    }
    nft(lab.command(Ns::Isp, "nft")?, &blocking())?;
    nft(lab.command(Ns::Vpn, "nft")?, MASQUERADE)
}

/// Runs a batch of `ip` commands in one process; the error names the one that failed.
pub(super) fn ip(mut command: Command, batch: &str) -> Result<()> {
    let ran = Ran::fed(command.args(["-batch", "-"]), batch)?;
    let failed = ran.stderr.rsplit_once("Command failed -:");
    let line = failed
        .and_then(|(_, number)| number.trim().parse::<usize>().ok())
        .and_then(|number| batch.lines().nth(number.checked_sub(1)?));
    let line = line.unwrap_or("-batch").trim().to_owned();
    ran.stdout()
        .map(drop)
        .with_context(|| format!("`ip {line}` failed"))
}

/// Has nft take in rules.
pub(super) fn nft(mut command: Command, rules: &str) -> Result<()> {
    Ran::fed(command.args(["-f", "-"]), rules)?
        .stdout()
        .map(drop)
}

/// Writes a sysctl of the namespace that this thread is in, a path below `/proc/sys/net`.
fn set(path: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/net/{path}");
    fs::write(&file, value).with_context(|| format!("cannot write {value} to {file}"))
}

/// Without duplicate address detection link-local addresses are there at once, not between two
/// snapshots.
pub(super) fn no_dad() -> Result<()> {
    set("ipv6/conf/all/accept_dad", "0")?;
    set("ipv6/conf/default/accept_dad", "0")
}

fn sysctls(ns: Ns) -> Result<()> {
    no_dad()?;
    set("ipv6/conf/all/forwarding", "1")?;
    set("ipv4/ip_forward", "1")?;
    let filter = if ns == Ns::Box { "1" } else { "0" };
    for dev in ["all", "default", "lo"] {
        set(&format!("ipv4/conf/{dev}/rp_filter"), filter)?;
    }
    if ns == Ns::Internet {
        // A whole range routed to loopback is an address for TCP, but for the source of an IPv6
        // datagram only with this.
        set("ipv6/ip_nonlocal_bind", "1")?;
    }
    Ok(())
}

fn inside(ns: Ns) -> String {
    let own = match ns {
        Ns::Box => "
            link set eth0 up
            addr add 10.10.0.2/24 dev eth0
            addr add fd00:10::2/64 dev eth0 nodad
            route add default via 10.10.0.1
            route add ::/0 via fd00:10::1"
            .to_owned(),
        Ns::Isp => format!(
            "
            link set box up
            link set net up
            link set vpn up
            addr add 10.10.0.1/24 dev box
            addr add fd00:10::1/64 dev box nodad
            addr add {DIRECT_V4}/24 dev net
            addr add {DIRECT_V6}/64 dev net nodad
            addr add 10.30.0.1/24 dev vpn
            route add default via 10.20.0.254
            route add ::/0 via fd00:20::fe"
        ),
        Ns::Internet => internet(),
        Ns::Vpn => "
            link set isp up
            link set net up
            addr add 10.30.0.2/24 dev isp
            addr add 10.40.0.1/24 dev net
            addr add fd00:40::1/64 dev net nodad
            route add default via 10.40.0.254
            route add ::/0 via fd00:40::fe"
            .to_owned(),
    };
    format!("link set lo up{own}\n")
}

const MASQUERADE: &str = "
    table inet vpn {
        chain postrouting {
            type nat hook postrouting priority srcnat
            oifname net masquerade
        }
    }";

fn blocking() -> String {
    let (blocked_v4, blocked_v6) = (Range::Blocked.v4(), Range::Blocked.v6());
    format!(
        "
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
        }}"
    )
}

fn internet() -> String {
    let mut batch = format!(
        "
        link set isp up
        link set vpn up
        addr add 10.20.0.254/24 dev isp
        addr add fd00:20::fe/64 dev isp nodad
        addr add 10.40.0.254/24 dev vpn
        addr add fd00:40::fe/64 dev vpn nodad
        addr add {RESOLVER_V4}/32 dev lo
        addr add {RESOLVER_V6}/128 dev lo nodad
        addr add {PUBLIC_RESOLVER_V4}/32 dev lo
        addr add {TEST_RESOLVER_V4}/32 dev lo
        addr add {TEST_RESOLVER_V6}/128 dev lo nodad"
    );
    for range in Range::ALL {
        let (v4, v6) = (range.v4(), range.v6());
        let _ = write!(
            batch,
            "\nroute add local {v4} dev lo\nroute add local {v6} dev lo"
        );
    }
    batch
}
