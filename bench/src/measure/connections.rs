//! Connections, each with a request and its answer.

use anyhow::Result;

use super::{Scene, cost};
use crate::{load::Load, report::model::Better};

/// The group.
pub const NAME: &str = "connections";
/// At once.
const WORKERS: usize = 16;

pub fn measure(scene: &mut Scene) -> Result<()> {
    let load = Load::Connections { workers: WORKERS };
    scene.everywhere(load, |scene, place, told| {
        let measure = place.measure(NAME, "connections", "1/s", Better::Higher);
        scene.sample(&measure, told.rate());
        cost::of_connections(scene, place, "connections", told);
    })
}
