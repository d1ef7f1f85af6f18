//! Bridges, as networks that are the host's own, and containers, each in a scope.

use std::net::IpAddr;

use anyhow::Result;
use steer::datapath::{Room, Scopes};
use steer_common::types::{ScopeEntry, ScopeKey};

use super::{PACKETS, in_turn, take, turns};
use crate::{
    kernel::{
        BRIDGE, Clock, Kernel, address,
        frame::{ACK, Ends, SYN},
    },
    options::Options,
    report::model::Recorder,
};

const GROUP: &str = "growth of bridges and containers";
const SIZES: [u8; 6] = [1, 2, 5, 10, 50, 100];
const QUICK: [u8; 2] = [1, 100];

/// Measures them.
pub fn measure(options: &Options, recorder: &mut Recorder) -> Result<()> {
    let mut kernel = Kernel::load(Room {
        rules: 1,
        nets: 1,
        ..Room::default()
    })?;
    let mut before = Scopes::new();
    let sizes = if options.quick { &QUICK[..] } else { &SIZES };
    for &size in sizes {
        // Each has a network of either family.
        kernel.homes(size.saturating_mul(2))?;
        let scopes = scopes(size);
        kernel.datapath().set_scopes(&before, &scopes)?;
        before = scopes;
        kernel.configured(|config| config.scopes = 1)?;
        let mut clock = Clock::new()?;
        for (what, program, turned, flags) in [
            (
                "a packet of a container, of no flow",
                "bridge_ingress",
                false,
                ACK,
            ),
            (
                "SYN of a container, unmatched",
                "bridge_ingress",
                false,
                SYN,
            ),
            ("a packet to a container", "bridge_egress", true, ACK),
        ] {
            let frames = (0..size).map(|number| {
                let ends = Ends {
                    near: container(number),
                    near_port: 9,
                    far: address(7).into(),
                    far_port: 443,
                };
                let ends = if turned { ends.turned() } else { ends };
                ends.tcp(flags, &[])
            });
            let timed = in_turn(frames, PACKETS)?;
            clock.add(&kernel, what, program, timed)?;
        }
        let times = clock.run(&mut kernel, turns(options))?;
        take(recorder, GROUP, u64::from(size), &times);
    }
    Ok(())
}

fn container(number: u8) -> IpAddr {
    [172, 17, number, 2].into()
}

/// As many containers of a bridge, each in a scope that leaves it alone.
fn scopes(count: u8) -> Scopes {
    let entry = |default| ScopeEntry {
        default,
        scope: 1,
        ..ScopeEntry::NONE
    };
    let key = |address| ScopeKey {
        bridge: BRIDGE,
        zero: 0,
        address,
    };
    let each = (0..count).map(|number| (key(container(number).into()), entry(ScopeEntry::FREE)));
    let whole = [(key(Default::default()), entry(ScopeEntry::EACH))];
    whole.into_iter().chain(each).collect()
}
