//! The network namespace as a program tells it, on any kernel; needs root.

#[path = "route/netns.rs"]
#[expect(dead_code, reason = "the tests of routing need more of it")]
mod netns;

use anyhow::{Context, Result};
use steer::{
    datapath::{Datapath, Room},
    host::{NetnsCookie, cgroup::Hierarchy, netns::cookie},
};

fn told() -> Result<NetnsCookie> {
    let cgroup = Hierarchy::read()?.own().context("a cgroup of one's own")?;
    let told = Datapath::load(None, Room::default())?.netns(&cgroup)?;
    told.context("programs on cgroups do not see the sockets of their processes")
}

#[test]
fn a_program_tells_the_network_namespace() -> Result<()> {
    let outside = told()?;
    // Before 5.14 nothing else tells.
    assert_eq!(cookie().unwrap_or(outside), outside);
    netns::run(async move || {
        let inside = told()?;
        assert_ne!(inside, outside);
        assert_eq!(cookie().unwrap_or(inside), inside);
        assert_eq!(told()?, inside);
        Ok(())
    })
}
