//! Other rules while a run goes on: read apart, put in force all at once; or nothing at all.

use std::{mem, path::PathBuf, sync::Arc, time::Instant};

use steer_common::suffix::Key;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinHandle, spawn_blocking},
};

use super::{Engine, Error, Rulebook, files::Files};
use crate::{
    config::{Scope, Settings},
    control::Answer,
    datapath::NewRules,
    error::sentence,
    origin::Sourced,
    report::Reloaded,
};

/// When rules are to be read again, and what came of it.
#[derive(Debug)]
pub(super) struct Reload {
    hangup: Signal,
    files: Files,
    wanted: bool,
    /// Who waits for the next reading, and who for the one that goes on.
    waiting: Vec<Answer>,
    answered: Vec<Answer>,
    /// Why the rules stay as they were, until others are in force.
    failed: Option<String>,
    work: Option<JoinHandle<Result<Fresh, Error>>>,
    /// How often in a row files have changed while they were read.
    again: u32,
}

/// How often files that change while they are read are read again for somebody who waits.
const PATIENCE: u32 = 2;

/// What was read, ready to be put in force.
#[derive(Debug)]
pub(super) struct Fresh {
    settings: Settings,
    rulebook: Rulebook,
    rules: NewRules,
    nets: bool,
    begun: Instant,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Step {
    /// To read.
    Read,
    /// To put in force what was read.
    Take(Box<Result<Fresh, Error>>),
}

impl Reload {
    /// Listens to SIGHUP, and to changes of these files. Says what the user should know.
    pub fn new(files: &[PathBuf]) -> Result<(Self, Vec<String>), Error> {
        let (mut watched, note) = Files::new();
        let notes = note.into_iter().chain(watched.watch(files)).collect();
        let reload = Self {
            hangup: signal(SignalKind::hangup()).map_err(Error::Signals)?,
            files: watched,
            wanted: false,
            waiting: Vec::new(),
            answered: Vec::new(),
            failed: None,
            work: None,
            again: 0,
        };
        Ok((reload, notes))
    }

    /// Waits until there is something to do. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Step {
        loop {
            if self.work.is_none() && mem::take(&mut self.wanted) {
                return Step::Read;
            }
            tokio::select! {
                _ = self.hangup.recv() => self.files.ask(),
                () = self.files.changed() => self.wanted = true,
                read = ended(self.work.as_mut()) => {
                    self.work = None;
                    // Half of it may be what was there before; but whoever waits does not wait for ever.
                    self.again += 1;
                    let is_late = !self.answered.is_empty() && self.again > PATIENCE;
                    if self.files.differ() && !is_late {
                        self.files.ask();
                        continue;
                    }
                    self.again = 0;
                    let read = read.map_err(Error::Reading).flatten();
                    return Step::Take(Box::new(read));
                }
            }
        }
    }

    /// Has them read at once, and what comes of it told.
    pub fn at_once(&mut self, answer: Option<Answer>) {
        self.wanted = true;
        self.waiting.extend(answer);
    }

    /// Why the rules of the files are not in force.
    pub fn failed(&self) -> Option<&String> {
        self.failed.as_ref()
    }

    /// Looks at the files, for changes that nobody told.
    pub fn look(&mut self) {
        if self.files.have_changed() {
            self.files.ask();
        }
    }
}

impl Engine {
    /// Does what there is to do; a failure leaves the rules as they are.
    pub(super) fn reload(&mut self, step: Step) {
        let done = match step {
            Step::Read => {
                self.read_again();
                return;
            }
            Step::Take(read) => read.and_then(|fresh| self.take(fresh)),
        };
        let done = done.map_err(|error| sentence(&error));
        if let Err(why) = &done {
            self.report.not_reloaded(why);
        }
        self.reload.failed = done.as_ref().err().cloned();
        let mut answered = mem::take(&mut self.reload.answered);
        if done.is_err() {
            // With what was to be added, whoever wanted it.
            self.forget_added();
            answered.append(&mut self.reload.waiting);
        }
        for answer in answered {
            // Who asked may be gone.
            let _ = answer.send(done.clone());
        }
    }

    fn read_again(&mut self) {
        // Before they are read, so that what changes meanwhile is read once more.
        self.reload.files.have_changed();
        let settings = self.settings.clone();
        let key = self.config.key;
        self.reload.work = Some(spawn_blocking(move || Fresh::read(&settings, key)));
        let waiting = mem::take(&mut self.reload.waiting);
        self.reload.answered.extend(waiting);
    }

    fn take(&mut self, fresh: Fresh) -> Result<Reloaded, Error> {
        let Fresh {
            settings,
            rulebook,
            rules,
            nets,
            begun,
        } = fresh;
        self.datapath.replace_rules(&rules)?;
        self.config.nets = u32::from(nets);
        self.config.patterns = u32::from(rulebook.rules().has_patterns());
        self.config.blocks = u32::from(rulebook.rules().blocks_names());
        self.datapath.configure(&self.config)?;
        let before = self.rulebook.rules().len();
        self.rulebook = Arc::new(rulebook);
        let decided = self.decide_anew()?;

        let mut notes: Vec<_> = self
            .reload
            .files
            .watch(&settings.files)
            .into_iter()
            .collect();
        let waiting = differences(&self.settings, &settings);
        if !waiting.is_empty() {
            notes.push(format!(
                "{} changed, which takes a restart of steer; rules alone are taken over while it runs",
                waiting.join(", ")
            ));
        }
        self.control.in_force(settings.added_rules());
        self.settings.rules = settings.rules;
        self.settings.file = settings.file;
        self.settings.files = settings.files;
        self.settings.resolve = settings.resolve;
        let lists = mem::replace(&mut self.settings.lists, settings.lists);
        notes.extend(self.know());
        let reloaded = Reloaded {
            before,
            rules: self.rulebook.rules().len(),
            took: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            anew: decided.anew,
            gone: decided.gone,
        };
        self.report.reloaded(&reloaded);
        let others = self
            .settings
            .lists
            .iter()
            .filter(|list| !lists.contains(list));
        others.for_each(|list| self.report.list(list));
        notes.iter().for_each(|note| self.report.note(note));
        Ok(reloaded)
    }
}

impl Fresh {
    fn read(settings: &Settings, key: Key) -> Result<Self, Error> {
        let begun = Instant::now();
        let before: Vec<_> = settings.vpns.iter().map(|vpn| vpn.name.clone()).collect();
        let settings = settings.reread()?;
        if !settings.vpns.iter().map(|vpn| &vpn.name).eq(&before) {
            return Err(Error::OtherVpns);
        }
        let rulebook = Rulebook::new(settings.rules.clone(), Some(key))?;
        if rulebook.key() != key {
            return Err(Error::Rekeyed);
        }
        let nets = rulebook.nets();
        Ok(Self {
            rules: NewRules::fill(rulebook.entries(), &nets)?,
            nets: !nets.is_empty(),
            settings,
            rulebook,
            begun,
        })
    }
}

/// Waits for the end of what is being read, if anything is.
async fn ended<T>(work: Option<&mut JoinHandle<T>>) -> Result<T, JoinError> {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// The keys, apart from rules, of which the files say something else than before.
fn differences(old: &Settings, new: &Settings) -> Vec<&'static str> {
    fn values<T>(sourced: &[Sourced<T>]) -> Vec<&T> {
        sourced.iter().map(|sourced| &sourced.value).collect()
    }
    let differs = [
        ("[vpn]", !same_vpns(old, new)),
        (
            "attach.cgroups",
            values(&old.cgroups) != values(&new.cgroups),
        ),
        (
            "attach.bridges",
            values(&old.bridges) != values(&new.bridges),
        ),
        ("attach.docker", old.docker.value != new.docker.value),
        ("dns.vpn", old.dns_vpn != new.dns_vpn),
        ("[sni]", old.sni != new.sni),
        ("[tables]", old.tables != new.tables),
        ("[[scope]]", !same_scopes(&old.scopes, &new.scopes)),
        ("[routing]", old.routing != new.routing),
    ];
    differs
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
}

fn same_vpns(old: &Settings, new: &Settings) -> bool {
    let mut pairs = old.vpns.iter().zip(&new.vpns);
    let same = old.vpns.len() == new.vpns.len() && old.default_vpn == new.default_vpn;
    same && pairs.all(|(old, new)| old.means(new))
}

fn same_scopes(old: &[Scope], new: &[Scope]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.means(new))
}
