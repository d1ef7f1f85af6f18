//! In which scope processes are: by their cgroups, which come and go.

use std::net::IpAddr;

use steer_common::types::{Address, ProcessScope, ScopeEntry};

use super::{Engine, Error, scopes::entry_of};
use crate::{
    config::Scope, datapath::Processes, error::sentence, host::cgroup::Hierarchy, scope::ScopeId,
};

/// What is known of the cgroups of scopes.
#[derive(Debug, Default)]
pub(super) struct Scoped {
    /// What the programs were told.
    told: Processes,
    /// What was said of it last.
    notes: Vec<String>,
}

impl Engine {
    /// Looks which cgroups of scopes there are, and tells the programs before anything is attached to those. Says what the user
    /// should know that was not said before.
    pub(super) fn follow_processes(&mut self) -> Result<Vec<String>, Error> {
        if self.config.processes == 0 {
            return Ok(Vec::new());
        }
        let hierarchy = Hierarchy::read()?;
        let (mut now, mut notes) = (Processes::new(), Vec::new());
        for (place, choice) in self.settings.scoped_cgroups() {
            match hierarchy.resolve(std::slice::from_ref(&choice), &mut Vec::new()) {
                Ok(cgroups) => {
                    let scope = self.scope_of_processes(ScopeId(place));
                    // Of two scopes of one cgroup, the first counts.
                    for cgroup in cgroups {
                        now.entry(cgroup.id).or_insert(scope);
                    }
                }
                Err(why) => notes.push(format!("{}: it is awaited", sentence(&why))),
            }
        }
        if now != self.processes.told {
            self.datapath.set_processes(&self.processes.told, &now)?;
            self.processes.told = now;
        }
        let news = notes.iter().filter(|it| !self.processes.notes.contains(it));
        let news = news.cloned().collect();
        self.processes.notes = notes;
        Ok(news)
    }

    fn scope_of_processes(&self, id: ScopeId) -> ProcessScope {
        let scopes = &self.settings.scopes;
        let entry = entry_of(scopes, id);
        ProcessScope {
            entry: ScopeEntry {
                path: entry.path.or(self.config.default),
                ..entry
            },
            v4: resolver(&scopes[id.0], IpAddr::is_ipv4),
            v6: resolver(&scopes[id.0], IpAddr::is_ipv6),
        }
    }
}

/// The first of a scope's name servers of a family.
fn resolver(scope: &Scope, is_it: fn(&IpAddr) -> bool) -> Address {
    let found = scope.dns.iter().find(|address| is_it(address));
    found.copied().map(Address::from).unwrap_or_default()
}
