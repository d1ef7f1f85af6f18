//! What a contender keeps in memory after all the loads of a round.

use anyhow::Result;

use super::Scene;
use crate::report::model::{Better, Measure};

/// The group.
pub const NAME: &str = "memory";

pub fn measure(scene: &mut Scene) -> Result<()> {
    for kept in scene.standing.memory(scene.stage)? {
        let measure = Measure {
            group: NAME,
            what: kept.whose.to_owned(),
            title: format!("memory, {}", kept.whose),
            unit: "MiB",
            better: Better::Lower,
        };
        scene.sample(&measure, kept.octets as f64 / f64::from(1 << 20));
    }
    Ok(())
}
