//! What the run is asked and told over its control socket.

use std::{future::pending, time::Duration};

use steer_common::stats::Stats;
use tokio::time::Instant;

use super::{Engine, Error};
use crate::{
    control::{Answer, Ask, Server},
    inspect::{Run, Snapshot, rules::Change},
    origin::Origin,
    rules::{Rule, Subject, SubjectError, Verdict},
};

/// The socket, and what was told over it.
#[derive(Debug)]
pub(super) struct Control {
    server: Option<Server>,
    /// The counters as they were at the start.
    counted: Stats,
    /// What the user was told at the start.
    pub(super) notes: Vec<String>,
    /// The rules added, as they are to be.
    added: Vec<Added>,
    /// The same, as they are in force.
    in_force: Vec<Added>,
}

/// A rule that was added while the run goes on.
#[derive(Clone, Debug)]
struct Added {
    rule: Rule,
    /// When it is over, if ever.
    until: Option<Instant>,
}

/// From one time that a rule cannot be let go of to the next.
const AGAIN: Duration = Duration::from_secs(30);

impl Control {
    /// Closed as yet.
    pub fn new(counted: Stats) -> Self {
        Self {
            server: None,
            counted,
            notes: Vec::new(),
            added: Vec::new(),
            in_force: Vec::new(),
        }
    }

    /// Remembers that what was read with these rules is in force.
    pub fn in_force(&mut self, read: &[Rule]) {
        let is_read = |added: &&Added| read.contains(&added.rule);
        self.in_force = self.added.iter().filter(is_read).cloned().collect();
    }

    /// What is asked next. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Ask {
        if let Some(server) = &mut self.server
            && let Some(ask) = server.next().await
        {
            return ask;
        }
        pending().await
    }
}

impl Engine {
    /// Lets others ask. Without the socket steer steers all the same.
    pub(super) fn open_control(&mut self) {
        let journal = self.report.journal().clone();
        match Server::start(&self.settings.run_dir, &self.settings.bpffs, journal) {
            Ok(server) => self.control.server = Some(server),
            Err(source) => {
                let error = Error::Control {
                    path: crate::control::socket(&self.settings.run_dir),
                    source,
                };
                self.go_on::<()>(Err(error));
            }
        }
    }

    /// Does what was asked.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            // Who asked may be gone, here as below.
            Ask::Snapshot(answer) => drop(answer.send(Box::new(self.snapshot()))),
            Ask::Watch(answer) => {
                let watched = self.watched();
                self.go_on(watched);
                let _ = answer.send(());
            }
            Ask::Reload(answer) => self.reload.at_once(Some(answer)),
            Ask::Change(change, answer) => self.change(&change, answer),
        }
    }

    /// Lets go of the rules whose time is over.
    pub(super) fn let_go_of_added(&mut self) {
        let now = Instant::now();
        let is_over = |added: &mut Added| added.until.is_some_and(|until| until <= now);
        let over: Vec<_> = self.control.added.extract_if(.., is_over).collect();
        for Added { rule, .. } in &over {
            self.report.note(&format!(
                "the rule {} was added for a while, which is over",
                rule.subject
            ));
        }
        if !over.is_empty() {
            self.set_added();
            self.reload.at_once(None);
        }
    }

    /// Goes back to the rules added that are in force. Those whose time is over are tried to be let go again later.
    pub(super) fn forget_added(&mut self) {
        let now = Instant::now();
        self.control.added = self.control.in_force.clone();
        for added in &mut self.control.added {
            added.until = added.until.map(|until| match until <= now {
                true => now + AGAIN,
                false => until,
            });
        }
        self.set_added();
    }

    fn set_added(&mut self) {
        let rules = self.control.added.iter().map(|added| added.rule.clone());
        *self.settings.added() = rules.collect();
    }

    fn snapshot(&self) -> Snapshot {
        let mut troubles = self.report.troubles();
        troubles.extend(self.unclear.clone());
        troubles.extend(self.scoped.troubles(&self.bridges));
        troubles.extend(self.mappings.troubles());
        troubles.extend(
            self.reload
                .failed()
                .map(|why| format!("the files have changed and are not in force: {why}")),
        );
        Snapshot {
            run: Some(Run {
                pid: std::process::id(),
                uptime: self.report.uptime(),
                counted: self.control.counted,
                steered: self.report.steered(),
            }),
            settings: self.settings.clone(),
            rulebook: self.rulebook.clone(),
            vpns: self.seen_vpns(),
            bridges: self.bridges.clone(),
            cgroups: self.cgroups.clone(),
            scoped: self.scoped.seen(self.mappings.seen()),
            troubles,
            notes: self
                .processes
                .notes_now(self.scoped.notes_now(&self.control.notes)),
        }
    }

    fn change(&mut self, change: &Change, answer: Answer) {
        match self.try_change(change) {
            Ok(()) => self.reload.at_once(Some(answer)),
            Err(why) => drop(answer.send(Err(why))),
        }
    }

    fn try_change(&mut self, change: &Change) -> Result<(), String> {
        let subject: Subject = change
            .rule
            .parse()
            .map_err(|error: SubjectError| error.to_string())?;
        let verdict = change.verdict()?;
        let vpn = match &change.vpn {
            Some(_) if verdict != Some(Verdict::Vpn) => {
                return Err("only a rule for a VPN says which".to_owned());
            }
            Some(name) => Some(self.settings.vpn_named(name)?),
            None => None,
        };
        let until = change
            .seconds
            .map(|seconds| {
                let end = Instant::now().checked_add(Duration::from_secs(seconds));
                end.ok_or_else(|| format!("{seconds} seconds are too many"))
            })
            .transpose()?;
        let added = &mut self.control.added;
        let before = added.len();
        added.retain(|added| added.rule.subject != subject);
        let is_gone = added.len() < before;
        if let Some(verdict) = verdict {
            let rule = Rule {
                subject,
                verdict,
                vpn,
                origin: Origin::Added,
            };
            added.push(Added { rule, until });
        } else if !is_gone {
            return Err(self.not_added(&subject));
        }
        self.set_added();
        Ok(())
    }

    /// Why a rule cannot be taken away.
    fn not_added(&self, subject: &Subject) -> String {
        let rules = self.rulebook.rules().own();
        match rules.iter().find(|(known, _)| known == subject) {
            Some((_, judgement)) => format!(
                "{subject} was not added while steer runs: it stands at {}, to be taken away there",
                judgement.origin
            ),
            None => {
                format!("there is no rule {subject}; steer rules list shows those that there are")
            }
        }
    }
}
