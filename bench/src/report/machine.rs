//! The machine that measured.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine that measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub distribution: String,
    /// The hypervisor's or the machine's name, if it tells one.
    pub product: String,
    /// What was going on before the run: the load average over a minute.
    pub load_before: String,
}

impl Machine {
    /// This one, now. What it does not tell is left empty.
    pub fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let field = |text: &str, key: &str, after: char| {
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(after));
            value
                .map(|(_, value)| value.trim().trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal", ':');
        let kib = memory.split(' ').next().unwrap_or_default().parse();
        let load = read("/proc/loadavg");
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name", ':'),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib.unwrap_or(0_u64) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            distribution: field(&read("/etc/os-release"), "PRETTY_NAME", '='),
            product: read("/sys/class/dmi/id/product_name").trim().to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// Its facts, each with a name.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let facts = [
            (
                "processor",
                format!("{} × {}", self.processors, self.processor),
            ),
            ("memory", format!("{} MiB", self.memory_mib)),
            ("kernel", self.kernel.clone()),
            ("distribution", self.distribution.clone()),
            ("product", self.product.clone()),
            ("load before the run", self.load_before.clone()),
        ];
        let told = facts.into_iter().filter(|(_, value)| !value.is_empty());
        told.collect()
    }
}
