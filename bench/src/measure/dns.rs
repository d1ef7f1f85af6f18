//! Answers of the DNS: how long one takes, and how many there can be.

use anyhow::Result;

use super::Scene;
use crate::{load::Load, report::model::Better};

/// The group.
pub const NAME: &str = "dns";

pub fn measure(scene: &mut Scene) -> Result<()> {
    if scene.has_proxy() {
        return Ok(());
    }
    scene.everywhere(Load::Question, |scene, place, told| {
        let times = told.times.unwrap_or_default();
        for (title, value) in [("answer p50", times.p50), ("answer p99", times.p99)] {
            let measure = place.measure(NAME, title, "µs", Better::Lower);
            scene.sample(&measure, value);
        }
    })?;
    let many = Load::Questions {
        workers: 2,
        at_once: 32,
    };
    scene.everywhere(many, |scene, place, told| {
        let measure = place.measure(NAME, "answers", "1/s", Better::Higher);
        scene.sample(&measure, told.rate());
    })
}
