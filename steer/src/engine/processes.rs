//! In which scope processes are: by their cgroups, which come and go.

use std::{collections::BTreeSet, net::IpAddr};

use steer_common::{
    process::connected,
    types::{Address, FlowKey, Port, ProcessScope, ScopeEntry},
};

use super::{Engine, Error, scopes::entry_of, sockets};
use crate::{
    config::{Scope, Selector, Way},
    datapath::Processes,
    error::sentence,
    host::{self, cgroup::Hierarchy, process, sock_diag::Socket},
    scope::ScopeId,
    words::counted,
};

/// What is known of the cgroups of scopes.
#[derive(Debug, Default)]
pub(super) struct Scoped {
    /// What the programs were told.
    told: Processes,
    /// What is to be said of it now.
    notes: Vec<String>,
    /// What was ever said of it.
    said: BTreeSet<String>,
}

impl Scoped {
    /// What is to be said now, of what was said and of these.
    pub(super) fn notes_now(&self, told: Vec<String>) -> Vec<String> {
        let others = told.into_iter().filter(|note| !self.said.contains(note));
        others.chain(self.notes.iter().cloned()).collect()
    }
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
        let news: Vec<_> = news.cloned().collect();
        self.processes.said.extend(news.iter().cloned());
        self.processes.notes = notes;
        Ok(news)
    }

    /// Ends what processes that are isolated now had begun before, so that they begin it anew: its packets leave no more. Says what
    /// the user should know.
    pub(super) fn end_older(&mut self) -> Result<Option<String>, Error> {
        let hierarchy = Hierarchy::read()?;
        let scopes = &self.settings.scopes;
        let isolated = scopes.iter().filter(|scope| scope.default != Way::Direct);
        let roots = isolated.filter_map(|scope| match &scope.selector {
            Selector::Cgroup(path) => hierarchy.find(path),
            _ => None,
        });
        let cgroups = process::cgroups_below(roots);
        if cgroups.is_empty() {
            return Ok(None);
        }
        let Ok(sockets) = sockets::connected() else {
            return Ok(Some(
                "connections of processes that are older than their scope are cut and not ended, for the kernel does not tell of sockets: \
                 restart them"
                    .to_owned(),
            ));
        };
        let home = host::home(&self.links, |index| self.has_bridge(index));
        let stays = |socket: &Socket| {
            let remote = socket.remote.ip();
            remote.is_loopback() || home.iter().any(|net| net.contains(remote))
        };
        let config = self.config;
        let flows = self.datapath.flows()?;
        let older = |protocol: u32, socket: &Socket| {
            let (remote, port) = (socket.remote.ip().into(), Port::new(socket.remote.port()));
            let keys = [
                connected(socket.cookie, protocol, remote, port),
                FlowKey::of_comer(remote, port),
            ];
            socket.cgroup.is_some_and(|id| cgroups.contains_key(&id))
                && !sockets::path(socket, &config).is_vpn()
                && !stays(socket)
                && keys.iter().all(|key| flows.get(key, 0).is_err())
        };
        let older: Vec<_> = sockets
            .iter()
            .filter(|(protocol, socket)| older(*protocol, socket))
            .collect();
        let ended = older
            .iter()
            .filter(|(protocol, socket)| self.pieces.end_socket(*protocol, socket.cookie))
            .count();
        Ok((!older.is_empty()).then(|| {
            format!(
                "{} of processes older than their scope: {ended} ended, the others' packets go nowhere",
                counted(older.len(), "connection")
            )
        }))
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
