//! Ctrl-C and its kin: they end the guests first.

use std::{
    process,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sys::signal::{SigSet, Signal};

static WATCH: Once = Once::new();
static WATCHED: AtomicBool = AtomicBool::new(false);
static HAPPENED: AtomicBool = AtomicBool::new(false);

/// While this lives, a signal that would end this process is noted instead: it would leave the guests running.
pub struct Watch(());

impl Watch {
    /// Begins; before any other thread is started, for they inherit what is held back.
    pub fn begin() -> Self {
        WATCH.call_once(watch);
        WATCHED.store(true, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.store(false, Ordering::SeqCst);
    }
}

/// Whether such a signal has come.
pub fn happened() -> bool {
    HAPPENED.load(Ordering::SeqCst)
}

fn watch() {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    if signals.thread_block().is_err() {
        return;
    }
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if !WATCHED.load(Ordering::SeqCst) {
                process::exit(130);
            }
            HAPPENED.store(true, Ordering::SeqCst);
        }
    });
}
