//! The maps, named and typed as `bpftool map dump` shows them.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use steer_common::{
    decide::{Course, Match},
    dns::{Found, Message},
    http::Request,
    opening::Opening,
    packet::{Head, Packet},
    slot,
    stats::{COUNTERS, Outcome, Stats},
    tls::Hello,
    types::{
        AddrEntry, Address, AskedEntry, AskedKey, CGROUPS as CGROUPS_ROOM, Config, EmbeddedKey,
        FlowEntry, FlowKey, HelloEntry, LISTENERS, Learned, LedKey, NameEntry, NameKey, NetEntry,
        Origin, Path, Piece, ProcessScope, QueryEntry, QueryKey, RuleEntry, SCOPES as SCOPES_ROOM,
        ScopeEntry, ScopeKey,
    },
    usage::{self, Traffic, UsageKey, Volume},
};

use crate::pieces::What;

/// `BPF_F_NO_PREALLOC`: memory is taken as entries come.
const ON_DEMAND: usize = 1;
/// Buffers of a CPU: the first for programs that run with softirqs off, the others for those that run in a task.
const SLOTS: u32 = 9;
const SOFTIRQ: u32 = 0;

type Rules = HashMap<u64, RuleEntry, 1, ON_DEMAND>;
type Nets = LpmTrie<Address, NetEntry, 1>;

#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
/// As large as there are rules; user space sets it at loading. The programs find it in `RULESETS`.
#[btf_map]
pub static RULES: Rules = HashMap::new();
/// The rules in force are one entry, so that others take their place all at once.
#[btf_map]
pub static RULESETS: ArrayOfMaps<Rules, 1> = ArrayOfMaps::new();
/// The rules for networks of addresses, likewise, in `NETSETS`.
#[btf_map]
pub static NETS: Nets = LpmTrie::new();
#[btf_map]
pub static NETSETS: ArrayOfMaps<Nets, 1> = ArrayOfMaps::new();
#[btf_map]
pub static ADDRS: HashMap<Address, AddrEntry, 65_536> = HashMap::new();
#[btf_map]
pub static NAMES: HashMap<NameKey, NameEntry, 65_536, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static FLOWS: HashMap<FlowKey, FlowEntry, 65_536> = HashMap::new();
#[btf_map]
pub static DIRECT: LruHashMap<FlowKey, FlowEntry, 65_536> = LruHashMap::new();
#[btf_map]
pub static QUERIES: LruHashMap<QueryKey, QueryEntry, 16_384> = LruHashMap::new();
#[btf_map]
pub static HELLOS: LruHashMap<FlowKey, HelloEntry, 16_384> = LruHashMap::new();
#[btf_map]
pub static STATS: PerCpuArray<Stats, 1> = PerCpuArray::new();
#[btf_map]
pub static TRAFFIC: PerCpuArray<Traffic, 1> = PerCpuArray::new();
#[btf_map]
pub static USAGE: LruHashMap<UsageKey, Volume, { usage::USES }> = LruHashMap::new();
/// The host's own addresses and the networks of its steered bridges: what goes there does not leave the host.
#[btf_map]
pub static HOME: LpmTrie<Address, u32, { usage::HOME }> = LpmTrie::new();
/// In which scope containers are.
#[btf_map]
pub static SCOPES: HashMap<ScopeKey, ScopeEntry, { SCOPES_ROOM }, ON_DEMAND> = HashMap::new();
/// In which scopes processes are, by the ids of cgroups.
#[btf_map]
pub static CGROUPS: HashMap<u64, ProcessScope, { CGROUPS_ROOM }, ON_DEMAND> = HashMap::new();
/// Whom they asked whose questions went to the resolvers of their scopes.
#[btf_map]
pub static LED: LruHashMap<LedKey, Address, 4_096> = LruHashMap::new();
/// Datagram sockets of processes that were in a scope already when they made them.
#[btf_map]
pub static YOUNG: LruHashMap<Origin, u32, 16_384> = LruHashMap::new();
/// In which scopes those are in whose namespaces Docker's own resolver listens.
#[btf_map]
pub static EMBEDDED: HashMap<EmbeddedKey, ScopeEntry, { LISTENERS }, ON_DEMAND> = HashMap::new();
/// What it was asked by those who are not left alone.
#[btf_map]
pub static ASKED: HashMap<AskedKey, AskedEntry, 16_384, ON_DEMAND> = HashMap::new();
/// Sockets in other network namespaces from which a name server is asked: their packets pass a bridge.
#[btf_map]
pub static ELSEWHERE: LruHashMap<Origin, u32, 16_384> = LruHashMap::new();
#[btf_map]
pub static EVENTS: RingBuf<Learned, 1_048_576> = RingBuf::new();
#[btf_map]
pub static SEGMENTS: RingBuf<Piece, 2_097_152> = RingBuf::new();
/// From the cookie of a socket that user space asks about to that of its network namespace.
#[btf_map]
pub static NETNS: HashMap<u64, u64, 1> = HashMap::new();
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, { SLOTS as usize }> = PerCpuArray::new();

/// Octets of a connection's beginning that are read here; a power of two.
pub const OPENING: usize = 4096;

/// What a program reads into: too big for the stack of 512 bytes.
#[repr(C)]
pub struct Scratch {
    pub message: Message,
    pub head: Head,
    pub packet: Packet,
    /// What of a segment was not read yet.
    pub rest: Part,
    /// Where the DNS message at hand stands.
    pub place: Part,
    pub lesson: Lesson,
    pub opening: Opening<OPENING>,
    pub hello: Hello,
    pub request: Request,
    /// How far from its beginning the IP header of the packet at hand stands.
    pub ip: slot::Slot,
    pub what: What,
    /// Whether addresses seen lately are home.
    pub homes: [Home; HOMES],
    path: Path,
    outcome: Outcome,
    index: u32,
    users: u64,
}

/// Addresses of which a buffer knows whether they are home; a power of two.
pub const HOMES: usize = 16;

/// Whether flows to an address stay on the host, or on a link of it.
#[repr(C)]
pub struct Home {
    pub address: Address,
    /// Since which change of `HOME`.
    pub since: u32,
    pub is_home: u32,
}

/// A part of a packet: how far from the IP header it begins, and its octets.
#[repr(C)]
pub struct Part {
    pub at: slot::Slot,
    pub left: slot::Slot,
}

/// What an answer teaches, record by record.
#[repr(C)]
pub struct Lesson {
    pub matched: Match,
    /// Whether the suffixes of the name that is hashed are looked up.
    pub matching: slot::Slot,
    /// Hash of the name that the lesson is about.
    pub name: u64,
    pub found: Found,
    /// Of an address that was not known: here, because the stack is short.
    pub fresh: AddrEntry,
    pub by: NameEntry,
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
        let mut index = outcome as u64;
        // The verifier does not know the outcomes, and a mask that changes none of them would be compiled away.
        // SAFETY: an operation on a register.
        unsafe {
            asm!("{0} &= {mask}", inout(reg) index, mask = const COUNTERS - 1, options(pure, nomem, nostack));
        }
        // SAFETY: the entry is this CPU's own, has `COUNTERS` counters, and nothing else refers to it in this program.
        unsafe { *stats.cast::<u64>().add(index as usize) += 1 };
    }
}

/// A buffer that this program has taken. It goes by its index, because that is what a global function can be given.
#[derive(Clone, Copy)]
pub struct Slot(pub u32);

impl Slot {
    /// The buffer of programs that run with softirqs off: the classifiers, and what receives for a cgroup. One of them
    /// at a time runs on a CPU.
    pub const SOFTIRQ: Self = Self(SOFTIRQ);

    /// The buffer. Who calls it keeps no other reference to it.
    #[inline(always)]
    pub fn scratch(self) -> Result<&'static mut Scratch, Outcome> {
        let scratch = SCRATCH.get_ptr_mut(self.0).ok_or(Outcome::NoConfig)?;
        // SAFETY: the entry lives as long as the map, and this program alone has taken it on this CPU.
        Ok(unsafe { &mut *scratch })
    }

    /// Keeps the course of a global function, for those return numbers: [`Self::told`] has it again.
    #[inline(always)]
    pub fn tell(self, course: Result<Course, Outcome>) -> u32 {
        let (Ok(course) | Err(course)) = course.map_err(Course::from);
        if let Ok(scratch) = self.scratch() {
            scratch.outcome = course.outcome;
            scratch.path = course.path;
        }
        0
    }

    /// The course that was told, of which the verifier knows nothing.
    #[inline(always)]
    pub fn told(self) -> Result<Course, Outcome> {
        let scratch = self.scratch()?;
        // SAFETY: a reference is valid and aligned, and outcomes and paths alone are written there.
        Ok(unsafe {
            Course {
                outcome: (&raw const scratch.outcome).read_volatile(),
                path: (&raw const scratch.path).read_volatile(),
            }
        })
    }

    /// A result as a global function can return it: zero if it is well. [`Self::kept`] has it again.
    #[inline(always)]
    pub fn keep(self, result: Result<(), Outcome>) -> u32 {
        let Err(outcome) = result else {
            return 0;
        };
        if let Ok(scratch) = self.scratch() {
            scratch.outcome = outcome;
        }
        1
    }

    /// The result that [`Self::keep`] made a number of.
    #[inline(always)]
    pub fn kept(self, number: u32) -> Result<(), Outcome> {
        if number == 0 {
            return Ok(());
        }
        Err(self.scratch()?.outcome)
    }

    /// Runs `work` with a buffer for programs that run in a task. Another task or a softirq may come between, so a CPU
    /// has several, and each is taken and given back.
    ///
    /// Taking is an addition that tells nothing and a look at the sum, because kernels before 5.12 have no other
    /// atomics. Who sees a one is alone; of two at once at most one sees it.
    #[inline(always)]
    pub fn with_task(
        mut work: impl FnMut(Self) -> Result<Outcome, Outcome>,
    ) -> Result<Outcome, Outcome> {
        for index in SOFTIRQ + 1..SLOTS {
            let scratch = SCRATCH.get_ptr_mut(index).ok_or(Outcome::NoConfig)?;
            // SAFETY: the entry lives as long as the map.
            let users = unsafe { &raw mut (*scratch).users };
            add(users, 1);
            // SAFETY: as above; others may be adding, which the volatile read bears.
            if unsafe { users.read_volatile() } == 1 {
                // SAFETY: as above.
                let index = forget(unsafe { &mut (*scratch).index }, index);
                let result = work(Self(index));
                add(users, -1);
                return result;
            }
            add(users, -1);
        }
        Err(Outcome::Busy)
    }
}

/// A value by way of memory, of which the verifier knows nothing.
#[inline(always)]
fn forget<T: Copy>(kept: &mut T, value: T) -> T {
    // SAFETY: a reference is valid and aligned, and what is read is what was written.
    unsafe {
        (&raw mut *kept).write_volatile(value);
        (&raw const *kept).read_volatile()
    }
}

/// Adds at once, seen whole by everybody (`BPF_XADD`); the target has no atomics in `core`.
#[inline(always)]
pub fn add(sum: *mut u64, number: i64) {
    // SAFETY: the caller's pointer is into a map; the instruction touches these eight octets alone.
    unsafe {
        asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) sum, in(reg) number, options(nostack));
    }
}
