//! What passes the wires: counted, and in words.

use std::{
    fs::{self, File},
    ops::RangeInclusive,
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    fixture::Fixture,
    lab::{
        Ns,
        plan::{self, Range},
    },
};

/// Packets to the servers, counted at the provider or at the VPN's far end.
#[derive(Debug)]
pub struct Wire {
    /// Of the names that are for the VPN.
    pub vpn: u64,
    /// Of the others.
    pub direct: u64,
}

impl Wire {
    const TABLE: &str = "leaks";

    /// Counts what comes in by an interface of a namespace for `numbers` alone, as what was begun before may still
    /// send, and for what the lab with Docker serves.
    pub fn watch(
        lab: &Fixture,
        ns: Ns,
        interface: &str,
        numbers: RangeInclusive<u16>,
    ) -> Result<()> {
        let (fresh, first, last) = (Range::Fresh, *numbers.start(), *numbers.end());
        let v4 = format!("{}-{}", fresh.host_v4(first), fresh.host_v4(last));
        let v6 = format!("{}-{}", fresh.host_v6(first), fresh.host_v6(last));
        let mut rules = String::new();
        let mut count = |path: &str, what: &str| {
            rules += &format!("iifname {interface} {what} counter comment {path}\n");
        };
        for (bit, path) in [(0, "vpn"), (1, "direct")] {
            count(
                path,
                &format!("ip daddr {v4} ip daddr & 0.0.0.1 == 0.0.0.{bit}"),
            );
            count(path, &format!("ip6 daddr {v6} ip6 daddr & ::1 == ::{bit}"));
        }
        for range in [Range::Blocked, Range::Refusing] {
            count("vpn", &format!("ip daddr {}", range.v4()));
            count("vpn", &format!("ip6 daddr {}", range.v6()));
        }
        for host in plan::HOSTS.iter().filter(|host| host.range == Range::Open) {
            count(
                "direct",
                &format!("ip daddr {}", host.range.host_v4(host.host)),
            );
            count(
                "direct",
                &format!("ip6 daddr {}", host.range.host_v6(host.host)),
            );
        }
        let table = Self::TABLE;
        let hook = "type filter hook prerouting priority -400;";
        let text = format!("table inet {table} {{\nchain in {{ {hook}\n{rules} }}\n}}\n");
        let line = format!("echo '{text}' | nft -f -");
        lab.lab.shell(ns, &line).map(drop)
    }

    /// What was counted, and counts no more.
    pub fn take(lab: &Fixture, ns: Ns) -> Result<Self> {
        let list = ["nft", "-j", "list", "table", "inet", Self::TABLE];
        let listed: serde_json::Value = serde_json::from_str(&lab.lab.run(ns, &list)?.stdout()?)?;
        let objects = listed["nftables"].as_array().context("nft lists objects")?;
        let count = |path: &str| -> u64 {
            let rules = objects.iter().map(|object| &object["rule"]);
            rules
                .filter(|rule| rule["comment"] == path)
                .flat_map(|rule| rule["expr"].as_array().into_iter().flatten())
                .filter_map(|statement| statement["counter"]["packets"].as_u64())
                .sum()
        };
        let delete = ["nft", "delete", "table", "inet", Self::TABLE];
        lab.lab.run(ns, &delete)?.stdout()?;
        Ok(Self {
            vpn: count("vpn"),
            direct: count("direct"),
        })
    }
}

/// What of the VPN's goes to the provider, in words.
pub struct Capture {
    child: Child,
    text: PathBuf,
}

impl Capture {
    pub fn begin(lab: &Fixture) -> Result<Self> {
        let mut is_wrong = vec![
            // The even ones.
            format!("(dst net {} and ip[19] & 1 == 0)", Range::Fresh.v4()),
            format!("(dst net {} and ip6[39] & 1 == 0)", Range::Fresh.v6()),
        ];
        for range in [Range::Blocked, Range::Refusing] {
            is_wrong.extend([range.v4(), range.v6()].map(|net| format!("dst net {net}")));
        }
        let text = lab.lab.dir().join("capture");
        let child = lab
            .lab
            .command(Ns::Isp, "tcpdump")?
            .args(["-i", "box", "-n", "-tt", "-l", "-v"])
            .arg(is_wrong.join(" or "))
            .stdin(Stdio::null())
            .stdout(File::create(&text)?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start tcpdump: is it installed?")?;
        Ok(Self { child, text })
    }

    /// The first of them.
    pub fn end(self) -> Result<String> {
        let text = fs::read_to_string(&self.text)?;
        Ok(text.lines().take(40).collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
