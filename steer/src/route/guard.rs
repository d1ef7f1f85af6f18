//! Applies plans, and puts the host back on every way out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    thread,
};

use super::{
    Change, Error,
    diff::{Loosened, State, diff},
    docker,
    ledger::Ledger,
    message::{SeenRoute, SeenRule},
    netlink::{Netlink, has_ipv6},
    nft::{self, Owner},
    plan::{Family, IfIndex, NftTable, Numbers, Plan, Priority, Selector, TableId, VpnId},
    rp_filter,
};

/// Steer's routing state on this host. Whatever becomes of it, the host is put back: by [`Routing::remove`], which
/// tells whether all went well, or else, as well as can be, when it is dropped.
///
/// It belongs to the network namespace of the thread that calls it.
#[derive(Debug)]
pub struct Routing(Option<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    numbers: Numbers,
    newest: Option<IfIndex>,
    /// By the table of their VPN.
    sources: BTreeMap<TableId, BTreeSet<IpAddr>>,
    applied: bool,
    /// What has been told of Docker's firewall.
    troubles: BTreeSet<String>,
}

impl Routing {
    /// Looks whether mark, table, priorities and nft table are free, and changes nothing. What an earlier run left
    /// is taken over with the first plan: `run_dir`, which must exist, has the record of it.
    pub async fn open(run_dir: &Path, numbers: Numbers) -> Result<Self, Error> {
        let numbers = numbers.check()?;
        let ledger = Ledger::open(run_dir)?;
        let netlink = Netlink::connect()?;
        let mut sources: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for family in families() {
            let rules = netlink.rules(family).await?;
            check_rules(numbers, &rules)?;
            let ours = rules.iter().filter_map(|seen| seen.ours.as_ref());
            for rule in ours {
                if let Selector::From(address) = rule.selector {
                    sources.entry(rule.table).or_default().insert(address);
                }
            }
            for table in numbers.tables() {
                check_routes(&netlink.routes(family, table).await?)?;
            }
        }
        let table = match nft::observe().await? {
            Some(Owner::Other(why)) => return Err(Error::ForeignNft { why }),
            Some(Owner::Steer(table)) => Some(table),
            Some(Owner::SteerChanged) | None => None,
        };
        Ok(Self(Some(Inner {
            ledger,
            numbers,
            newest: table.map(|table| table.newest),
            sources,
            applied: false,
            troubles: BTreeSet::new(),
        })))
    }

    /// The newest interface that a run that was killed has looked at, if one was.
    pub fn newest(&self) -> Option<IfIndex> {
        self.0.as_ref().and_then(|inner| inner.newest)
    }

    /// The addresses that a run that was killed took for a VPN's.
    pub fn sources(&self, vpn: VpnId) -> BTreeSet<IpAddr> {
        let inner = self.0.as_ref();
        let of = |inner: &Inner| {
            let table = inner.numbers.table_of(vpn);
            inner.sources.get(&table).cloned()
        };
        inner.and_then(of).unwrap_or_default()
    }

    /// Brings the host to the plan and returns what had to be changed: nothing when all is there already. To be
    /// called whenever the plan may have changed, or the host. When a step fails, those before it are taken back.
    /// When the future is dropped half-way, they are not, and the next call goes on from there.
    ///
    /// An interface that goes down or away in the meantime is no failure: its route is left out, and the next plan
    /// is to know of it ([`watch`](super::watch()) tells when).
    pub async fn apply(&mut self, plan: &Plan) -> Result<Vec<Change>, Error> {
        match &mut self.0 {
            Some(inner) => inner.apply(plan).await,
            None => Ok(Vec::new()),
        }
    }

    /// Removes all that is steer's, gives changed sysctls their values back, and returns what was done. Goes on
    /// after a failure, and then tells all that is left.
    pub async fn remove(mut self) -> Result<Vec<Change>, Error> {
        let Some(inner) = &mut self.0 else {
            return Ok(Vec::new());
        };
        let result = inner.remove().await;
        // Not before: when this future is dropped half-way, the rest is for the guard.
        self.0 = None;
        result
    }
}

/// Removes what a run left that was killed, and returns what was done. `run_dir` has the record of it; without one,
/// what has steer's protocol number under the given numbers is removed.
pub async fn cleanup(run_dir: &Path, numbers: Numbers) -> Result<Vec<Change>, Error> {
    let ledger = Ledger::open(run_dir)?;
    let mut inner = Inner {
        ledger,
        numbers,
        newest: None,
        sources: BTreeMap::new(),
        applied: true,
        troubles: BTreeSet::new(),
    };
    inner.remove().await
}

impl Drop for Routing {
    /// On a thread and a runtime of its own: the one that all ran on may be ending, and blocking within it is an
    /// error.
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take().filter(|inner| inner.applied) else {
            return;
        };
        let removal = thread::Builder::new()
            .name("steer-putback".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                Ok::<_, std::io::Error>(runtime.block_on(inner.remove()))
            });
        let outcome = removal.map(thread::JoinHandle::join);
        match outcome {
            Ok(Ok(Ok(Ok(_)))) => {}
            Ok(Ok(Ok(Err(error)))) => tracing::error!("{error}"),
            Ok(Ok(Err(error))) | Err(error) => {
                tracing::error!(
                    "cannot put the host's routing back ({error}): run `steer cleanup`"
                );
            }
            Ok(Err(_)) => {
                tracing::error!("putting the host's routing back panicked: run `steer cleanup`")
            }
        }
    }
}

impl Inner {
    async fn apply(&mut self, plan: &Plan) -> Result<Vec<Change>, Error> {
        let netlink = Netlink::connect()?;
        let mut state = self.observe(&netlink, plan).await?;
        let mut troubles = BTreeSet::new();
        // Firewalls are asked only where they concern steer: that takes several programs.
        if self.ledger.openings() || !plan.openings.is_empty() {
            let (gates, errors) = docker::gates().await;
            state.gates = gates;
            troubles.extend(errors.iter().map(ToString::to_string));
        }
        let changes = diff(plan, &state);
        self.ledger.add_numbers(self.numbers)?;
        self.applied = true;
        let mut done = Vec::new();
        for change in changes {
            match self.execute(&netlink, &change).await {
                Ok(()) => done.push(change),
                // The plan is outdated: the next one, which the interface's event brings, knows. Until then the rest
                // of this one does what a VPN that is down means.
                Err(error) if error.is_of_a_lost_interface() => tracing::warn!("{error}"),
                // Docker is at work on its chains, maybe.
                Err(error) if matches!(change, Change::Open { .. } | Change::Close { .. }) => {
                    troubles.insert(error.to_string());
                }
                Err(error) => {
                    self.take_back(&netlink, &done).await;
                    return Err(error);
                }
            }
        }
        self.ledger.keep_only(self.numbers)?;
        // None of the rest is worth less for what Docker's firewall does not take.
        if troubles.is_empty() {
            self.ledger.set_openings(!plan.openings.is_empty())?;
        }
        for trouble in troubles.difference(&self.troubles) {
            tracing::warn!("{trouble}");
        }
        self.troubles = troubles;
        Ok(done)
    }

    async fn take_back(&mut self, netlink: &Netlink, done: &[Change]) {
        for change in done.iter().rev().filter_map(Change::inverse) {
            if let Err(error) = self.execute(netlink, &change).await {
                tracing::warn!("after a failure: {error}");
            }
        }
    }

    async fn remove(&mut self) -> Result<Vec<Change>, Error> {
        let netlink = Netlink::connect()?;
        let nothing = Plan::default();
        let mut state = self.observe(&netlink, &nothing).await?;
        let mut done = Vec::new();
        let mut errors = Vec::new();
        // Without a record of a run there may have been one all the same.
        if self.ledger.openings() || self.ledger.numbers().is_empty() {
            let (gates, unknown) = docker::gates().await;
            state.gates = gates;
            // Of somebody else's firewall that iptables cannot list nothing says that anything in it is ours.
            if self.ledger.openings() {
                errors.extend(unknown);
            }
        }
        for change in diff(&nothing, &state) {
            match self.execute(&netlink, &change).await {
                Ok(()) => done.push(change),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(Error::Incomplete { errors });
        }
        self.ledger.close()?;
        Ok(done)
    }

    async fn observe(&self, netlink: &Netlink, plan: &Plan) -> Result<State, Error> {
        let numbers: Vec<_> = self
            .ledger
            .numbers()
            .iter()
            .chain([&self.numbers])
            .collect();
        let tables = numbers.iter().flat_map(|numbers| numbers.tables());
        let mut tables: Vec<_> = tables.collect();
        tables.sort_unstable();
        tables.dedup();

        let mut state = State {
            ipv6: has_ipv6(),
            ..State::default()
        };
        for family in families() {
            let rules = netlink
                .rules(family)
                .await?
                .into_iter()
                .filter_map(|seen| seen.ours);
            state.rules.extend(rules.filter(|rule| {
                numbers.iter().any(|numbers| {
                    let is_ours = |table| table == rule.table;
                    let leads = rule.table == TableId::MAIN || numbers.tables().any(is_ours);
                    numbers.owns(rule.priority) && leads
                })
            }));
            for &table in &tables {
                let routes = netlink.routes(family, table).await?;
                state
                    .routes
                    .extend(routes.into_iter().filter_map(|seen| seen.ours));
            }
        }
        (state.nft, state.nft_changed) = observe_nft(plan).await?;
        state.rp_filter_all = rp_filter::all()?;
        for interface in &plan.loose_rp_filter {
            if let Some(value) = rp_filter::get(interface)? {
                state.rp_filter.insert(interface.clone(), value);
            }
        }
        for entry in self.ledger.rp_filter() {
            state.loosened.push(Loosened {
                interface: entry.interface.clone(),
                original: entry.original,
                now: rp_filter::get(&entry.interface)?,
            });
        }
        Ok(state)
    }

    async fn execute(&mut self, netlink: &Netlink, change: &Change) -> Result<(), Error> {
        tracing::debug!("{change}");
        match change {
            Change::AddRule(rule) => netlink.add_rule(change, rule).await,
            Change::DelRule(rule) => netlink.del_rule(change, rule).await,
            Change::AddRoute(route) => netlink.add_route(change, route).await,
            Change::ReplaceRoute { new, .. } => netlink.replace_route(change, new).await,
            Change::DelRoute(route) => netlink.del_route(change, route).await,
            Change::SetNft { new, .. } => nft::set(change, new.as_ref()).await,
            Change::Open {
                program,
                chain,
                rule,
            } => {
                self.ledger.set_openings(true)?;
                docker::open(change, program, chain, rule).await
            }
            Change::Close {
                program,
                chain,
                rule,
            } => docker::close(change, program, chain, rule).await,
            Change::LoosenRpFilter {
                interface,
                original,
            } => {
                self.ledger.add_rp_filter(interface, *original)?;
                if let Err(source) = rp_filter::set(interface, super::diff::LOOSE) {
                    self.ledger.forget_rp_filter(interface)?;
                    return Err(Error::refused(change, source));
                }
                Ok(())
            }
            Change::RestoreRpFilter {
                interface,
                original,
            } => {
                rp_filter::set(interface, *original)
                    .map_err(|source| Error::refused(change, source))?;
                self.ledger.forget_rp_filter(interface)
            }
            Change::ForgetRpFilter { interface, now, .. } => {
                if now.is_some() {
                    tracing::warn!("{change}");
                }
                self.ledger.forget_rp_filter(interface)
            }
        }
    }
}

async fn observe_nft(plan: &Plan) -> Result<(Option<NftTable>, bool), Error> {
    match nft::observe().await {
        Ok(None) => Ok((None, false)),
        Ok(Some(Owner::Steer(nat))) => Ok((Some(nat), false)),
        Ok(Some(Owner::SteerChanged)) => Ok((None, true)),
        Ok(Some(Owner::Other(why))) if plan.nft.is_some() => Err(Error::ForeignNft { why }),
        Ok(Some(Owner::Other(_))) => Ok((None, false)),
        // Without nft no run can have made a table.
        Err(Error::NftMissing) if plan.nft.is_none() => Ok((None, false)),
        Err(error) => Err(error),
    }
}

/// The families that the kernel has.
pub(super) fn families() -> impl Iterator<Item = Family> {
    Family::BOTH
        .into_iter()
        .filter(|family| *family == Family::V4 || has_ipv6())
}

fn check_rules(numbers: Numbers, rules: &[SeenRule]) -> Result<(), Error> {
    let others = rules.iter().filter(|seen| seen.ours.is_none());
    let mut clashes =
        others.filter_map(|seen| clash(numbers, seen.priority, seen.mark, &seen.text));
    clashes.next().map_or(Ok(()), Err)
}

/// What a rule of somebody else's, as `text` tells it, has that is to be steer's.
pub(super) fn clash(
    numbers: Numbers,
    priority: Priority,
    mark: Option<(u32, u32)>,
    text: &str,
) -> Option<Error> {
    let rule = || text.to_owned();
    if numbers.owns(priority) {
        return Some(Error::ForeignRule {
            rule: rule(),
            first: numbers.priority,
        });
    }
    let taken = numbers.marks().find(|ours| {
        mark.is_some_and(|(value, mask)| {
            mask & ours.mask() != 0 && value & ours.mask() == ours.value()
        })
    });
    taken.map(|mark| Error::MarkTaken { rule: rule(), mark })
}

fn check_routes(routes: &[SeenRoute]) -> Result<(), Error> {
    match routes.iter().find(|seen| seen.ours.is_none()) {
        Some(seen) => Err(Error::ForeignRoute {
            route: seen.text.clone(),
            table: seen.table,
        }),
        None => Ok(()),
    }
}
