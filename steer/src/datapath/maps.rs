//! The maps that are pinned, by name.

/// A map.
pub(super) struct PinnedMap {
    /// Its name in the object.
    pub name: &'static str,
    /// Whether one run hands it to the next.
    pub kept: bool,
    /// The least room that it can be made with where it is not used; none where it is made as it is.
    pub least: Option<u32>,
}

/// Another map for each run.
const OWN: bool = false;
const KEPT: bool = true;
const AS_IT_IS: Option<u32> = None;
const ENTRY: Option<u32> = Some(1);
/// The least that the kernel makes of a ring is a page; this is one on every architecture.
const RING: Option<u32> = Some(65_536);

/// All of them.
pub(super) const MAPS: [PinnedMap; 24] = [
    map("CONFIG", OWN, AS_IT_IS),
    map("RULES", OWN, AS_IT_IS),
    map("RULESETS", OWN, AS_IT_IS),
    map("NETS", OWN, AS_IT_IS),
    map("NETSETS", OWN, AS_IT_IS),
    map("ADDRS", KEPT, ENTRY),
    map("NAMES", KEPT, ENTRY),
    map("FLOWS", KEPT, ENTRY),
    map("DIRECT", KEPT, ENTRY),
    map("QUERIES", KEPT, ENTRY),
    map("HELLOS", KEPT, ENTRY),
    map("STATS", KEPT, AS_IT_IS),
    map("TRAFFIC", OWN, AS_IT_IS),
    map("USAGE", OWN, ENTRY),
    map("HOME", OWN, AS_IT_IS),
    map("SCOPES", OWN, ENTRY),
    map("EMBEDDED", OWN, ENTRY),
    map("ASKED", OWN, ENTRY),
    map("CGROUPS", OWN, ENTRY),
    map("LED", KEPT, ENTRY),
    map("YOUNG", KEPT, ENTRY),
    map("ELSEWHERE", KEPT, ENTRY),
    map("EVENTS", KEPT, RING),
    map("SEGMENTS", KEPT, RING),
];

const fn map(name: &'static str, kept: bool, least: Option<u32>) -> PinnedMap {
    PinnedMap { name, kept, least }
}

/// The names of those that one run hands to the next.
pub(super) fn kept() -> impl Iterator<Item = &'static str> {
    MAPS.into_iter().filter(|map| map.kept).map(|map| map.name)
}
