//! Connections that ask for a little each.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use super::{Ask, Told, drive::drive, way::Way};

/// Makes them, so many at once, to one server after the other.
pub fn run(ask: &Ask, way: &Way, workers: usize) -> Result<Told> {
    let turn = AtomicUsize::new(0);
    drive(ask, workers, |_, clock| {
        let mut buffer = [0; 1024];
        while clock.goes_on() {
            way.request(turn.fetch_add(1, Ordering::Relaxed), &mut buffer)?;
            clock.count(1);
        }
        Ok(())
    })
}
