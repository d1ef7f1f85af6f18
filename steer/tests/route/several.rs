//! Several VPNs, each with its mark and its table.

use std::net::Ipv4Addr;

use anyhow::Result;
use steer::route::{
    DnsRule, Forward, Mark, Numbers, OnDown, Protocol, Routing, Tunnel, Vpn, VpnId, Wanted,
    cleanup, plan,
};

use crate::{
    host::{Host, MARKED, MARKED_V6, UNMARKED, vpn, wishes},
    netns::{self, ip, rp_filter, set_rp_filter, sh, way},
};

const OTHER: &str = "198.51.100.7 mark 0x3000";
const THIRD: &str = "198.51.100.7 mark 0x4000";

fn tunnel(vpn: Option<Vpn>, on_down: OnDown) -> Tunnel {
    Tunnel {
        sources: vpn.iter().flat_map(Vpn::addresses).collect(),
        vpn,
        on_down,
    }
}

/// `vpn0` and `vpn1`.
fn two() -> Result<(Host, Wanted)> {
    let mut host = Host::new()?;
    let other = vpn("vpn1", &[Ipv4Addr::new(10, 9, 0, 2)], &[])?;
    set_rp_filter("vpn1", 1)?;
    host.look_again()?;
    let mut wanted = wishes(Some(host.vpn.clone()), OnDown::Block);
    wanted.tunnels.push(tunnel(Some(other), OnDown::Block));
    wanted.numbers.vpns = 2;
    Ok((host, wanted))
}

#[test]
fn each_has_its_own_way() -> Result<()> {
    netns::run(async || {
        let (host, mut wanted) = two()?;
        wanted.dns = vec![DnsRule {
            bridge: "br0".into(),
            source: None,
            within: Vec::new(),
            servers: vec!["10.9.0.53".parse()?],
            vpn: VpnId(1),
        }];
        wanted.forwards = vec![Forward {
            protocol: Protocol::Tcp,
            port: 8080,
            to: "172.17.0.2".parse()?,
            to_port: 80,
            bridge: "br0".into(),
            vpn: VpnId(1),
        }];
        wanted.networks = vec!["172.17.0.0/16".parse()?];
        let mut routing = Routing::open(host.run_dir(), wanted.numbers).await?;
        routing.apply(&plan(&wanted)).await?;
        assert_eq!(way(MARKED)?, "vpn0");
        assert_eq!(way(OTHER)?, "vpn1");
        assert_eq!(way(UNMARKED)?, "up0");
        assert_eq!(way("198.51.100.7 mark 0x2000")?, "up0");
        assert_eq!(way("198.51.100.7 from 10.8.0.2 ipproto udp")?, "vpn0");
        assert_eq!(way("198.51.100.7 from 10.9.0.2 ipproto udp")?, "vpn1");
        assert_eq!(way(MARKED_V6)?, "vpn0");
        assert_eq!(way("2001:db8::7 mark 0x3000")?, "refused");
        assert_eq!([rp_filter("vpn0")?, rp_filter("vpn1")?], ["2", "2"]);
        let ruleset = sh("nft", "list table inet steer")?;
        for rule in [
            "meta mark & 0x00003000 == 0x00001000 oifname \"vpn0\" masquerade",
            "meta mark & 0x00003000 == 0x00003000 oifname \"vpn1\" masquerade",
            "iifname \"vpn1\" fib daddr",
        ] {
            assert!(ruleset.contains(rule), "{rule}: {ruleset}");
        }
        assert_eq!(routing.apply(&plan(&wanted)).await?, [], "all is there");

        ip("link set vpn1 down")?;
        assert_eq!(way(OTHER)?, "refused");
        assert_eq!(way(MARKED)?, "vpn0");
        wanted.tunnels[1].on_down = OnDown::Direct;
        if let Some(vpn) = &mut wanted.tunnels[1].vpn {
            vpn.up = false;
        }
        routing.apply(&plan(&wanted)).await?;
        assert_eq!(way(OTHER)?, "up0", "as its on_down says");
        ip("link set vpn0 down")?;
        assert_eq!(way(MARKED)?, "refused", "as the other's says");
        routing.remove().await?;
        let after = sh("ip", "rule")?;
        assert!(!after.contains("735"), "{after}");
        Ok(())
    })
}

#[test]
fn another_run_takes_over_what_more_of_them_left() -> Result<()> {
    netns::run(async || {
        let (host, mut wanted) = two()?;
        wanted.numbers.mark = Mark::new(0x1000, 0x7000)?;
        wanted.numbers.vpns = 3;
        wanted.tunnels.push(tunnel(None, OnDown::Block));
        wanted.tunnels.swap(1, 2);
        let mut routing = Routing::open(host.run_dir(), wanted.numbers).await?;
        routing.apply(&plan(&wanted)).await?;
        assert_eq!(way(THIRD)?, "refused");
        assert_eq!(way("198.51.100.7 mark 0x5000")?, "vpn1");
        std::mem::forget(routing);

        let mut routing = Routing::open(host.run_dir(), wanted.numbers).await?;
        let mut kept = [0, 1, 2].map(|place| routing.sources(VpnId(place)).len());
        assert_eq!(kept, [2, 0, 1]);
        assert_eq!(routing.apply(&plan(&wanted)).await?, []);
        std::mem::forget(routing);

        let mut routing = Routing::open(host.run_dir(), Numbers::default()).await?;
        kept = [0, 1, 2].map(|place| routing.sources(VpnId(place)).len());
        assert_eq!(kept[0], 2);
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "vpn0");
        assert_eq!(way(THIRD)?, "up0");
        routing.remove().await?;
        host.assert_as_before();

        let mut routing = Routing::open(host.run_dir(), wanted.numbers).await?;
        routing.apply(&plan(&wanted)).await?;
        std::mem::forget(routing);
        cleanup(host.run_dir(), Numbers::default()).await?;
        host.assert_as_before();
        Ok(())
    })
}
