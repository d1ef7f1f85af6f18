//! What `steer top` shows: samples become rates, rows are sorted and filtered. Nothing here asks or draws.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
};

use serde::Serialize;

use super::input::{Action, Mode};
use crate::inspect::{
    Path,
    usage::{Count, Usage, Use},
    vpns::VpnFact,
};

/// Rates that are remembered of each path: as many as the widest plot shows.
const HISTORY: usize = 512;
/// Far addresses that are remembered: twice as many as the kernel has room for.
const USES: usize = 32_768;

/// Octets a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rate {
    /// Received.
    pub down: u64,
    /// Sent.
    pub up: u64,
}

impl Rate {
    /// What went in so many milliseconds.
    fn of(count: &Count, milliseconds: u64) -> Self {
        let a_second = |bytes: u64| {
            let sum = u128::from(bytes) * 1000 / u128::from(milliseconds.max(1));
            u64::try_from(sum).unwrap_or(u64::MAX)
        };
        Self {
            down: a_second(count.bytes_in),
            up: a_second(count.bytes_out),
        }
    }

    /// Both ways.
    pub fn sum(self) -> u64 {
        self.down.saturating_add(self.up)
    }
}

/// A path as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// Since the start of the run.
    pub total: Count,
    /// Now.
    pub rate: Rate,
    /// The rates before, the latest last.
    #[serde(skip)]
    pub history: VecDeque<Rate>,
}

/// A line of the table: all that one had to do with one name, or with an address without a name, on one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The name, or the address.
    pub label: String,
    /// The path.
    pub path: Path,
    /// The name of the VPN, where there are several.
    pub vpn: Option<String>,
    /// Who.
    pub who: String,
    /// The bridge that he is behind, if he is a container.
    pub bridge: Option<String>,
    /// Whether names of both paths have one of its addresses.
    pub contested: bool,
    /// Since this began to watch.
    pub count: Count,
    /// Now.
    pub rate: Rate,
}

/// What a row is told from others by.
type RowKey = (String, Path, Option<String>, String);

/// What a use is told from others by: its path and VPN, bridge and near address, and far address.
type UseKey = (Path, Option<String>, Option<String>, Option<IpAddr>, IpAddr);

/// What the table is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Octets of now, the most first.
    #[default]
    Rate,
    /// Octets in all, the most first.
    Bytes,
    /// The name.
    Name,
    /// The path.
    Path,
    /// Who.
    Who,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Name, Self::Path, Self::Who, Self::Rate, Self::Bytes];

    /// The column so many to the right, round the end.
    fn moved(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|&it| it == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }
}

/// What is known of an address.
#[derive(Clone, Debug)]
struct Seen {
    last: Use,
    count: Count,
    rate: Rate,
}

/// What is asked for by a key and only the outside can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To end.
    Quit,
    /// To say why a name or an address takes its path.
    Explain(String),
}

/// What is shown, for others to read.
#[derive(Clone, Debug, Serialize)]
pub struct Picture<'a> {
    /// Seconds since the start of the run.
    pub uptime: Option<u64>,
    /// The VPNs, in the order of the configuration.
    pub vpns: &'a [VpnFact],
    /// The VPN's path.
    pub by_vpn: &'a Lane,
    /// The other.
    pub direct: &'a Lane,
    /// What was stopped since the start, by its counter.
    pub dropped: &'a BTreeMap<String, u64>,
    /// To whom.
    pub rows: Vec<Row>,
}

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The VPNs, in the order of the configuration.
    pub vpns: Vec<VpnFact>,
    /// Seconds since the start of the run; none before it has answered.
    pub uptime: Option<u64>,
    /// The VPN's path.
    pub by_vpn: Lane,
    /// The other.
    pub direct: Lane,
    /// What was stopped, by its counter.
    pub dropped: BTreeMap<String, u64>,
    /// Why there is no answer now.
    pub trouble: Option<String>,
    /// What the table is sorted by.
    pub sort: Sort,
    /// The other way round.
    pub reversed: bool,
    /// Only rows in which this is found.
    pub filter: String,
    /// What keys mean.
    pub mode: Mode,
    /// Whether what is shown stays as it is.
    pub paused: bool,
    /// An explanation, line by line.
    pub explanation: Vec<String>,
    /// Its first line that is shown.
    pub scrolled: usize,
    selected: Option<RowKey>,
    at: Option<u64>,
    uses: HashMap<UseKey, Seen>,
}

impl State {
    /// Takes a sample in.
    pub fn sample(&mut self, usage: Usage) {
        self.trouble = None;
        if self.paused {
            return;
        }
        let passed = self.at.and_then(|at| usage.at.checked_sub(at));
        self.at = Some(usage.at);
        for (lane, path) in [
            (&mut self.by_vpn, Path::Vpn),
            (&mut self.direct, Path::Direct),
        ] {
            let total = usage.totals.of(path);
            let before = std::mem::replace(&mut lane.total, total);
            if let Some(passed) = passed {
                lane.rate = Rate::of(&total.since(&before), passed);
                lane.history.push_back(lane.rate);
                if lane.history.len() > HISTORY {
                    lane.history.pop_front();
                }
            }
        }
        for seen in self.uses.values_mut() {
            seen.rate = Rate::default();
        }
        for now in usage.uses {
            let key = (
                now.path,
                now.vpn.clone(),
                now.bridge.clone(),
                now.near,
                now.address,
            );
            match (self.uses.get_mut(&key), passed) {
                (Some(seen), _) => {
                    let more = now.count.since(&seen.last.count);
                    seen.count = seen.count.plus(&more);
                    seen.rate = Rate::of(&more, passed.unwrap_or_default());
                    seen.last = now;
                }
                // What was counted for others before this began.
                (None, None) => {
                    self.uses.insert(key, Seen::new(now, Count::default()));
                }
                (None, Some(passed)) => {
                    let count = now.count;
                    let mut seen = Seen::new(now, count);
                    seen.rate = Rate::of(&count, passed);
                    self.uses.insert(key, seen);
                }
            }
        }
        self.make_room();
        (self.vpns, self.uptime, self.dropped) = (usage.vpns, Some(usage.uptime), usage.dropped);
    }

    /// Forgets those with the least where there are too many.
    fn make_room(&mut self) {
        if self.uses.len() <= USES {
            return;
        }
        let mut bytes: Vec<_> = self.uses.values().map(|it| it.count.bytes()).collect();
        let middle = bytes.len() / 2;
        let (_, &mut least, _) = bytes.select_nth_unstable(middle);
        self.uses
            .retain(|_, it| it.count.bytes() > least || it.rate != Rate::default());
    }

    /// There is no answer.
    pub fn failed(&mut self, why: String) {
        self.trouble = Some(why);
        if !self.paused {
            self.by_vpn.rate = Rate::default();
            self.direct.rate = Rate::default();
        }
    }

    /// The rows that are wanted, in their order.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: HashMap<RowKey, Row> = HashMap::new();
        for seen in self.uses.values() {
            let row = Row::of(seen);
            if row.count == Count::default() {
                continue;
            }
            match rows.get_mut(&row.key()) {
                None => {
                    rows.insert(row.key(), row);
                }
                Some(known) => known.join(&row),
            }
        }
        let filter = self.filter.to_lowercase();
        let mut rows: Vec<_> = rows.into_values().filter(|row| row.has(&filter)).collect();
        // What decides last first: sorting keeps the order of equals.
        rows.sort_by_key(Row::key);
        match self.sort {
            Sort::Name => {}
            Sort::Rate => rows.sort_by_key(|row| Reverse((row.rate.sum(), row.count.bytes()))),
            Sort::Bytes => rows.sort_by_key(|row| Reverse(row.count.bytes())),
            Sort::Path => rows.sort_by(|a, b| (a.path, &a.vpn).cmp(&(b.path, &b.vpn))),
            Sort::Who => rows.sort_by(|a, b| a.who.cmp(&b.who)),
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// Which of these rows is selected: the first unless another was chosen.
    pub fn selected(&self, rows: &[Row]) -> Option<usize> {
        if rows.is_empty() {
            return None;
        }
        let chosen = self.selected.as_ref();
        let at = chosen.and_then(|key| rows.iter().position(|row| row.key() == *key));
        Some(at.unwrap_or(0))
    }

    /// Does what a key asks for.
    pub fn apply(&mut self, action: Action) -> Option<Wish> {
        match action {
            Action::Quit => return Some(Wish::Quit),
            Action::Explain => {
                let rows = self.rows();
                let row = self.selected(&rows).map(|at| &rows[at])?;
                self.selected = Some(row.key());
                return Some(Wish::Explain(row.label.clone()));
            }
            Action::Sort => self.sort = self.sort.moved(1),
            Action::SortBack => self.sort = self.sort.moved(Sort::ALL.len() - 1),
            Action::Reverse => self.reversed = !self.reversed,
            Action::Pause => self.paused = !self.paused,
            Action::Help => self.mode = Mode::Help,
            Action::Filter => self.mode = Mode::Filter,
            Action::Close => self.mode = Mode::Table,
            Action::Clear => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            Action::Type(letter) => self.filter.push(letter),
            Action::Erase => drop(self.filter.pop()),
            Action::Down(steps) => self.go(steps, true),
            Action::Up(steps) => self.go(steps, false),
        }
        None
    }

    /// What there is to see.
    pub fn picture(&self) -> Picture<'_> {
        Picture {
            uptime: self.uptime,
            vpns: &self.vpns,
            by_vpn: &self.by_vpn,
            direct: &self.direct,
            dropped: &self.dropped,
            rows: self.rows(),
        }
    }

    /// The answer has come; nobody may wait for it any more.
    pub fn explained(&mut self, lines: Vec<String>) {
        if self.mode == Mode::Explain {
            self.explain(lines);
        }
    }

    /// Shows why something takes its path.
    pub fn explain(&mut self, lines: Vec<String>) {
        self.explanation = lines;
        self.scrolled = 0;
        self.mode = Mode::Explain;
    }

    fn go(&mut self, steps: usize, down: bool) {
        let to = |at: usize, count: usize| {
            if down {
                at.saturating_add(steps).min(count.saturating_sub(1))
            } else {
                at.saturating_sub(steps)
            }
        };
        if self.mode == Mode::Explain {
            self.scrolled = to(self.scrolled, self.explanation.len());
            return;
        }
        let rows = self.rows();
        if let Some(at) = self.selected(&rows) {
            self.selected = Some(rows[to(at, rows.len())].key());
        }
    }
}

impl Seen {
    fn new(last: Use, count: Count) -> Self {
        Self {
            last,
            count,
            rate: Rate::default(),
        }
    }
}

impl Row {
    fn of(seen: &Seen) -> Self {
        let it = &seen.last;
        Self {
            label: it.name.clone().unwrap_or_else(|| it.address.to_string()),
            path: it.path,
            vpn: it.vpn.clone(),
            who: it.who.clone(),
            bridge: it.bridge.clone(),
            contested: it.contested,
            count: seen.count,
            rate: seen.rate,
        }
    }

    fn key(&self) -> RowKey {
        let Self {
            label, vpn, who, ..
        } = self;
        (label.clone(), self.path, vpn.clone(), who.clone())
    }

    /// The path in a word: the VPN's name where there are several.
    pub fn way(&self) -> String {
        self.vpn.clone().unwrap_or_else(|| self.path.to_string())
    }

    fn join(&mut self, other: &Self) {
        self.count = self.count.plus(&other.count);
        self.rate.down += other.rate.down;
        self.rate.up += other.rate.up;
        self.contested |= other.contested;
    }

    /// Whether a text in small letters is found in it.
    fn has(&self, text: &str) -> bool {
        let path = self.path.to_string();
        [&self.label, &path, &self.who]
            .into_iter()
            .chain(&self.vpn)
            .chain(&self.bridge)
            .any(|cell| cell.to_lowercase().contains(text))
    }
}
