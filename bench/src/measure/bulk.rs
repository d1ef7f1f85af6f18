//! Much, down and up, over one connection and over eight.

use anyhow::Result;

use super::{Scene, cost};
use crate::{load::Load, report::model::Better};

/// The group.
pub const NAME: &str = "bulk";

pub fn measure(scene: &mut Scene) -> Result<()> {
    for streams in [1, 8] {
        for (what, load) in [
            ("download", Load::Download { streams }),
            ("upload", Load::Upload { streams }),
        ] {
            let title = match streams {
                1 => format!("{what}, 1 stream"),
                _ => format!("{what}, {streams} streams"),
            };
            scene.everywhere(load, |scene, place, told| {
                let speed = place.measure(NAME, &title, "Gbit/s", Better::Higher);
                scene.sample(&speed, told.rate() * 8.0 / 1e9);
                cost::of_bytes(scene, place, &title, told);
            })?;
        }
    }
    Ok(())
}
