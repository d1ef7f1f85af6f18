//! What is known of flows for as long as something is looked for in them: of so many, and for so long.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// What is known of a flow.
pub(super) trait State {
    /// Whether something is still looked for in it. What is done with stays known for a while, so that what comes late
    /// does not begin it anew.
    fn waits(&self) -> bool;
}

/// States of flows.
#[derive(Debug)]
pub(super) struct Table<K, S> {
    most: usize,
    idle: Duration,
    entries: HashMap<K, Entry<S>>,
}

#[derive(Debug)]
struct Entry<S> {
    touched: Instant,
    state: S,
}

impl<K: Clone + Eq + Hash, S: State> Table<K, S> {
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        Self {
            most,
            idle,
            entries: HashMap::new(),
        }
    }

    /// The state of a flow, made anew if it is not known or not `same`; and the flow that waited and made room for it.
    pub(super) fn touch(
        &mut self,
        key: &K,
        now: Instant,
        same: impl FnOnce(&S) -> bool,
        make: impl FnOnce() -> S,
    ) -> (&mut S, Option<K>) {
        let mut left = None;
        if !self
            .entries
            .get(key)
            .is_some_and(|entry| same(&entry.state))
        {
            self.entries.remove(key);
            left = self.make_room();
        }
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            touched: now,
            state: make(),
        });
        entry.touched = now;
        (&mut entry.state, left)
    }

    /// Forgets a flow; whether it waited.
    pub(super) fn forget(&mut self, key: &K) -> bool {
        self.entries
            .remove(key)
            .is_some_and(|entry| entry.state.waits())
    }

    /// Forgets the flows of which nothing came for too long, and returns those that waited.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<K> {
        let idle = self.idle;
        self.entries
            .extract_if(|_, entry| now.saturating_duration_since(entry.touched) >= idle)
            .filter(|(_, entry)| entry.state.waits())
            .map(|(key, _)| key)
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets the flow of which nothing came for longest, one that is done with if there is any.
    fn make_room(&mut self) -> Option<K> {
        if self.entries.len() < self.most {
            return None;
        }
        let (key, _) = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| (entry.state.waits(), entry.touched))?;
        let key = key.clone();
        self.forget(&key).then_some(key)
    }
}
