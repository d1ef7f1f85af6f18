//! A million names with their verdicts, in little room and quickly found.

use super::set::Held;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher as _, RandomState};

/// Names in one buffer, each once and with its verdicts, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct NameTable {
    text: String,
    slots: Vec<Slot>,
    /// Places in `slots`.
    places: HashTable<u32>,
    hasher: RandomState,
}

/// The verdicts anchored at one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    start: u32,
    length: u8,
    /// For the domain itself.
    pub(super) exact: Option<Held>,
    /// For every name below it that no longer suffix decides.
    pub(super) below: Option<Held>,
}

impl Slot {
    fn name<'a>(&self, text: &'a str) -> &'a str {
        let start = self.start as usize;
        &text[start..start + usize::from(self.length)]
    }
}

impl NameTable {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, count: usize) {
        let Self {
            text,
            slots,
            places,
            hasher,
        } = self;
        slots.reserve(count);
        places.reserve(count, |&place| {
            hasher.hash_one(slots[place as usize].name(text))
        });
    }

    /// The slot of a name, an empty one if there was none; none if there are 4 GiB of names.
    pub(super) fn slot_mut(&mut self, name: &str) -> Option<&mut Slot> {
        let Self {
            text,
            slots,
            places,
            hasher,
        } = self;
        let entry = places.entry(
            hasher.hash_one(name),
            |&place| slots[place as usize].name(text) == name,
            |&place| hasher.hash_one(slots[place as usize].name(text)),
        );
        let place = match entry {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let place = u32::try_from(slots.len()).ok()?;
                let slot = Slot {
                    start: u32::try_from(text.len()).ok()?,
                    // A domain has 253 octets at most.
                    length: name.len() as u8,
                    exact: None,
                    below: None,
                };
                text.push_str(name);
                slots.push(slot);
                free.insert(place);
                place
            }
        };
        slots.get_mut(place as usize)
    }

    /// The slot of a name.
    pub(super) fn slot(&self, name: &str) -> Option<(&str, &Slot)> {
        let place = self.places.find(self.hasher.hash_one(name), |&place| {
            self.slots[place as usize].name(&self.text) == name
        })?;
        self.get(*place as usize)
    }

    /// The name at a place, and its slot.
    pub(super) fn get(&self, place: usize) -> Option<(&str, &Slot)> {
        let slot = self.slots.get(place)?;
        Some((slot.name(&self.text), slot))
    }

    /// All names with their slots, in the order in which they came.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Slot)> {
        self.slots.iter().map(|slot| (slot.name(&self.text), slot))
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Gives back the room that is not used.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.slots.shrink_to_fit();
    }
}
