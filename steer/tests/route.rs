//! Routing on the real kernel: what is applied is what the kernel does, and every way out leaves the host as before.

mod netns;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netns::{add_link, assert_same, ip, rp_filter, set_rp_filter, sh, snapshot, way};
use steer::route::{
    Error, Event, Family, IfIndex, Mark, Numbers, OnDown, Plan, Priority, Routing, Rule, Selector,
    TableId, Vpn, Wanted, cleanup, plan, watch,
};
use tempfile::TempDir;

const MARKED: &str = "198.51.100.7 mark 0x1000";
const MARKED_V6: &str = "2001:db8::7 mark 0x1000";
const UNMARKED: &str = "198.51.100.7";

/// A host with a direct uplink `up0` and a VPN `vpn0`, both families on both.
struct Host {
    vpn: Vpn,
    run_dir: TempDir,
    before: String,
}

impl Host {
    fn new() -> Result<Self> {
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

    fn plan(&self) -> Plan {
        blocking(Some(self.vpn.clone()))
    }

    async fn open(&self) -> Result<Routing> {
        Ok(Routing::open(self.run_dir.path(), Numbers::default()).await?)
    }

    async fn applied(&self) -> Result<Routing> {
        let mut routing = self.open().await?;
        ensure!(!routing.apply(&self.plan()).await?.is_empty());
        Ok(routing)
    }

    fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }

    #[track_caller]
    fn assert_as_before(&self) {
        let now = snapshot(self.run_dir()).unwrap_or_else(|error| panic!("{error:#}"));
        assert_same(&self.before, &now);
    }
}

fn vpn(name: &str, v4: &[Ipv4Addr], v6: &[&str]) -> Result<Vpn> {
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

fn wanted(vpn: Option<Vpn>, on_down: OnDown) -> Plan {
    plan(&Wanted {
        vpn,
        on_down,
        numbers: Numbers::default(),
    })
}

fn blocking(vpn: Option<Vpn>) -> Plan {
    wanted(vpn, OnDown::Block)
}

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
        assert_eq!(way("198.51.100.7 from 10.8.0.2 ipproto tcp")?, "up0");
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
fn dropping_puts_the_host_back() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let fails_later = async {
            let _routing = host.applied().await?;
            anyhow::bail!("a later stage fails");
        };
        let result: Result<()> = fails_later.await;
        assert!(result.is_err());
        host.assert_as_before();
        Ok(())
    })
}

#[test]
fn dropping_after_the_runtime_has_ended_puts_the_host_back() -> Result<()> {
    netns::run(async || {
        let thread = std::thread::spawn(|| -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let host = Host::new()?;
            let routing = runtime.block_on(host.applied())?;
            drop(runtime);
            drop(routing);
            host.assert_as_before();
            Ok(())
        });
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("the thread panicked"))?
    })
}

#[test]
fn giving_up_on_the_removal_removes_all_the_same() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let routing = host.applied().await?;
        let gave_up = tokio::time::timeout(Duration::ZERO, routing.remove()).await;
        assert!(gave_up.is_err());
        host.assert_as_before();
        Ok(())
    })
}

#[test]
fn a_killed_run_is_cleaned_up() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        std::mem::forget(host.applied().await?);
        assert_eq!(way(MARKED)?, "vpn0", "what is routed stays routed");
        let done = cleanup(host.run_dir(), Numbers::default()).await?;
        assert!(!done.is_empty());
        host.assert_as_before();
        assert_eq!(cleanup(host.run_dir(), Numbers::default()).await?, []);
        Ok(())
    })
}

#[test]
fn a_killed_run_is_taken_over_even_with_other_numbers() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        std::mem::forget(host.applied().await?);
        let mut routing = host.open().await?;
        assert_eq!(routing.apply(&host.plan()).await?, [], "all is there");
        std::mem::forget(routing);

        let numbers = Numbers {
            mark: Mark::new(0x100, 0x300)?,
            table: TableId(900),
            ..Numbers::default()
        };
        let mut routing = Routing::open(host.run_dir(), numbers).await?;
        let other = plan(&Wanted {
            vpn: Some(host.vpn.clone()),
            on_down: OnDown::Block,
            numbers,
        });
        routing.apply(&other).await?;
        assert_eq!(way("198.51.100.7 mark 0x100")?, "vpn0");
        assert_eq!(way(MARKED)?, "up0", "the first run's numbers are gone");
        routing.remove().await?;
        host.assert_as_before();
        Ok(())
    })
}

#[test]
fn a_value_that_somebody_else_has_set_is_left() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let routing = host.applied().await?;
        set_rp_filter("vpn0", 0)?;
        let done = routing.remove().await?;
        assert!(
            done.iter()
                .any(|change| change.to_string().contains("set by somebody else")),
            "{done:?}"
        );
        assert_eq!(rp_filter("vpn0")?, "0");
        Ok(())
    })
}

#[test]
fn what_is_not_ours_is_never_touched() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let cases = [
            (
                "rule add priority 7355 from 10.1.1.1 lookup main",
                "rule del priority 7355",
                "7355: from 10.1.1.1/32 lookup 254",
            ),
            (
                "-6 rule add priority 7350 fwmark 0x1000/0x3000 lookup 7350",
                "-6 rule del priority 7350",
                "7350: from all",
            ),
            (
                "route add 198.51.100.0/24 dev up0 table 7350",
                "route flush table 7350",
                "198.51.100.0/24 dev up0",
            ),
            (
                "route add default dev up0 table 7350",
                "route flush table 7350",
                "default dev up0",
            ),
            (
                "rule add priority 99 fwmark 0x1000/0x1000 lookup 77",
                "rule del priority 99",
                "fwmark 0x1000/0x1000",
            ),
        ];
        for (add, del, named) in cases {
            ip(add)?;
            let before = snapshot(host.run_dir())?;
            let error = Routing::open(host.run_dir(), Numbers::default())
                .await
                .err()
                .context(add)?
                .to_string();
            assert!(error.contains(named), "{error}");
            cleanup(host.run_dir(), Numbers::default()).await?;
            assert_same(&before, &snapshot(host.run_dir())?);
            ip(del)?;
        }
        sh("nft", "add table inet steer")?;
        let error = host.open().await.err().context("a foreign table")?;
        assert!(error.to_string().contains("inet steer"), "{error}");
        cleanup(host.run_dir(), Numbers::default()).await?;
        sh("nft", "delete table inet steer").context("the table was to be left")?;
        host.assert_as_before();

        // Others' marks that have none of our bits, or a rule for all that lack a mark as wg-quick makes it.
        ip("rule add priority 98 fwmark 0xca6c lookup 77")?;
        ip("rule add priority 99 not fwmark 0x1000 lookup 77")?;
        host.applied().await?.remove().await?;
        Ok(())
    })
}

#[test]
fn a_failing_step_takes_back_those_before_it() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let before = snapshot(host.run_dir())?;
        let record = format!("{}\n", host.run_dir().join("routing.json").display());
        let now = || snapshot(host.run_dir()).map(|now| now.replace(&record, ""));
        let mut routing = host.open().await?;

        // IPv6 has no rule that leads to table 0. Everything before that rule is there by then.
        let mut refused = host.plan();
        refused.rules.push(Rule {
            family: Family::V6,
            priority: Priority(7351),
            selector: Selector::Mark(Mark::DEFAULT),
            table: TableId(0),
        });
        let error = routing
            .apply(&refused)
            .await
            .err()
            .context("the kernel refuses the rule")?;
        assert!(
            error
                .to_string()
                .starts_with("`ip -6 rule add priority 7351 fwmark"),
            "{error}"
        );
        assert_same(&before, &now()?);

        let mut unknown = host.plan();
        let name = "no-interface-has-such-a-name";
        unknown.nat.as_mut().context("masquerading")?.interface = name.into();
        let error = routing
            .apply(&unknown)
            .await
            .err()
            .context("nft refuses the name")?;
        assert!(matches!(error, Error::Nft { .. }), "{error}");
        assert_same(&before, &now()?);

        ip("link set vpn0 down")?;
        let error = routing
            .apply(&host.plan())
            .await
            .err()
            .context("the VPN is down")?;
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("default dev vpn0"), "{error}");
        drop(routing);
        assert_eq!(std::fs::read_dir(host.run_dir())?.count(), 0);
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
        ip("rule del priority 7350")?;
        assert_eq!(
            next().await?,
            Some(Event::Routing),
            "the foreign rule before it is none of ours"
        );
        ip("route flush table 7350")?;
        assert_eq!(next().await?, Some(Event::Routing));
        sh("nft", "flush table inet steer")?;
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

#[test]
fn without_the_capability_the_error_names_it() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let mut routing = host.open().await?;
        caps::drop(
            None,
            caps::CapSet::Effective,
            caps::Capability::CAP_NET_ADMIN,
        )?;
        let error = routing
            .apply(&host.plan())
            .await
            .err()
            .context("without CAP_NET_ADMIN")?;
        caps::raise(
            None,
            caps::CapSet::Effective,
            caps::Capability::CAP_NET_ADMIN,
        )?;
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        drop(routing);
        host.assert_as_before();
        Ok(())
    })
}
