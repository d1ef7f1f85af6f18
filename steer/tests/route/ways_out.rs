//! Every way out leaves the host as before.

use std::time::Duration;

use anyhow::{Context, Result};
use steer::route::{
    Error, Family, IfIndex, Mark, Numbers, OnDown, Priority, Routing, Rule, Selector, TableId,
    Taken, Tunnel, Wanted, cleanup, plan,
};

use crate::{
    host::{Host, MARKED},
    netns::{self, assert_same, rp_filter, set_rp_filter, snapshot, way},
};

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
            tunnels: vec![Tunnel {
                vpn: Some(host.vpn.clone()),
                sources: host.vpn.addresses().collect(),
                on_down: OnDown::Block,
            }],
            networks: Vec::new(),
            dns: Vec::new(),
            forwards: Vec::new(),
            taken: Taken::default(),
            newest: IfIndex(0),
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
            passes_over: None,
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
        unknown.nft.as_mut().context("the nft table")?.interfaces = vec![Some(name.into())];
        let error = routing
            .apply(&unknown)
            .await
            .err()
            .context("nft refuses the name")?;
        assert!(matches!(error, Error::Nft { .. }), "{error}");
        assert_same(&before, &now()?);

        drop(routing);
        assert_eq!(std::fs::read_dir(host.run_dir())?.count(), 0);
        Ok(())
    })
}
