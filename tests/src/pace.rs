//! How slow this machine is. Everything takes ten to twenty times as long where the processor is
//! emulated: waits last longer there, and what is tried a thousand times is tried less often.

use std::{env, fs, str::FromStr, sync::LazyLock, time::Duration};

use anyhow::{Context, Result};

/// Says how many times slower than a usual machine this one is.
const FACTOR: &str = "STEER_LAB_PATIENCE";
/// What QEMU's emulation calls the processor.
const EMULATED: &str = "QEMU TCG CPU";

static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let given = env::var(FACTOR).ok();
    match given.as_deref().map(str::parse) {
        Some(Ok(factor @ 1..=100)) => factor,
        Some(_) => panic!("{FACTOR} is not a number from 1 to 100"),
        None if fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(EMULATED)) => 10,
        None => 1,
    }
});

/// How long to wait for what takes less than `usual` on a usual machine.
pub fn patience(usual: Duration) -> Duration {
    usual * *SLOWNESS
}

/// How often to try what is tried `usual` times on a usual machine; at least once.
pub fn times(usual: u16) -> u16 {
    u16::try_from(u32::from(usual) / *SLOWNESS).map_or(usual, |times| times.max(1))
}

/// The number in a variable of the environment, else `usual`: how long, how often or which choices.
pub fn asked<T: FromStr>(variable: &str, usual: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match env::var(variable) {
        Ok(value) => value
            .parse()
            .with_context(|| format!("{variable} is \"{value}\", which is no number of its kind")),
        Err(_) => Ok(usual),
    }
}

/// Those of `all` to try; on a slow machine `few` of them.
pub fn choice<'a, T>(all: &'a [T], few: &'a [T]) -> &'a [T] {
    if *SLOWNESS > 1 { few } else { all }
}
