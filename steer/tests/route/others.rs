//! What is in the way, or not allowed, is named and left alone.

use anyhow::{Context, Result};
use steer::route::{Numbers, Routing, cleanup};

use crate::{
    host::Host,
    netns::{self, assert_same, ip, sh, snapshot},
};

#[test]
fn what_is_not_ours_is_never_touched() -> Result<()> {
    netns::run(async || {
        let host = Host::new()?;
        let cases = [
            (
                "rule add priority 7355 from 10.1.1.1 lookup main",
                "rule del priority 7355",
                "7355: from 10.1.1.1/32 lookup main",
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
