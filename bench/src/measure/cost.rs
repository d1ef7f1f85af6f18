//! What the processors had to do for it, kernel, clients, servers and the VPN's ends included.

use super::{Place, Scene};
use crate::{load::Told, report::model::Better};

/// The group; its samples come along with others'.
pub const NAME: &str = "cost";

/// That of bytes.
pub fn of_bytes(scene: &mut Scene, place: &Place, title: &str, told: &Told) {
    const GIB: f64 = (1_u64 << 30) as f64;
    let measure = place.measure(NAME, title, "CPU s/GiB", Better::Lower);
    if told.count > 0 {
        scene.sample(&measure, told.busy / (told.count as f64 / GIB));
    }
}

/// That of connections.
pub fn of_connections(scene: &mut Scene, place: &Place, title: &str, told: &Told) {
    let measure = place.measure(NAME, title, "CPU s/1,000", Better::Lower);
    if told.count > 0 {
        scene.sample(&measure, told.busy / (told.count as f64 / 1000.0));
    }
}
