//! What goes direct goes past a VPN that has taken the default route, whichever way it took it.

use anyhow::Result;
use steer::route::{Family, IfIndex, Numbers, OnDown, Plan, Taken, Tunnel, Wanted, plan, taken};

use crate::{
    host::{Host, MARKED, MARKED_V6, UNMARKED},
    netns::{self, ip, rp_filter, set_rp_filter, way},
};

const PAST: &str = "198.51.100.7 mark 0x2000";
const PAST_V6: &str = "2001:db8::7 mark 0x2000";
const UNMARKED_V6: &str = "2001:db8::7";

/// OpenVPN's `redirect-gateway def1 ipv6`.
const HALVES: [&str; 6] = [
    "route add 0.0.0.0/1 dev vpn0",
    "route add 128.0.0.0/1 dev vpn0",
    "-6 route add ::/3 dev vpn0",
    "-6 route add 2000::/4 dev vpn0",
    "-6 route add 3000::/4 dev vpn0",
    "-6 route add fc00::/7 dev vpn0",
];
/// `wg-quick up` with `AllowedIPs = 0.0.0.0/0, ::/0`.
const BY_RULES: [&str; 6] = [
    "route add default dev vpn0 table 51820",
    "rule add not fwmark 51820 table 51820",
    "rule add table main suppress_prefixlength 0",
    "-6 route add default dev vpn0 table 51820",
    "-6 rule add not fwmark 51820 table 51820",
    "-6 rule add table main suppress_prefixlength 0",
];
/// A default route that wins over the host's own.
const BETTER: [&str; 3] = [
    "route add default dev vpn0 metric 0",
    "-6 route del default via fd00:1::1",
    "-6 route add default dev vpn0 metric 1",
];

/// A host whose own default routes have a metric, as DHCP's have.
fn host() -> Result<Host> {
    let mut host = Host::new()?;
    ip("route replace default via 192.0.2.1 metric 100")?;
    ip("route del default via 192.0.2.1 metric 0")?;
    set_rp_filter("up0", 1)?;
    host.look_again()?;
    Ok(host)
}

async fn plan_of(host: &Host) -> Result<(Plan, Taken)> {
    let taken = taken(&[host.vpn.index]).await?;
    let plan = plan(&Wanted {
        tunnels: vec![Tunnel {
            vpn: Some(host.vpn.clone()),
            sources: host.vpn.addresses().collect(),
            on_down: OnDown::Block,
        }],
        networks: Vec::new(),
        dns: Vec::new(),
        forwards: Vec::new(),
        taken: taken.clone(),
        newest: IfIndex(0),
        numbers: Numbers::default(),
    });
    Ok((plan, taken))
}

async fn goes_past(commands: &[&str], has_v6: bool) -> Result<()> {
    let mut host = host()?;
    for command in commands {
        ip(command)?;
    }
    host.look_again()?;
    assert_eq!(way(UNMARKED)?, "vpn0");
    assert_eq!(way(UNMARKED_V6)?, "vpn0");
    let mut routing = host.open().await?;
    let (plan, taken) = plan_of(&host).await?;
    assert_eq!(taken.families.len(), 2, "{taken:?}");
    routing.apply(&plan).await?;

    assert_eq!(way(PAST)?, "up0");
    assert_eq!(way(PAST_V6)?, if has_v6 { "up0" } else { "vpn0" });
    assert_eq!(way(UNMARKED)?, "vpn0", "what is not steered is left alone");
    assert_eq!(way(UNMARKED_V6)?, "vpn0");
    assert_eq!(way(MARKED)?, "vpn0");
    assert_eq!(way(MARKED_V6)?, "vpn0");
    // A network that the VPN leads to is no part of the default route.
    ip("route add 198.51.100.0/24 dev vpn0")?;
    assert_eq!(way(PAST)?, "vpn0");
    ip("route del 198.51.100.0/24 dev vpn0")?;
    assert_eq!(
        way("198.51.100.7 from 10.8.0.2")?,
        "vpn0",
        "who came by the VPN is answered by it"
    );
    assert_eq!(rp_filter("up0")?, "2");
    let again = plan_of(&host).await?;
    assert_eq!(
        again,
        (plan, taken),
        "what is applied does not deceive the next look"
    );
    assert_eq!(routing.apply(&again.0).await?, []);
    routing.remove().await?;
    host.assert_as_before();
    Ok(())
}

#[test]
fn by_two_halves() -> Result<()> {
    netns::run(async || goes_past(&HALVES, true).await)
}

#[test]
fn by_rules() -> Result<()> {
    netns::run(async || goes_past(&BY_RULES, true).await)
}

#[test]
fn by_a_better_default_route() -> Result<()> {
    netns::run(async || goes_past(&BETTER, false).await)
}

#[test]
fn a_vpn_that_has_not_taken_it_changes_nothing() -> Result<()> {
    netns::run(async || {
        let host = host()?;
        // A network of a company, behind the VPN.
        ip("route add 10.0.0.0/8 dev vpn0")?;
        let (plan, taken) = plan_of(&host).await?;
        assert!(taken.families.is_empty(), "{taken:?}");
        assert_eq!(taken.others.len(), 2, "{taken:?}");
        let without = host.plan();
        assert_eq!(plan, without);
        Ok(())
    })
}

#[test]
fn another_uplink_is_followed_without_a_moment_by_the_vpn() -> Result<()> {
    netns::run(async || {
        let host = host()?;
        for command in HALVES {
            ip(command)?;
        }
        let mut routing = host.open().await?;
        routing.apply(&plan_of(&host).await?.0).await?;
        let past = || ip("route show table 7351");
        assert!(
            past()?.contains("default via 192.0.2.1 dev up0"),
            "{}",
            past()?
        );

        ip("route replace default via 192.0.2.9 src 192.0.2.2 metric 100")?;
        let changes = routing.apply(&plan_of(&host).await?.0).await?;
        let told: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "ip route replace default via 192.0.2.9 dev up0 src 192.0.2.2 metric 100 table 7351 protocol 173"
            ]
        );
        assert_eq!(routing.apply(&plan_of(&host).await?.0).await?, []);

        // A router of the other family (RFC 5549), on the link by word alone.
        ip("route replace default via inet6 fe80::9 dev up0 onlink metric 100")?;
        routing.apply(&plan_of(&host).await?.0).await?;
        assert_eq!(way(PAST)?, "up0");
        assert_eq!(routing.apply(&plan_of(&host).await?.0).await?, []);

        // Without any, it is the VPN's after all.
        ip("route del default metric 100")?;
        let (plan, taken) = plan_of(&host).await?;
        assert!(
            taken.past().all(|route| route.family == Family::V6),
            "{taken:?}"
        );
        routing.apply(&plan).await?;
        assert_eq!(way(PAST)?, "vpn0");
        routing.remove().await?;
        Ok(())
    })
}
