//! What is applied is what the kernel does, and stays so whatever the VPN does.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;
use steer::route::{Event, OnDown, Vpn, watch};

use crate::{
    host::{Host, MARKED, MARKED_V6, UNMARKED, blocking, vpn, wanted},
    netns::{self, assert_same, ip, rp_filter, set_rp_filter, sh, snapshot, way},
};

#[test]
fn marked_packets_take_the_vpn_and_nothing_else_does() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let mut routing = host.applied().await?;
        assert_eq!(way(MARKED)?, "vpn0");
        assert_eq!(way(MARKED_V6)?, "vpn0");
        assert_eq!(way(UNMARKED)?, "up0");
        assert_eq!(way("198.51.100.7 mark 0x2000")?, "up0");
        assert_eq!(
            way("198.51.100.7 mark 0x91000")?,
            "vpn0",
            "bits outside of the mask are others'"
        );
        assert_eq!(way("198.51.100.7 from 10.8.0.2 ipproto udp")?, "vpn0");
        assert_eq!(way("2001:db8::7 from fd00:8::2 ipproto udp")?, "vpn0");
        assert_eq!(way("198.51.100.7 from 10.8.0.2 ipproto tcp")?, "vpn0");
        assert_eq!(
            way("192.0.2.7 from 10.8.0.2")?,
            "up0",
            "who is on a network of the host's asked from there"
        );
        assert_eq!(rp_filter("vpn0")?, "2");
        let ruleset = sh("nft", "list ruleset")?;
        assert!(
            ruleset.contains("meta mark & 0x00003000 == 0x00001000 oifname \"vpn0\" masquerade"),
            "{ruleset}"
        );

        let again = routing.apply(&host.plan()).await?;
        assert_eq!(again, [], "a second time changes nothing");
        routing.remove().await?;
        host.assert_as_before();
        Ok(())
    })
}

#[test]
fn a_vpn_that_goes_down_blocks_before_anybody_acts() -> Result<()> {
    netns::run(async || {
        let mut host = Host::new()?;
        let mut routing = host.applied().await?;
        ip("link set vpn0 down")?;
        assert_eq!(way(MARKED)?, "refused");
        assert_eq!(way(MARKED_V6)?, "refused");
        assert_eq!(way("198.51.100.7 from 10.8.0.2 ipproto udp")?, "refused");
        host.vpn.up = false;
        // IPv6 addresses go with the link.
        host.vpn.v6.clear();
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "refused");
        ip("link del vpn0")?;
        routing.apply(&blocking(None)).await?;
        assert_eq!(way(MARKED)?, "refused");
        assert_eq!(way(MARKED_V6)?, "refused");
        assert_eq!(way(UNMARKED)?, "up0");

        host.vpn = vpn("vpn0", &[Ipv4Addr::new(10, 8, 0, 9)], &[])?;
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "vpn0");
        assert_eq!(way(MARKED_V6)?, "refused", "the VPN carries IPv4 alone");
        routing.remove().await?;
        ip("link del vpn0")?;
        let after = snapshot(host.run_dir())?;
        assert!(
            !after.contains("7350") && !after.contains("steer"),
            "{after}"
        );
        Ok(())
    })
}

#[test]
fn a_vpn_that_goes_down_while_a_plan_is_applied_blocks() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let mut routing = host.open().await?;
        ip("link set vpn0 down")?;
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "refused");
        assert_eq!(way(MARKED_V6)?, "refused");
        ip("link set vpn0 up")?;
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "vpn0");
        assert_eq!(way(MARKED_V6)?, "vpn0");

        ip("link del vpn0")?;
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "refused");
        Ok(())
    })
}

#[test]
fn direct_while_down_is_the_users_choice() -> Result<()> {
    netns::run(async || {
        let mut host = Host::new()?;
        let mut routing = host.open().await?;
        let direct = |vpn: &Vpn| wanted(Some(vpn.clone()), OnDown::Direct);
        routing.apply(&direct(&host.vpn)).await?;
        assert_eq!(way(MARKED)?, "vpn0");
        ip("link set vpn0 down")?;
        assert_eq!(way(MARKED)?, "up0");
        host.vpn.up = false;
        routing.apply(&direct(&host.vpn)).await?;
        assert_eq!(way(MARKED)?, "up0");
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "refused");
        routing.apply(&direct(&host.vpn)).await?;
        assert_eq!(way(MARKED)?, "up0");
        Ok(())
    })
}

#[test]
fn follows_the_vpn_to_another_address_name_and_interface() -> Result<()> {
    netns::run(async || {
        let mut host = Host::new()?;
        let mut routing = host.applied().await?;
        ip("address add 10.8.0.3/24 dev vpn0")?;
        ip("address del 10.8.0.2/24 dev vpn0")?;
        host.vpn.v4 = vec![Ipv4Addr::new(10, 8, 0, 3)];
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "vpn0");
        assert!(!ip("rule")?.contains("10.8.0.2"));

        ip("link set vpn0 down")?;
        ip("link set vpn0 name vpn.7")?;
        ip("link set vpn.7 up")?;
        ip("address add fd00:8::2/64 dev vpn.7 nodad")?;
        host.vpn.name = "vpn.7".into();
        routing.apply(&host.plan()).await?;
        assert_eq!(way(MARKED)?, "vpn.7");
        assert_eq!(rp_filter("vpn.7")?, "2");

        let other = vpn("vpn1", &[Ipv4Addr::new(10, 9, 0, 2)], &[])?;
        set_rp_filter("vpn1", 1)?;
        routing.apply(&blocking(Some(other))).await?;
        assert_eq!(way(MARKED)?, "vpn1");
        assert_eq!(way(MARKED_V6)?, "refused");
        assert_eq!(rp_filter("vpn.7")?, "1", "put back when the VPN moved on");
        assert!(!sh("nft", "list ruleset")?.contains("vpn.7"));
        routing.remove().await?;
        assert_eq!(rp_filter("vpn1")?, "1");
        Ok(())
    })
}

#[test]
fn what_somebody_deletes_is_noticed_and_made_again() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let mut routing = host.applied().await?;
        let applied = snapshot(host.run_dir())?;
        let mut watch = watch()?;
        let mut next = async || tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
        ip("rule add priority 55 lookup main")?;
        ip("rule del priority 7355")?;
        assert_eq!(
            next().await?,
            Some(Event::Routing),
            "the foreign rule before it is none of ours"
        );
        ip("route flush table 7350")?;
        assert_eq!(next().await?, Some(Event::Routing));
        sh("nft", "add table inet other")?;
        sh("nft", "flush table inet steer")?;
        while next().await? != Some(Event::Nft) {}
        while tokio::time::timeout(Duration::from_millis(50), next())
            .await
            .is_ok()
        {}
        sh("nft", "flush ruleset")?;
        assert_eq!(next().await?, Some(Event::Nft));
        assert_eq!(way(MARKED)?, "up0");
        ip("rule del priority 55")?;
        routing.apply(&host.plan()).await?;
        assert_same(&applied, &snapshot(host.run_dir())?);
        ip("address add 10.8.0.5/24 dev vpn0")?;
        while next().await? != Some(Event::Address) {}
        ip("link set vpn0 down")?;
        while next().await? != Some(Event::Link) {}
        Ok(())
    })
}
