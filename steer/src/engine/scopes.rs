//! In which scope containers are: Docker is asked, and the programs are told. Who is not known waits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use steer_common::types::{
    Address, EmbeddedKey, FlowKey, Path, Piece, Port, ScopeEntry, ScopeKey, relay,
};
use tokio::task::JoinHandle;

use super::{Engine, Error, mappings::WRITTEN};
use crate::{
    config::{At, DockerChoice, OnStop, Scope, Settings, Way},
    datapath::{Listeners, Scopes},
    error::sentence,
    host::{
        Bridge, Link, conntrack, docker,
        docker_events::Events,
        inventory::{Container, Inventory, inventory},
        resolver,
    },
    inspect,
    learn::reinject::on_bridge,
    route::{DnsRule, Forward, IfIndex, VpnId},
    scope::{Assignment, BridgeScope, ScopeId, assign, entry, may_leave, scope_id},
};

/// A container of which Docker does not tell for so long is told of, and then not again for a while.
const LONG: Duration = Duration::from_secs(3);
/// After so long the programs tell of it anew when it sends again.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Packets of one sender that wait, and senders of whom any do.
const PACKETS: usize = 16;
const SENDERS: usize = 1024;
/// Ticks for which a question at Docker's own resolver is remembered; no client waits for half a minute.
const ASKED: u32 = 3;

/// What Docker said.
#[derive(Debug)]
pub(super) struct Told {
    inventory: Inventory,
    /// The bridges that were there before it was asked.
    bridges: BTreeSet<IfIndex>,
    resolvers: Resolvers,
}

/// Where Docker's own resolver listens in each container that runs, by its id, and the container's first process.
type Resolvers = HashMap<String, (u32, Vec<EmbeddedKey>)>;

/// Somebody who waits.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    told: bool,
    packets: Vec<Vec<u8>>,
}

impl Waiting {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            told: false,
            packets: Vec::new(),
        }
    }
}

/// What there is to do.
pub(super) enum Step {
    /// To ask Docker.
    Ask,
    /// To take in what it said.
    Told(Result<Told, String>),
}

/// What is known of containers and their scopes.
#[derive(Debug)]
pub(super) struct Scoped {
    /// None where there is no scope.
    events: Option<Events>,
    asking: Option<JoinHandle<Result<Told, String>>>,
    again: bool,
    inventory: Option<Inventory>,
    /// The bridges that it may speak of: others are newer.
    bridges: BTreeSet<IfIndex>,
    resolvers: Resolvers,
    /// What the programs were told.
    told: Scopes,
    pub(super) assignment: Assignment,
    waiting: BTreeMap<ScopeKey, Waiting>,
    /// What was said of it last.
    notes: Vec<String>,
    /// What was said of it at the start.
    begun: Vec<String>,
}

impl Scoped {
    pub(super) fn new(settings: &Settings) -> Self {
        let docker = || Events::new(settings.docker.value.clone());
        Self {
            events: settings.scopes_containers().then(docker),
            asking: None,
            again: false,
            inventory: None,
            bridges: BTreeSet::new(),
            resolvers: Resolvers::new(),
            told: Scopes::new(),
            assignment: Assignment::default(),
            waiting: BTreeMap::new(),
            notes: Vec::new(),
            begun: Vec::new(),
        }
    }

    /// Waits until there is something to do. May be dropped and called again without loss.
    pub(super) async fn next(&mut self) -> Step {
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        let asked = async {
            match &mut self.asking {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = events.next() => Step::Ask,
            told = asked => {
                self.asking = None;
                Step::Told(told.unwrap_or_else(|error| Err(error.to_string())))
            }
        }
    }

    /// Those who wait and of whom nobody knows, a sentence each.
    pub(super) fn troubles(&self, bridges: &[Bridge]) -> Vec<String> {
        let long = self
            .waiting
            .iter()
            .filter(|(who, it)| it.since.elapsed() >= LONG && may_leave(who));
        let known = self.inventory.as_ref();
        long.map(|(who, _)| waits(who, bridges, known)).collect()
    }

    /// What is known now.
    pub(super) fn seen(&self, assigned: Vec<inspect::Assigned>) -> inspect::Scoped {
        inspect::Scoped {
            assigned,
            assignment: self.inventory.as_ref().map(|_| self.assignment.clone()),
            waiting: self
                .waiting
                .iter()
                .filter(|(who, _)| may_leave(who))
                .map(|(who, it)| (*who, Some(it.since.elapsed())))
                .collect(),
        }
    }

    /// What was said at the start, with what is to be said of scopes now.
    pub(super) fn notes_now(&self, told: &[String]) -> Vec<String> {
        let others = told.iter().filter(|note| !self.begun.contains(note));
        let ours = match &self.inventory {
            Some(_) => &self.assignment.notes,
            None => &self.begun,
        };
        others.chain(ours).cloned().collect()
    }
}

fn waits(who: &ScopeKey, bridges: &[Bridge], inventory: Option<&Inventory>) -> String {
    let from = match who.address == Address::default() {
        true => "its containers wait, for Docker has not told whose it is".to_owned(),
        false => format!(
            "whoever sends from {} there waits, for Docker has told of no such container",
            who.address.to_ip()
        ),
    };
    let bridge = match bridges.iter().find(|bridge| bridge.index.0 == who.bridge) {
        Some(Bridge { name, network, .. }) => {
            // A bridge may be attached to before Docker tells of its network.
            let told = inventory.and_then(|it| it.on_bridge(name));
            match told.map(|it| &it.name).or(network.as_ref()) {
                Some(network) => format!("the bridge {name} (Docker's network {network})"),
                None => format!("the bridge {name}"),
            }
        }
        None => format!("the interface with index {}", who.bridge),
    };
    format!("{bridge}: {from}; see that dockerd answers")
}

impl Engine {
    /// Whether any scope is to stay as it is when steer is stopped.
    pub(super) fn keeps(&self) -> bool {
        self.settings
            .scopes
            .iter()
            .any(|scope| scope.default != Way::Direct && scope.on_stop == OnStop::Keep)
    }

    /// Has containers looked up in their scopes from now on, and asks Docker for the first time. One that does not answer is
    /// told; containers wait for it.
    pub(super) async fn begin_scopes(&mut self) -> Result<Vec<String>, Error> {
        let scopes = &self.settings.scopes;
        let named = !self.settings.dns_vpn.is_empty();
        let embeds = |scope: &Scope| scope.default != Way::Direct || !scope.dns.is_empty();
        let mut of_containers = scopes.iter().filter(|it| it.selector.is_of_containers());
        let embedded = of_containers.any(embeds);
        self.config.relay =
            (u32::from(named) * relay::NAMES) | (u32::from(embedded) * relay::EMBEDDED);
        self.config.scopes = u32::from(self.settings.scopes_containers());
        self.config.processes = u32::from(self.settings.scoped_cgroups().next().is_some());
        self.datapath.configure(&self.config)?;
        if self.config.scopes == 0 {
            return Ok(Vec::new());
        }
        let choice = self.settings.docker.value.clone();
        let bridges = self.bridges.iter().map(|it| it.index).collect();
        self.scoped.begun = match told(choice, bridges, Resolvers::new()).await {
            Ok(told) => {
                self.take_told(told);
                self.assign().await?;
                self.scoped.notes.clone_from(&self.scoped.assignment.notes);
                self.scoped.notes.clone()
            }
            Err(why) => vec![format!(
                "Docker does not say which containers there are ({why}): all wait until it does"
            )],
        };
        Ok(self.scoped.begun.clone())
    }

    /// Does what there is to do.
    pub(super) async fn follow_scopes(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Ask => {
                self.ask_scopes();
                Ok(())
            }
            Step::Told(told) => {
                if std::mem::take(&mut self.scoped.again) {
                    self.ask_scopes();
                }
                match told {
                    Ok(told) => {
                        self.take_told(told);
                        self.assign().await
                    }
                    Err(why) => {
                        self.report.trouble(&format!(
                            "Docker does not say which containers there are: {why}"
                        ));
                        Ok(())
                    }
                }
            }
        }
    }

    /// Somebody sends who is not known.
    pub(super) fn waits(&mut self, who: ScopeKey) {
        if !self.scoped.told.contains_key(&who) && self.scoped.waiting.len() < SENDERS {
            self.scoped
                .waiting
                .entry(who)
                .or_insert_with(Waiting::begin);
            if may_leave(&who) {
                self.ask_scopes();
            }
        }
    }

    /// A packet of somebody who is not known; he may be by now.
    pub(super) fn take_waiting(&mut self, piece: &Piece, octets: &[u8]) -> Result<(), Error> {
        let bridge = ScopeKey::of_bridge(piece.flow.origin as u32);
        let who = match self.scoped.told.get(&bridge) {
            None => bridge,
            Some(_) => ScopeKey {
                address: piece.flow.local,
                ..bridge
            },
        };
        if self.scoped.told.contains_key(&who) {
            return self.let_on(&who, octets.to_vec());
        }
        if let Some(waiting) = self.scoped.waiting.get_mut(&who)
            && waiting.packets.len() < PACKETS
        {
            waiting.packets.push(octets.to_vec());
        }
        Ok(())
    }

    /// Asks again for those who wait, and gives up what is too old.
    pub(super) fn look_for_waiting(&mut self) -> Result<(), Error> {
        if self.scoped.waiting.is_empty() {
            return Ok(());
        }
        let long = |it: &Waiting| it.since.elapsed() >= LONG;
        for (who, waiting) in self.scoped.waiting.iter_mut().filter(|(_, it)| long(it)) {
            waiting.packets.clear();
            if !std::mem::replace(&mut waiting.told, true) && may_leave(who) {
                let known = self.scoped.inventory.as_ref();
                self.report.note(&waits(who, &self.bridges, known));
            }
        }
        let old: Vec<_> = self
            .scoped
            .waiting
            .extract_if(.., |_, it| it.since.elapsed() >= FORGOTTEN)
            .collect();
        for (who, _) in old {
            self.datapath.forget_waiting(&who)?;
        }
        if self.scoped.waiting.keys().any(may_leave) {
            self.ask_scopes();
        }
        Ok(())
    }

    /// Forgets what Docker's own resolver was asked long ago.
    pub(super) fn forget_asked(&mut self) -> Result<(), Error> {
        if self.config.relay & relay::EMBEDDED == 0 {
            return Ok(());
        }
        Ok(self.datapath.forget_asked(self.config.tick, ASKED)?)
    }

    /// The scope that a container is in, counted from zero.
    pub(super) fn scope_of_flow(&self, flow: &FlowKey) -> Option<usize> {
        self.scope_of(&ScopeKey {
            address: flow.local,
            ..ScopeKey::of_bridge(flow.origin as u32)
        })
    }

    /// The same of a container.
    pub(super) fn scope_of(&self, who: &ScopeKey) -> Option<usize> {
        let told = |who: &ScopeKey| self.scoped.told.get(who).copied();
        let entry = entry(told, IfIndex(who.bridge), who.address.to_ip());
        scope_id(&entry).map(|ScopeId(number)| number)
    }

    fn ask_scopes(&mut self) {
        if self.scoped.asking.is_some() {
            self.scoped.again = true;
            return;
        }
        let choice = self.settings.docker.value.clone();
        let known = self.scoped.resolvers.clone();
        let bridges = self.bridges.iter().map(|it| it.index).collect();
        self.scoped.asking = Some(tokio::spawn(told(choice, bridges, known)));
    }

    fn take_told(&mut self, told: Told) {
        self.scoped.resolvers = told.resolvers;
        self.scoped.inventory = Some(told.inventory);
        self.scoped.bridges = told.bridges;
    }

    /// Asks anew where there are bridges of which Docker cannot have told yet, and takes in what it has told.
    pub(super) async fn assign_anew(&mut self) -> Result<(), Error> {
        if self.config.scopes == 0 {
            return Ok(());
        }
        let known = &self.scoped.bridges;
        if self
            .bridges
            .iter()
            .any(|bridge| !known.contains(&bridge.index))
        {
            self.ask_scopes();
        }
        self.assign().await
    }

    /// Has routing follow what is known, tells the programs, and lets those go on who waited for it: in this order, for what the
    /// programs let on must be led where it belongs. Those of whom something else is known now wait meanwhile, for an address
    /// that one leaves may be the next one's at once.
    async fn assign(&mut self) -> Result<(), Error> {
        let Some(inventory) = &self.scoped.inventory else {
            return Ok(());
        };
        let bridges: Vec<_> = self
            .bridges
            .iter()
            .filter(|bridge| self.scoped.bridges.contains(&bridge.index))
            .map(|bridge| (bridge.index, bridge.name.clone()))
            .collect();
        let scopes = &self.settings.scopes;
        let assignment = assign(scopes, inventory, &bridges);
        let now = entries(scopes, &assignment);
        let listeners = listeners(&now, inventory, &self.scoped.resolvers, &bridges);
        let mut stay = self.scoped.told.clone();
        stay.retain(|who, entry| now.get(who) == Some(entry));
        self.datapath.set_scopes(&self.scoped.told, &stay)?;
        let told = std::mem::replace(&mut self.scoped.told, stay);
        let before = std::mem::replace(&mut self.scoped.assignment, assignment);
        let assignment = &self.scoped.assignment;
        let leads = before.forwards != assignment.forwards
            || before.addresses != assignment.addresses
            || before.bridges != assignment.bridges;
        if leads && self.started {
            let links = self.links.clone();
            if let Err(error) = self.follow_vpns(&self.seen_vpns(), &links).await {
                // It is tried again before anybody is let on.
                self.scoped.assignment = before;
                return Err(error);
            }
        }
        self.datapath.set_scopes(&self.scoped.told, &now)?;
        self.datapath.set_listeners(&listeners)?;
        self.scoped.told = now;
        if self.started {
            self.isolate(&told);
        }

        if self.started && self.scoped.notes != self.scoped.assignment.notes {
            let news = self.scoped.assignment.notes.iter();
            let news = news.filter(|note| !self.scoped.notes.contains(note));
            news.for_each(|note| self.report.note(note));
            self.scoped.notes.clone_from(&self.scoped.assignment.notes);
        }
        let told = &self.scoped.told;
        let known: Vec<_> = self
            .scoped
            .waiting
            .extract_if(.., |who, _| told.contains_key(who))
            .collect();
        for (who, waiting) in known {
            for packet in waiting.packets {
                self.let_on(&who, packet)?;
            }
        }
        Ok(())
    }

    /// Whose questions go to which servers.
    pub(super) fn dns_rules(&self, links: &[Link]) -> Vec<DnsRule> {
        let rule = |index: &IfIndex, source, id: &Option<ScopeId>| {
            let link = links.iter().find(|link| link.index == *index)?;
            let scope = self.settings.scopes.get((*id)?.0)?;
            (!scope.dns.is_empty()).then(|| DnsRule {
                bridge: link.name.clone(),
                source,
                within: link.networks.clone(),
                servers: scope.dns.clone(),
                vpn: scope.vpn.unwrap_or(self.settings.default_vpn),
            })
        };
        let assignment = &self.scoped.assignment;
        let whole = assignment.bridges.iter().filter_map(|(index, scope)| {
            let BridgeScope::Known(id) = scope else {
                return None;
            };
            rule(index, None, id)
        });
        let each = assignment.addresses.iter();
        let each = each.filter_map(|((index, address), id)| rule(index, Some(*address), id));
        whole.chain(each).collect()
    }

    /// What comes to the VPNs' addresses for containers.
    pub(super) fn forwards(&self) -> Vec<Forward> {
        let found = self.scoped.assignment.forwards.iter();
        let there = found.filter_map(|it| {
            let scope = self.settings.scopes.get(it.scope.0)?;
            let vpn = scope.vpn.unwrap_or(self.settings.default_vpn);
            Some((it, it.target.as_ref().ok()?, vpn))
        });
        let each = there.flat_map(|(it, target, vpn)| {
            let forward = &it.forward;
            let name = self.bridges.iter().find(|it| it.index == target.bridge);
            let v4 = target.v4.map(IpAddr::from);
            let (ports, v6) = match forward.at {
                At::Port(port) => (vec![(WRITTEN, port)], target.v6.map(IpAddr::from)),
                // It is of IPv4 alone.
                At::NatPmp => {
                    let ports = self.mappings.ports(it.scope, forward);
                    (ports.into_iter().flatten().collect(), None)
                }
            };
            let ends = v4.into_iter().chain(v6);
            let ends = ends.flat_map(move |to| ports.clone().into_iter().map(move |it| (to, it)));
            ends.filter_map(move |(to, (say, port))| {
                let forward = Forward {
                    protocol: forward.protocol.into(),
                    port,
                    to,
                    to_port: forward.to,
                    bridge: name?.name.clone(),
                    vpn,
                };
                Some((say, forward))
            })
        });
        let mut each: Vec<_> = each.collect();
        each.sort_by_key(|(say, _)| *say);
        let end = |it: &Forward| (it.protocol, it.port, it.vpn, it.to.is_ipv4());
        let mut taken = BTreeSet::new();
        let forwards = each.into_iter().map(|(_, forward)| forward);
        forwards.filter(|it| taken.insert(end(it))).collect()
    }

    /// Lets a packet come in on its bridge once more.
    fn let_on(&mut self, who: &ScopeKey, mut packet: Vec<u8>) -> Result<(), Error> {
        let gone = on_bridge(self.datapath.reenter()?, who.bridge, &mut packet);
        if let Err(error) = gone {
            self.report.trouble(&sentence(&error));
        }
        Ok(())
    }

    /// Has the kernel forget the connections of those who are isolated from now on and were not, apart from those on the VPN: an
    /// answer that still comes for one would look like somebody who comes from outside.
    pub(super) fn isolate(&mut self, before: &Scopes) {
        let was_free = |who: &ScopeKey| match before.get(who) {
            Some(entry) => entry.default == ScopeEntry::FREE,
            // What is new has waited, unless it is older than this run.
            None => !self.started,
        };
        let isolated: Vec<_> = self
            .scoped
            .told
            .iter()
            .filter(|(who, entry)| {
                matches!(entry.default, ScopeEntry::VPN | ScopeEntry::BLOCK) && was_free(who)
            })
            .map(|(who, _)| *who)
            .collect();
        if isolated.is_empty() {
            return;
        }
        let links = self.links.clone();
        let concerned = |address: IpAddr| {
            isolated
                .iter()
                .find(|who| match who.address == Address::default() {
                    true => links
                        .iter()
                        .filter(|link| link.index.0 == who.bridge)
                        .any(|link| link.networks.iter().any(|net| net.contains(address))),
                    false => who.address.to_ip() == address,
                })
                .map(|who| who.bridge)
        };
        let forgotten = self.forget_direct_of(concerned);
        if let Err(error) = forgotten {
            self.report.trouble(&sentence(&error));
        }
    }

    fn forget_direct_of(&mut self, concerned: impl Fn(IpAddr) -> Option<u32>) -> Result<(), Error> {
        let flows = self.datapath.flows()?;
        let is_by_vpn = |key: &FlowKey| flows.get(key, 0).is_ok_and(|it| it.path.is_vpn());
        let forgotten = conntrack::forget(|connection| {
            let Some(bridge) = concerned(connection.from.ip()) else {
                return false;
            };
            !is_by_vpn(&FlowKey {
                origin: bridge.into(),
                local: connection.from.ip().into(),
                remote: connection.to.ip().into(),
                local_port: Port::new(connection.from.port()),
                remote_port: Port::new(connection.to.port()),
                protocol: connection.protocol,
            })
        });
        match forgotten {
            Ok(count) => tracing::debug!("{count} connections of isolated containers are cut"),
            Err(errno) => self.report.trouble(&format!(
                "the kernel does not forget the connections of containers that are isolated now ({errno}); modprobe nf_conntrack_netlink may help"
            )),
        }
        let concerns =
            |key: &FlowKey| concerned(key.local.to_ip()) == u32::try_from(key.origin).ok();
        Ok(self.datapath.forget_held(concerns)?)
    }
}

/// What the programs are to be told.
fn entries(scopes: &[Scope], assignment: &Assignment) -> Scopes {
    let entry = |id: &Option<ScopeId>| match id {
        None => ScopeEntry::NONE,
        Some(id) => entry_of(scopes, *id),
    };
    let each = ScopeEntry {
        default: ScopeEntry::EACH,
        ..ScopeEntry::default()
    };
    let bridges = assignment.bridges.iter().map(|(index, scope)| {
        let key = ScopeKey::of_bridge(index.0);
        let entry = match scope {
            BridgeScope::Known(id) => entry(id),
            BridgeScope::Each => each,
        };
        (key, entry)
    });
    let containers = assignment.addresses.iter().map(|((index, address), id)| {
        let key = ScopeKey {
            address: (*address).into(),
            ..ScopeKey::of_bridge(index.0)
        };
        (key, entry(id))
    });
    bridges.chain(containers).collect()
}

/// What the programs are to be told of somebody in a scope.
pub(super) fn entry_of(scopes: &[Scope], id: ScopeId) -> ScopeEntry {
    let scope = &scopes[id.0];
    ScopeEntry {
        default: match scope.default {
            Way::Vpn => ScopeEntry::VPN,
            Way::Direct => ScopeEntry::FREE,
            Way::Block => ScopeEntry::BLOCK,
        },
        dns: u32::from(!scope.dns.is_empty()),
        scope: u32::try_from(id.0 + 1).unwrap_or_default(),
        path: scope.vpn.map_or(Path::DIRECT, VpnId::path),
    }
}

/// For whom Docker's own resolver listens where. Of two containers that it listens for at one port, the one that is not left alone
/// counts.
fn listeners(
    told: &Scopes,
    inventory: &Inventory,
    resolvers: &Resolvers,
    bridges: &[(IfIndex, String)],
) -> Listeners {
    let mut listeners = Listeners::new();
    for container in &inventory.containers {
        let Some((_, keys)) = resolvers.get(&container.id) else {
            continue;
        };
        let Some(entry) = strictest(told, inventory, container, bridges) else {
            continue;
        };
        for key in keys {
            let known = listeners.entry(*key).or_insert(entry);
            if strictness(&entry) > strictness(known) {
                *known = entry;
            }
        }
    }
    listeners
}

/// What holds for what a container asks, on whatever network it is; nothing while that is not known of each.
fn strictest(
    told: &Scopes,
    inventory: &Inventory,
    container: &Container,
    bridges: &[(IfIndex, String)],
) -> Option<ScopeEntry> {
    let mut found = ScopeEntry::NONE;
    for endpoint in &container.endpoints {
        let network = inventory.network(&endpoint.network);
        let bridge = network.and_then(|network| network.bridge.as_ref());
        let Some((index, _)) = bridge.and_then(|name| bridges.iter().find(|(_, it)| it == name))
        else {
            continue;
        };
        let bridge = ScopeKey::of_bridge(index.0);
        let whole = *told.get(&bridge)?;
        let mut entries = vec![whole];
        if whole.default == ScopeEntry::EACH {
            let each = endpoint.addresses.iter().map(|&address| {
                told.get(&ScopeKey {
                    address: address.into(),
                    ..bridge
                })
            });
            entries = each.map(Option::<&_>::copied).collect::<Option<_>>()?;
        }
        let strict = entries.into_iter().max_by_key(strictness);
        found = strict
            .filter(|it| strictness(it) > strictness(&found))
            .unwrap_or(found);
    }
    Some(found)
}

fn strictness(entry: &ScopeEntry) -> (bool, bool) {
    (entry.default != ScopeEntry::FREE, entry.dns != 0)
}

/// Asks Docker, and looks where its resolver listens in containers; `known` are those of before.
async fn told(
    choice: DockerChoice,
    bridges: BTreeSet<IfIndex>,
    known: Resolvers,
) -> Result<Told, String> {
    let Some(socket) = docker::socket(&choice) else {
        return Err("there is no socket of Docker's".to_owned());
    };
    let inventory = inventory(&socket).await.map_err(|error| sentence(&error))?;
    let running = inventory.containers.iter().filter(|it| it.running);
    let choice = &choice;
    let processes = running.map(async |container| {
        let id = container.id.clone();
        let before = known.get(&id).map(|(pid, _)| *pid);
        let pid = match before.filter(|pid| !resolver::listeners(*pid).is_empty()) {
            Some(pid) => pid,
            None => docker::process_of(choice, &id).await?,
        };
        Some((id, (pid, resolver::listeners(pid))))
    });
    let resolvers = join_all(processes).await.into_iter().flatten().collect();
    Ok(Told {
        inventory,
        bridges,
        resolvers,
    })
}
