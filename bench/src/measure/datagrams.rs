//! Datagrams of 64 octets that arrive.

use anyhow::Result;

use super::Scene;
use crate::{load::Load, report::model::Better};

/// The group.
pub const NAME: &str = "datagrams";

pub fn measure(scene: &mut Scene) -> Result<()> {
    if scene.has_proxy() {
        return Ok(());
    }
    scene.everywhere(Load::Datagrams, |scene, place, told| {
        let measure = place.measure(NAME, "64-byte UDP", "1/s", Better::Higher);
        scene.sample(&measure, told.rate());
    })
}
