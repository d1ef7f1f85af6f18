//! The maps, named and typed as `bpftool map dump` shows them.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use steer_common::{
    dns::Message,
    packet::Head,
    stats::{Outcome, Stats},
    types::{
        AddrEntry, Address, Config, FlowEntry, FlowKey, Learned, QueryEntry, QueryKey, RuleEntry,
    },
};

/// `BPF_F_NO_PREALLOC`: memory is taken as entries come.
const ON_DEMAND: usize = 1;
const SLOTS: u32 = 8;

#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
pub static RULES: HashMap<u64, RuleEntry, 1_048_576, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static ADDRS: HashMap<Address, AddrEntry, 65_536> = HashMap::new();
#[btf_map]
pub static FLOWS: HashMap<FlowKey, FlowEntry, 65_536> = HashMap::new();
#[btf_map]
pub static DIRECT: LruHashMap<FlowKey, FlowEntry, 65_536> = LruHashMap::new();
#[btf_map]
pub static QUERIES: LruHashMap<QueryKey, QueryEntry, 16_384> = LruHashMap::new();
#[btf_map]
pub static STATS: PerCpuArray<Stats, 1> = PerCpuArray::new();
#[btf_map]
pub static EVENTS: RingBuf<Learned, 1_048_576> = RingBuf::new();
#[btf_map]
static SOFTIRQ: PerCpuArray<Scratch, 1> = PerCpuArray::new();
#[btf_map]
static TASK: PerCpuArray<TaskScratch, SLOTS_USIZE> = PerCpuArray::new();
const SLOTS_USIZE: usize = SLOTS as usize;

/// What a program reads into: too big for the stack of 512 bytes.
#[repr(C)]
pub struct Scratch {
    pub head: Head,
    pub message: Message,
}

/// One of several for a CPU.
#[repr(C)]
struct TaskScratch {
    scratch: Scratch,
    users: u64,
}

/// Configuration of the running programs.
#[inline(always)]
pub fn config() -> Result<&'static Config, Outcome> {
    CONFIG.get(0).ok_or(Outcome::NoConfig)
}

/// Counts an outcome.
#[inline(always)]
pub fn count(outcome: Outcome) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: the entry is this CPU's own, and no other reference to it is alive in this program.
        *unsafe { &mut *stats }.counter(outcome) += 1;
    }
}

/// The buffer of programs that run with softirqs off: the classifiers, and what receives for a cgroup. One of them
/// at a time runs on a CPU.
#[inline(always)]
pub fn softirq_scratch() -> Result<&'static mut Scratch, Outcome> {
    let scratch = SOFTIRQ.get_ptr_mut(0).ok_or(Outcome::NoConfig)?;
    // SAFETY: softirqs are off, so nothing else on this CPU uses its entry until the program ends.
    Ok(unsafe { &mut *scratch })
}

/// Runs `work` with a buffer for programs that run in a task. Another task or a softirq may come between, so a CPU has
/// several buffers, and each is taken and given back.
///
/// Taking is an addition that tells nothing and a look at the sum, because kernels before 5.12 have no other atomics.
/// Who sees a one is alone; of two at once at most one sees it.
#[inline(always)]
pub fn with_task_scratch<T>(
    mut work: impl FnMut(&mut Scratch) -> Result<T, Outcome>,
) -> Result<T, Outcome> {
    for index in 0..SLOTS {
        let slot = TASK.get_ptr_mut(index).ok_or(Outcome::NoConfig)?;
        // SAFETY: the entry lives as long as the map.
        let users = unsafe { &raw mut (*slot).users };
        add(users, 1);
        // SAFETY: as above; others may be adding, which the volatile read bears.
        if unsafe { users.read_volatile() } == 1 {
            // SAFETY: the count of users says that nobody else has this buffer.
            let result = work(unsafe { &mut (*slot).scratch });
            add(users, -1);
            return result;
        }
        add(users, -1);
    }
    Err(Outcome::Busy)
}

/// Adds at once, seen whole by everybody (`BPF_XADD`); the target has no atomics in `core`.
#[inline(always)]
fn add(sum: *mut u64, number: i64) {
    // SAFETY: the caller's pointer is into a map; the instruction touches these eight octets alone.
    unsafe {
        asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) sum, in(reg) number, options(nostack));
    }
}
