//! Workers that do something again and again, and the window in which it counts.

use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Ask, Told};

/// What workers have done so far, and whether they are to go on.
#[derive(Default)]
pub struct Clock {
    over: AtomicBool,
    count: AtomicU64,
}

impl Clock {
    /// Whether to go on.
    pub fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Counts what was done.
    pub fn count(&self, done: u64) {
        self.count.fetch_add(done, Ordering::Relaxed);
    }
}

/// Has workers work for the time that is asked for, and tells what they counted after warming up.
///
/// # Errors
/// The first of theirs, unless it came of the end.
pub fn drive(
    ask: &Ask,
    workers: usize,
    work: impl Fn(usize, &Clock) -> Result<()> + Sync,
) -> Result<Told> {
    let clock = Clock::default();
    let failed = Mutex::new(None);
    let (work, clock, failed) = (&work, &clock, &failed);
    let told = thread::scope(|scope| {
        for number in 0..workers {
            scope.spawn(move || {
                if let Err(error) = work(number, clock)
                    && clock.goes_on()
                {
                    clock.over.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            });
        }
        wait(clock, ask.warming);
        let window = Window::begin(clock.count.load(Ordering::Relaxed));
        wait(clock, ask.measured);
        let told = window?.end(clock.count.load(Ordering::Relaxed));
        clock.over.store(true, Ordering::Relaxed);
        told
    });
    let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(told, Err)
}

/// The part of all processors that is busy, looked at for so long.
pub fn occupied(looking: Duration) -> Result<f64> {
    let window = Window::begin(0)?;
    thread::sleep(looking);
    let seen = window.end(0)?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Ok(seen.busy / seen.seconds / processors as f64)
}

/// A stretch of time.
pub struct Window {
    count: u64,
    busy: f64,
    since: Instant,
}

impl Window {
    /// Begins one, with so much counted before.
    pub fn begin(count: u64) -> Result<Self> {
        Ok(Self {
            count,
            busy: busy()?,
            since: Instant::now(),
        })
    }

    /// Ends it, with so much counted since ever.
    pub fn end(self, count: u64) -> Result<Told> {
        Ok(Told {
            count: count - self.count,
            seconds: self.since.elapsed().as_secs_f64(),
            busy: busy()? - self.busy,
            ..Told::default()
        })
    }
}

/// Sleeps so long, or until a worker has failed.
fn wait(clock: &Clock, time: Duration) {
    let end = Instant::now() + time;
    while clock.goes_on() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Seconds that all processors together were busy since the machine started: for processes, for the kernel and for
/// interrupts, not what waited or was stolen.
pub fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = busy_ticks(&text).context("/proc/stat tells no times of the processors")?;
    // SAFETY: it takes a number and returns one.
    let each_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / each_second as f64)
}

fn busy_ticks(stat: &str) -> Option<u64> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = all
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq] = *ticks.first_chunk()?;
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_not_busy() {
        let stat = "cpu  100 20 30 4000 500 6 7 800 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(busy_ticks(stat), Some(163));
        assert_eq!(busy_ticks("intr 1 2 3"), None);
    }
}
