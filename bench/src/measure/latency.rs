//! How long a request takes at a modest rate, its connection included.

use std::time::Duration;

use anyhow::Result;

use super::Scene;
use crate::{load::Load, options::Options, report::model::Better};

/// The group.
pub const NAME: &str = "latency";
/// Requests in a second: on two shared processors about a fifth of what squid managed by the VPN, the slowest.
const RATE: u32 = 200;

pub fn measure(scene: &mut Scene) -> Result<()> {
    scene.everywhere(Load::Latency { rate: RATE }, |scene, place, told| {
        let times = told.times.unwrap_or_default();
        for (title, value) in [
            ("request p50", times.p50),
            ("request p99", times.p99),
            ("request p99.9", times.p999),
        ] {
            let measure = place.measure(NAME, title, "µs", Better::Lower);
            scene.sample(&measure, value);
        }
    })
}

/// How long to measure: a thousand requests, so that one of them is the thousandth.
pub fn measured(options: &Options) -> Duration {
    Duration::from_millis(if options.quick { 250 } else { 5000 })
}
