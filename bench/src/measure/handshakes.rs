//! TLS handshakes.

use anyhow::Result;

use super::Scene;
use crate::{load::Load, report::model::Better};

/// The group.
pub const NAME: &str = "handshakes";
/// At once.
const WORKERS: usize = 8;

pub fn measure(scene: &mut Scene) -> Result<()> {
    let load = Load::Handshakes { workers: WORKERS };
    scene.everywhere(load, |scene, place, told| {
        let measure = place.measure(NAME, "TLS handshakes", "1/s", Better::Higher);
        scene.sample(&measure, told.rate());
    })
}
