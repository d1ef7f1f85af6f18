//! The host changes while steer runs: its VPN, its bridges, its cgroups.

use std::{collections::BTreeSet, ffi::OsString, path::Path, time::Duration};

use nix::sys::inotify::AddWatchFlags;
use tokio::time::Instant;

use super::{Engine, Error, vpns::FollowedVpn};
use crate::{
    datapath::{self, cgroup_id},
    host::{self, Link, cgroup::Hierarchy, link},
    route::{self, Plan, Vpn, Wanted},
};

/// Changes of the host come in bursts; they are taken together.
const SETTLE: Duration = Duration::from_millis(30);
/// From one time that somebody's doing is undone to the next, for he may do the same with ours.
const APART: Duration = Duration::from_millis(500);

/// Looks that follow each other closely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hurry {
    pub(super) next: Instant,
    until: Instant,
}

impl Hurry {
    fn go_on(self) -> Option<Self> {
        const APART: Duration = Duration::from_millis(30);
        let next = Instant::now() + APART;
        (next < self.until).then_some(Self { next, ..self })
    }
}

/// Leaves out what went away between the look and now, which is told as a change of its own.
pub(super) fn unless_gone<T>(
    attached: Result<T, datapath::Error>,
) -> Result<Option<T>, datapath::Error> {
    match attached {
        Ok(attached) => Ok(Some(attached)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Engine {
    /// When to look at the interfaces after something changed.
    pub(super) fn next_look(&self) -> Instant {
        let soon = Instant::now() + SETTLE;
        self.restored.map_or(soon, |last| soon.max(last + APART))
    }

    /// Looks at the interfaces anew. Says whether there are new bridges, so that a second look is due.
    pub(super) async fn follow_links(&mut self) -> Result<bool, Error> {
        let links = link::list().await?;
        let mut unclear = None;
        let mut vpns = Vec::new();
        for vpn in &self.vpns {
            vpns.push(vpn.choose(&links).unwrap_or_else(|error| {
                unclear.get_or_insert(error.to_string());
                None
            }));
        }
        self.links.clone_from(&links);
        let attached = self.attach_named(&links);
        let assigned = self.assign_anew().await;
        let kept = self.keep_attached();
        self.newest = self.newest.max(self.looked_at(&links));
        let followed = self.follow_vpns(&vpns, &links).await;
        if unclear != self.unclear {
            unclear.iter().for_each(|why| self.report.note(why));
            self.unclear = unclear;
        }
        let news = self.ask_docker(links);
        followed?;
        attached?;
        assigned?;
        kept?;
        Ok(news)
    }

    /// Brings routes and programs to what the VPNs are like now.
    pub(super) async fn follow_vpns(
        &mut self,
        vpns: &[Option<Vpn>],
        links: &[Link],
    ) -> Result<(), Error> {
        for (known, vpn) in self.vpns.iter_mut().zip(vpns) {
            known.see(vpn.clone(), links);
        }
        self.follow_mappings(links);
        let steered = links.iter().filter(|link| self.has_bridge(link.index));
        let wanted = Wanted {
            tunnels: self.vpns.iter().map(FollowedVpn::tunnel).collect(),
            networks: steered.flat_map(|link| link.networks.clone()).collect(),
            dns: self.dns_rules(links),
            forwards: self.forwards(),
            taken: self.bypassed.look(vpns).await?,
            newest: self.newest,
            numbers: self.settings.routing,
        };
        let plan = route::plan(&wanted);
        let changes = self.routing.apply(&plan).await?;
        if self.plan.as_ref() == Some(&plan) {
            // It was so before: somebody else undid it.
            self.report.restored(&changes);
            if !changes.is_empty() {
                self.restored = Some(Instant::now());
            }
        } else {
            changes.iter().for_each(|change| self.report.detail(change));
            self.tell_obstacles(&plan).await?;
            self.plan = Some(plan);
        }
        let home = host::home(links, |index| self.has_bridge(index));
        self.datapath.set_home(&home)?;
        self.tell_vpns(links)?;
        self.bypass(vpns, &wanted.taken)
    }

    /// Tells what else drops what is forwarded to containers, once.
    async fn tell_obstacles(&mut self, plan: &Plan) -> Result<(), Error> {
        let obstacles = route::obstacles(plan).await?;
        for obstacle in obstacles.iter().filter(|it| !self.obstacles.contains(it)) {
            self.report.note(obstacle);
        }
        self.obstacles = obstacles;
        Ok(())
    }

    /// Looks for the cgroups again for a while after one went, for a daemon that restarts has a new one, and now and
    /// then, for daemons that were not there.
    pub(super) fn follow_cgroups(&mut self) -> Result<(), Error> {
        const A_WHILE: Duration = Duration::from_secs(60);
        self.hurry = self.hurry.and_then(Hurry::go_on);
        for note in self.follow_processes()? {
            self.report.note(&note);
        }
        let gone: Vec<_> = self
            .cgroups
            .extract_if(.., |known| cgroup_id(&known.path).ok() != Some(known.id))
            .collect();
        for cgroup in &gone {
            self.datapath.detach_cgroup(cgroup.id);
            self.report.cgroup(cgroup, false);
            self.lost = Some(Instant::now() + A_WHILE);
        }
        let Some(until) = self.lost else {
            return Ok(());
        };
        let mut found = false;
        for cgroup in Hierarchy::read()?.present(&self.settings.all_cgroups()) {
            if self.cgroups.iter().all(|known| known.id != cgroup.id) {
                let attached = self.datapath.attach_cgroup(&cgroup.path);
                if unless_gone(attached)?.is_some() {
                    self.report.cgroup(&cgroup, true);
                    self.cgroups.push(cgroup);
                    found = true;
                }
            }
        }
        if found || until <= Instant::now() {
            self.lost = None;
        }
        if found || !gone.is_empty() {
            self.watch_cgroups()?;
        }
        Ok(())
    }

    /// Something of these names came or went where cgroups do. If they may be wanted, they are looked for all the time for a
    /// moment, for a daemon enters its cgroup after that is there.
    pub(super) fn hurry(&mut self, names: &BTreeSet<OsString>) {
        const MOMENT: Duration = Duration::from_secs(1);
        let known = self.cgroups.iter().map(|cgroup| cgroup.path.as_path());
        let choices = self.settings.all_cgroups();
        let wanted = Hierarchy::paths(&choices);
        let concerns = known
            .chain(wanted)
            .flat_map(Path::components)
            .any(|part| names.contains(part.as_os_str()));
        if concerns || names.is_empty() {
            let now = Instant::now();
            self.hurry = Some(Hurry {
                next: now,
                until: now + MOMENT,
            });
            self.lost = self.lost.max(Some(now + MOMENT));
        }
    }

    /// Has the kernel tell where wanted cgroups come and go.
    pub(super) fn watch_cgroups(&mut self) -> Result<(), Error> {
        let mut folders = Hierarchy::read()?.folders(&self.settings.all_cgroups());
        let attached = self.cgroups.iter();
        folders.extend(attached.filter_map(|cgroup| cgroup.path.parent().map(Path::to_owned)));
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        // One that is not watched is found by the looks of each second and half minute.
        self.cgroup_folders.watch(folders, flags);
        Ok(())
    }
}
