//! The host that the tests are about.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::{Result, ensure};
use steer::route::{IfIndex, Numbers, OnDown, Plan, Routing, Taken, Tunnel, Vpn, Wanted, plan};
use tempfile::TempDir;

use crate::netns::{add_link, assert_same, ip, set_rp_filter, snapshot};

pub const MARKED: &str = "198.51.100.7 mark 0x1000";
pub const MARKED_V6: &str = "2001:db8::7 mark 0x1000";
pub const UNMARKED: &str = "198.51.100.7";

/// A host with a direct uplink `up0` and a VPN `vpn0`, both families on both.
pub struct Host {
    pub vpn: Vpn,
    pub run_dir: TempDir,
    pub before: String,
}

impl Host {
    pub fn new() -> Result<Self> {
        add_link("up0", &["192.0.2.2/24", "fd00:1::2/64"])?;
        ip("route add default via 192.0.2.1")?;
        ip("-6 route add default via fd00:1::1")?;
        let vpn = vpn("vpn0", &[Ipv4Addr::new(10, 8, 0, 2)], &["fd00:8::2"])?;
        set_rp_filter("vpn0", 1)?;
        let run_dir = tempfile::tempdir()?;
        let before = snapshot(run_dir.path())?;
        Ok(Self {
            vpn,
            run_dir,
            before,
        })
    }

    /// Takes what is there now for how the host was before.
    pub fn look_again(&mut self) -> Result<()> {
        self.before = snapshot(self.run_dir.path())?;
        Ok(())
    }

    pub fn plan(&self) -> Plan {
        blocking(Some(self.vpn.clone()))
    }

    pub async fn open(&self) -> Result<Routing> {
        Ok(Routing::open(self.run_dir.path(), Numbers::default()).await?)
    }

    pub async fn applied(&self) -> Result<Routing> {
        let mut routing = self.open().await?;
        ensure!(!routing.apply(&self.plan()).await?.is_empty());
        Ok(routing)
    }

    pub fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }

    #[track_caller]
    pub fn assert_as_before(&self) {
        let now = snapshot(self.run_dir()).unwrap_or_else(|error| panic!("{error:#}"));
        assert_same(&self.before, &now);
    }
}

pub fn vpn(name: &str, v4: &[Ipv4Addr], v6: &[&str]) -> Result<Vpn> {
    let v6 = v6
        .iter()
        .map(|address| address.parse())
        .collect::<Result<Vec<Ipv6Addr>, _>>()?;
    let addresses: Vec<_> = v4
        .iter()
        .map(|a| format!("{a}/24"))
        .chain(v6.iter().map(|a| format!("{a}/64")))
        .collect();
    let index = add_link(
        name,
        &addresses.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    Ok(Vpn {
        name: name.into(),
        index: IfIndex(index),
        up: true,
        v4: v4.to_vec(),
        v6,
    })
}

pub fn wanted(vpn: Option<Vpn>, on_down: OnDown) -> Plan {
    plan(&wishes(vpn, on_down))
}

pub fn wishes(vpn: Option<Vpn>, on_down: OnDown) -> Wanted {
    Wanted {
        tunnels: vec![Tunnel {
            sources: vpn.iter().flat_map(Vpn::addresses).collect(),
            vpn,
            on_down,
        }],
        networks: Vec::new(),
        dns: Vec::new(),
        forwards: Vec::new(),
        taken: Taken::default(),
        newest: IfIndex(0),
        numbers: Numbers::default(),
    }
}

pub fn blocking(vpn: Option<Vpn>) -> Plan {
    wanted(vpn, OnDown::Block)
}
