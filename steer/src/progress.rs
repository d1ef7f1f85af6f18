//! How far long work is, for whoever waits for it.

use std::{
    cell::RefCell,
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Hears how far work is.
pub trait Progress {
    /// Work begins, of about so many steps.
    fn begin(&self, what: &str, steps: u64);
    /// So many more are done.
    fn advance(&self, steps: u64);
    /// The work is done, or has failed.
    fn end(&self);
}

/// Nobody waits.
#[derive(Clone, Copy, Debug)]
pub struct Unseen;

impl Progress for Unseen {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// A line of the terminal on standard error, for work that takes more than a moment.
#[derive(Debug, Default)]
pub struct Bar {
    work: RefCell<Option<Work>>,
}

#[derive(Debug)]
struct Work {
    what: String,
    steps: u64,
    done: u64,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, steps: u64) {
        self.end();
        if stderr().is_terminal() {
            *self.work.borrow_mut() = Some(Work {
                what: what.to_owned(),
                steps,
                done: 0,
                begun: Instant::now(),
                bar: None,
            });
        }
    }

    fn advance(&self, steps: u64) {
        const MOMENT: Duration = Duration::from_millis(200);
        let mut work = self.work.borrow_mut();
        let Some(work) = work.as_mut() else {
            return;
        };
        work.done += steps;
        if work.begun.elapsed() < MOMENT {
            return;
        }
        let bar = work.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg} [{wide_bar}] {percent:>3}%")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let style = style.progress_chars("=> ");
            ProgressBar::new(work.steps)
                .with_style(style)
                .with_message(work.what.clone())
        });
        bar.set_position(work.done.min(work.steps));
    }

    fn end(&self) {
        if let Some(bar) = self.work.borrow_mut().take().and_then(|work| work.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::rules::list::{Filter, Format, parse_text};

    #[derive(Default)]
    struct Sum(Cell<u64>);

    impl Progress for Sum {
        fn begin(&self, _: &str, _: u64) {}
        fn advance(&self, steps: u64) {
            self.0.set(self.0.get() + steps);
        }
        fn end(&self) {}
    }

    #[test]
    fn the_steps_of_a_list_are_its_octets() {
        let list = "name.example\n".repeat(100_000);
        let sum = Sum::default();
        parse_text(Format::Plain, list.as_bytes(), &Filter::default(), &sum);
        let size = list.len() as u64;
        assert!((size..=size + 1).contains(&sum.0.get()), "{:?}", sum.0);
    }
}
