//! Bridges that come and go, and what Docker says of them.

use std::future::pending;

use tokio::{task::JoinHandle, time::Instant};

use super::{Engine, Error, follow::unless_gone};
use crate::{
    host::{Bridge, Kind, Link, bridge, docker},
    route::IfIndex,
};

/// A bridge that was attached to and is not told yet, and what the user should know of it.
#[derive(Debug)]
pub(super) struct Attached {
    bridge: Bridge,
    notes: Vec<String>,
}

/// Docker's networks, and the interfaces that there were when it was asked.
#[derive(Debug)]
pub(super) struct Told {
    networks: Vec<docker::Network>,
    links: Vec<Link>,
}

/// Docker while it is asked for its networks, which may take it seconds.
#[derive(Debug, Default)]
pub(super) struct Asking(Option<JoinHandle<Told>>);

impl Asking {
    /// What it says, once it has been asked.
    pub(super) async fn next(&mut self) -> Option<Told> {
        let Some(asked) = &mut self.0 else {
            return pending().await;
        };
        let told = asked.await;
        self.0 = None;
        told.ok()
    }
}

impl Engine {
    /// Forgets bridges that are gone, and attaches to those that are new and told by their names, without a question to
    /// Docker: containers wait for it.
    pub(super) fn attach_named(&mut self, links: &[Link]) -> Result<(), Error> {
        let is_there = |index| links.iter().any(|link| link.index == index);
        for gone in self.bridges.extract_if(.., |known| !is_there(known.index)) {
            self.datapath.detach_bridge(gone.index.0);
            self.report.bridge(&gone, false);
        }
        self.untold.retain(|it| is_there(it.bridge.index));
        self.attach_bridges(links, &docker::by_name(links))
    }

    /// Puts the programs back on bridges from which somebody has taken them.
    pub(super) fn keep_attached(&mut self) -> Result<(), Error> {
        let mut kept = Ok(());
        for bridge in &self.bridges {
            let restored = self.datapath.restore_bridge(&bridge.name, bridge.index.0);
            match unless_gone(restored) {
                Ok(Some(Some(notes))) => {
                    self.report.attached_again(bridge);
                    notes.iter().for_each(|note| self.report.note(note));
                    self.restored = Some(Instant::now());
                }
                Ok(_) => {}
                Err(error) => kept = Err(error.into()),
            }
        }
        kept
    }

    /// Asks Docker for its networks if there are new bridges, or if it is time to; whether there are new bridges.
    pub(super) fn ask_docker(&mut self, links: Vec<Link>) -> bool {
        let news = links.iter().any(|link| self.is_news(link));
        if (news || self.look_again) && self.asking.0.is_none() {
            self.look_again = news;
            let choice = self.settings.docker.clone();
            self.asking.0 = Some(tokio::spawn(async move {
                // Without an answer there is no network to attach to yet; the second look asks again.
                let networks = docker::networks(&choice, &links, &mut Vec::new()).await;
                Told {
                    networks: networks.unwrap_or_default(),
                    links,
                }
            }));
        }
        news
    }

    /// Attaches to what Docker has told of, and tells of all that was attached to. Says whether the plan is another for it.
    pub(super) async fn docker_told(&mut self, told: Told) -> Result<bool, Error> {
        let Told { networks, links } = told;
        let attached = self.attach_bridges(&links, &networks);
        let changed = !self.untold.is_empty();
        for Attached { mut bridge, notes } in self.untold.drain(..) {
            let network = networks.iter().find(|it| it.interface == bridge.name);
            bridge.network = network.and_then(|network| network.name.clone());
            self.report.bridge(&bridge, true);
            notes.iter().for_each(|note| self.report.note(note));
            let known = self.bridges.iter_mut().find(|it| it.index == bridge.index);
            if let Some(known) = known {
                *known = bridge;
            }
        }
        let before = std::mem::replace(
            &mut self.seen,
            links.iter().map(|link| link.index).collect(),
        );
        // Docker makes a bridge before it tells of the network: one that it said nothing of twice is none of its.
        self.others.extend(before);
        self.others.retain(|index| self.seen.contains(index));
        attached?;
        self.assign_anew().await?;
        Ok(changed || self.looked_at(&links) > self.newest)
    }

    /// Attaches to those bridges with these networks, or wanted otherwise, that are not attached to yet. One that is there
    /// stays attached whatever Docker says of it: a daemon that restarts knows no networks, and its containers go on.
    fn attach_bridges(
        &mut self,
        links: &[Link],
        networks: &[docker::Network],
    ) -> Result<(), Error> {
        // A bridge that is named and not there is no reason to stop: it may come back.
        let choices: Vec<_> = self
            .settings
            .bridges
            .iter()
            .filter(|choice| bridge::is_there(choice, links))
            .cloned()
            .collect();
        for bridge in bridge::resolve(&choices, links, networks, &mut Vec::new())? {
            if self.has_bridge(bridge.index) {
                continue;
            }
            let attached = self.datapath.attach_bridge(&bridge.name, bridge.index.0);
            if let Some(notes) = unless_gone(attached)? {
                self.bridges.push(bridge.clone());
                self.untold.push(Attached { bridge, notes });
            }
        }
        Ok(())
    }

    /// The newest bridge such that all up to it are attached to, or are none of Docker's.
    pub(super) fn looked_at(&self, links: &[Link]) -> IfIndex {
        let bridges = || {
            let bridges = links.iter().filter(|link| link.kind == Kind::Bridge);
            bridges.map(|link| link.index)
        };
        let waits = |index: &IfIndex| !self.has_bridge(*index) && !self.others.contains(index);
        let first = bridges().filter(waits).min();
        let looked_at = bridges().filter(|index| first.is_none_or(|first| *index < first));
        looked_at.max().unwrap_or(IfIndex(0))
    }

    pub(super) fn has_bridge(&self, index: IfIndex) -> bool {
        self.bridges.iter().any(|known| known.index == index)
    }

    /// Whether an interface is a bridge that was not there when Docker was asked last.
    fn is_news(&self, link: &Link) -> bool {
        link.kind == Kind::Bridge && !self.seen.contains(&link.index)
    }
}
