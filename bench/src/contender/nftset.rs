//! dnsmasq with `nftset`, nftables with marks kept by conntrack, a routing rule: as people build it.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::Result;
use steer_tests::lab::Ns;

use super::{Kept, Part, ip, process, resolve_as_before, resolve_by, suffixes};
use crate::{
    load::server::RESOLVER,
    stage::{BRIDGE_V4, Stage, Who, at},
};

/// The dnsmasq of the box, and what follows from it.
pub struct Resolver {
    dnsmasq: process::Process,
}

/// The routing table of what is marked.
const TABLE: &str = "100";

impl Resolver {
    pub fn up(stage: &Stage) -> Result<Self> {
        let vpn = stage.lab.tunnel_interface();
        let dir = stage.lab.dir();
        let rules = dir.join("bench.nft");
        fs::write(&rules, ruleset(vpn))?;
        // The reverse path filter would take answers by the VPN for forged ones.
        stage.lab.shell(
            Ns::Box,
            &format!(
                "nft -f {}
                 sysctl -qw net.ipv4.conf.{vpn}.rp_filter=2
                 ip route add default dev {vpn} table {TABLE}
                 ip rule add fwmark 1 lookup {TABLE} priority 100",
                rules.display()
            ),
        )?;
        let config = dir.join("bench-dnsmasq.conf");
        fs::write(&config, configuration()?)?;
        let mut command = stage.lab.command(Ns::Box, "dnsmasq")?;
        command
            .arg("--keep-in-foreground")
            .arg(format!("--conf-file={}", config.display()))
            .arg("--pid-file");
        let mut dnsmasq =
            process::Process::start("dnsmasq", command, dir.join("bench-dnsmasq.log"))?;
        dnsmasq.wait(|| {
            let listening = stage.lab.run(Ns::Box, &["ss", "-Huln", "sport = :53"]);
            listening.is_ok_and(|ran| ran.stdout.contains(&BRIDGE_V4.to_string()))
        })?;
        resolve_by(stage, Ipv4Addr::LOCALHOST)?;
        Ok(Self { dnsmasq })
    }
}

impl Part for Resolver {
    fn resolver(&self, who: Who) -> SocketAddr {
        at(who, 53)
    }

    fn memory(&self, _stage: &Stage) -> Result<Vec<Kept>> {
        Ok(vec![Kept {
            whose: "processes",
            octets: process::resident(self.dnsmasq.pid())?,
        }])
    }

    fn down(self: Box<Self>, stage: &Stage) -> Result<()> {
        resolve_as_before(stage)?;
        self.dnsmasq.end()?;
        let vpn = stage.lab.tunnel_interface();
        ip(
            stage,
            &[
                format!("rule del fwmark 1 lookup {TABLE} priority 100"),
                format!("route flush table {TABLE}"),
            ],
        )?;
        // What the box has for all interfaces.
        stage.lab.shell(
            Ns::Box,
            &format!("nft delete table inet bench; sysctl -qw net.ipv4.conf.{vpn}.rp_filter=1"),
        )?;
        Ok(())
    }
}

fn configuration() -> Result<String> {
    let mut text = format!(
        "no-resolv\nno-hosts\nuser=root\nlog-facility=-\nbind-interfaces\ncache-size=10000\ndns-forward-max=1000\n\
         listen-address=127.0.0.1,{BRIDGE_V4}\nserver={RESOLVER}\n"
    );
    for suffix in suffixes() {
        writeln!(
            text,
            "nftset=/{suffix}/4#inet#bench#blocked4,6#inet#bench#blocked6"
        )?;
    }
    Ok(text)
}

/// What goes to an address of the sets is marked, and the mark is kept by its connection, so that sets are looked into once.
fn ruleset(vpn: &str) -> String {
    let decide = "
        meta mark set ct mark
        meta mark != 0 return
        ct state != new return
        ip daddr @blocked4 meta mark set 1
        ip6 daddr @blocked6 meta mark set 1
        ct mark set meta mark";
    format!(
        "table inet bench {{
            set blocked4 {{ type ipv4_addr; size 1048576; }}
            set blocked6 {{ type ipv6_addr; size 1048576; }}
            chain prerouting {{
                type filter hook prerouting priority mangle
                iifname {vpn} return
                {decide}
            }}
            chain output {{
                type route hook output priority mangle
                {decide}
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat
                oifname {vpn} masquerade
            }}
        }}\n"
    )
}
