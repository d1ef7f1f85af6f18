//! What a run has told lately, and to whom it tells what comes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::broadcast;

/// Lines that are remembered.
const RECENT: usize = 1024;
/// Lines that wait for a slow reader before it misses some.
const WAITING: usize = 1024;

/// Something that a run told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Of which kind: `learned`, `steered`, `late`, `contested`, `vpn`, `warning` and so on.
    pub kind: String,
    /// In words.
    pub text: String,
    /// The same in values, where a program may want them.
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}

impl Told {
    fn new(kind: &str, text: String, facts: Value) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        Self {
            time,
            kind: kind.to_owned(),
            text,
            facts: match facts {
                Value::Object(facts) => facts,
                _ => Map::new(),
            },
        }
    }

    /// Whether it is of one of these kinds, if any are given.
    pub fn is_of(&self, kinds: &[String]) -> bool {
        kinds.is_empty() || kinds.contains(&self.kind)
    }

    /// In place of lines that a slow reader missed.
    pub fn lost(count: u64) -> Self {
        let text = format!("{count} lines are missing here: they came faster than they were read");
        Self::new("warning", text, Value::Null)
    }
}

/// The last lines, and those who listen.
#[derive(Debug)]
pub struct Journal {
    recent: Mutex<VecDeque<Arc<Told>>>,
    coming: broadcast::Sender<Arc<Told>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            recent: Mutex::default(),
            coming: broadcast::Sender::new(WAITING),
        }
    }
}

impl Journal {
    /// Takes a line in, and passes it on.
    pub fn tell(&self, kind: &str, text: String, facts: Value) {
        let told = Arc::new(Told::new(kind, text, facts));
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(told.clone());
        // Nobody need listen.
        let _ = self.coming.send(told);
    }

    /// The last so many lines of these kinds, of all if none are given, and all lines that come after them.
    pub fn listen(
        &self,
        before: usize,
        kinds: &[String],
    ) -> (Vec<Arc<Told>>, broadcast::Receiver<Arc<Told>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = recent.iter().rev().filter(|told| told.is_of(kinds));
        let mut last: Vec<_> = wanted.take(before).cloned().collect();
        last.reverse();
        (last, self.coming.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_come_before_those_that_follow_and_none_twice() {
        let journal = Journal::default();
        for number in 0..RECENT + 3 {
            journal.tell("learned", number.to_string(), Value::Null);
        }
        let (before, mut coming) = journal.listen(2, &[]);
        let texts: Vec<_> = before.iter().map(|told| told.text.as_str()).collect();
        assert_eq!(texts, ["1025", "1026"]);
        journal.tell(
            "steered",
            "next".to_owned(),
            serde_json::json!({ "port": 443 }),
        );
        let next = coming.try_recv().unwrap();
        assert_eq!(
            (next.text.as_str(), &next.facts["port"]),
            ("next", &443.into())
        );
        assert!(coming.try_recv().is_err());
        let (steered, _) = journal.listen(9, &["steered".to_owned()]);
        assert_eq!(steered.len(), 1);
        let (all, _) = journal.listen(usize::MAX, &[]);
        assert_eq!(all.len(), RECENT);
    }
}
