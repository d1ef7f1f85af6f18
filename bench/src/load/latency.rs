//! How long a request takes, connection included, where requests come at a steady rate.
//!
//! Each has a time at which it is to begin, and its time runs from then on: who is late because the one before took long
//! is not counted as fast.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{Ask, Times, Told, drive::drive, way::Way};

/// More than are ever under way at once.
const WORKERS: usize = 16;

/// Asks so often a second.
pub fn run(ask: &Ask, way: &Way, rate: u32) -> Result<Told> {
    // Else a sleep ends 50 microseconds late.
    nix::sys::prctl::set_timerslack(1)?;
    let all = Mutex::new(histogram()?);
    let turn = AtomicU32::new(0);
    let begin = Instant::now();
    let told = drive(ask, WORKERS, |_, clock| {
        let mut own = histogram()?;
        let mut buffer = [0; 1024];
        while clock.goes_on() {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let due = begin + Duration::from_secs(1) * turn / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if !clock.goes_on() {
                break;
            }
            way.request(turn as usize, &mut buffer)?;
            if due >= begin + ask.warming {
                own.saturating_record(nanoseconds(due.elapsed()));
            }
            clock.count(1);
        }
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(own)?;
        Ok(())
    })?;
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Told {
        times: Some(times(&all)),
        ..told
    })
}

/// One that tells times up to a minute to a thousandth of theirs.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// A time as a histogram has it.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is told of a histogram.
pub fn times(of: &Histogram<u64>) -> Times {
    let at = |quantile| of.value_at_quantile(quantile) as f64 / 1000.0;
    Times {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    }
}
