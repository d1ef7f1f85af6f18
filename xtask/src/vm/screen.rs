//! What is shown while guests run: a line for each on a terminal; elsewhere a line now and then.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::step;

/// Without a terminal, how often a guest that is busy shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// All guests.
pub struct Screen {
    bars: Option<MultiProgress>,
    width: usize,
}

/// One guest; dropped when it has ended.
pub struct Row<'a> {
    screen: &'a Screen,
    bar: Option<ProgressBar>,
    name: String,
    group: String,
    doing: String,
    started: Instant,
    told: Instant,
}

impl Screen {
    /// For guests whose names are that long.
    pub fn new(width: usize) -> Self {
        Self {
            bars: io::stderr().is_terminal().then(MultiProgress::new),
            width,
        }
    }

    /// A guest that is being started.
    pub fn row(&self, name: &str) -> Row<'_> {
        let name = format!("{name:<width$}", width = self.width);
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) =
                ProgressStyle::with_template("  {spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Row {
            screen: self,
            bar,
            name,
            group: String::new(),
            doing: String::new(),
            started: Instant::now(),
            told: Instant::now(),
        }
    }
}

impl Row<'_> {
    /// Something has come to its end: a line that stays.
    pub fn tell(&mut self, line: &str) {
        let line = format!("{}  {line}", self.name);
        self.told = Instant::now();
        match &self.screen.bars {
            // An error is that of a terminal that has gone.
            Some(bars) => drop(bars.println(format!("  {line}"))),
            None => step::note(&line),
        }
    }

    /// A group of tests begins.
    pub fn group(&mut self, name: &str) {
        name.clone_into(&mut self.group);
        self.doing.clear();
        self.show("");
    }

    /// What it is doing.
    pub fn show(&mut self, doing: &str) {
        if !doing.is_empty() {
            doing.clone_into(&mut self.doing);
        }
        if let Some(bar) = &self.bar {
            bar.set_message(self.now());
        }
        self.beat();
    }

    fn now(&self) -> String {
        let parts = [self.group.as_str(), self.doing.as_str()];
        let parts: Vec<_> = parts.into_iter().filter(|it| !it.is_empty()).collect();
        parts.join(": ")
    }

    /// Time passes.
    pub fn beat(&mut self) {
        if self.bar.is_none() && self.told.elapsed() > HEARTBEAT {
            let took = step::seconds(self.started.elapsed());
            let line = format!("… {took}: {}", self.now());
            self.tell(&line);
        }
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
