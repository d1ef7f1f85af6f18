//! A run: from the settings to a steering host, on through its changes, and back.

mod anew;
mod asked;
mod bridges;
mod bypass;
mod degrade;
mod error;
mod files;
mod folders;
mod follow;
mod inherit;
mod initials;
mod known;
mod learn;
mod lifetimes;
mod mappings;
mod pieces;
mod processes;
mod relay;
mod reload;
mod rulebook;
mod scopes;
mod service;
pub mod sockets;
mod stage;
mod terminal;
mod upkeep;
mod vpns;

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use steer_common::{
    stats::Stats,
    types::{Config, PORTS, Port, TICK_SECONDS},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, sleep_until},
};

pub(crate) use self::upkeep::monotonic;
use self::{
    asked::Control,
    bridges::{Asking, Attached},
    bypass::Bypassed,
    degrade::Lacks,
    folders::Folders,
    follow::{Hurry, unless_gone},
    initials::Initials,
    known::Known,
    mappings::Mappings,
    pieces::Pieces,
    reload::Reload,
    scopes::Scoped,
    stage::Stage,
    terminal::Terminal,
    vpns::FollowedVpn,
};
pub use self::{
    error::Error,
    rulebook::{Rulebook, Ruling},
};
use crate::{
    config::{Late, Settings},
    control,
    datapath::{self, Datapath, Pins},
    error::sentence,
    events::Event,
    host::{Bridge, Cgroup, Host, Link, requirements},
    instance::{Instance, Name},
    learn::refuse::Refusals,
    progress::Progress,
    relay::Relay,
    report::Report,
    route::{self, Change, IfIndex, Numbers, Plan, Routing, VpnId, Watch},
};

/// Docker makes a bridge before it tells of the network, so a second look follows.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Events that are told before anything else has its turn.
const EVENTS_AT_ONCE: usize = 256;
/// From one look at the host to the next, whether or not anything was told.
const ROUND: Duration = Duration::from_secs(30);

/// Steers until a signal ends it (SIGINT, SIGTERM, SIGQUIT, or SIGHUP because its terminal has gone), then puts the host
/// back.
///
/// # Errors
/// When a part of the host or of the kernel refuses. The host is then as it was before.
pub async fn run(settings: Settings, progress: &dyn Progress) -> Result<(), Error> {
    let mut ended = Signals::new()?;
    let mut engine = Engine::start(settings, progress).await?;
    let steered = tokio::select! {
        failed = engine.steer() => failed,
        () = ended.any() => Ok(()),
    };
    engine.stop().await?;
    steered
}

/// Removes what a killed run left, and says what that was.
///
/// # Errors
/// When a run is alive, or something stays.
pub async fn cleanup(bpffs: &Path, run_dir: &Path, numbers: Numbers) -> Result<Vec<String>, Error> {
    let _instance = Instance::take(run_dir)?;
    let _name = Name::take()?;
    // What it held goes with it; left alone it would only refuse.
    let _ = control::remove(run_dir);
    let detached = datapath::cleanup(&Pins::new(bpffs));
    let changes = route::cleanup(run_dir, numbers).await?;
    let mut done = detached?;
    done.extend(changes.iter().map(Change::to_string));
    Ok(done)
}

/// All that a run holds. Fields are dropped in their order, which takes the programs away before the routes, and lets
/// the lock go last.
struct Engine {
    datapath: Datapath,
    routing: Routing,
    events: AsyncFd<RingBuf<MapData>>,
    pieces: Pieces,
    initials: Initials,
    refusals: Refusals,
    relay: Relay,
    mappings: Mappings,
    scoped: Scoped,
    /// In which scopes processes are, as the programs were told.
    processes: processes::Scoped,
    /// The interfaces as they were seen last.
    links: Vec<Link>,
    /// When the other names of a contested address were looked for last.
    contested: Option<std::time::Instant>,
    log: Option<AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>>,
    config: Config,
    watch: Watch,
    rulebook: Arc<Rulebook>,
    known: Known,
    reload: Reload,
    report: Report,
    control: Control,
    counted: Stats,
    /// Whether the start is over: what it did is told as a whole.
    started: bool,
    vpns: Vec<FollowedVpn>,
    bypassed: Bypassed,
    /// What was last asked of the routing.
    plan: Option<Plan>,
    /// What else drops what is forwarded, as it was said last.
    obstacles: Vec<String>,
    /// When something of it was put back last.
    restored: Option<Instant>,
    /// Why it cannot be told which interface is the VPN's, as it was said last.
    unclear: Option<String>,
    bridges: Vec<Bridge>,
    /// The newest bridge that was looked at: containers on newer ones wait.
    newest: IfIndex,
    /// Those attached to that are not told yet.
    untold: Vec<Attached>,
    asking: Asking,
    /// Interfaces that were there when Docker was asked last.
    seen: BTreeSet<IfIndex>,
    /// Those that Docker said nothing of twice, or at the start.
    others: BTreeSet<IfIndex>,
    /// Whether Docker is to be asked again although there is no new bridge: it may not have told of one yet.
    look_again: bool,
    cgroups: Vec<Cgroup>,
    /// Where cgroups come and go that are wanted.
    cgroup_folders: Folders,
    /// Until when cgroups are looked for: one went, or it is time to look whether there are others.
    lost: Option<Instant>,
    /// They are looked for all the time: one may just have come.
    hurry: Option<Hurry>,
    settings: Settings,
    _name: Name,
    _instance: Instance,
}

impl Engine {
    async fn start(settings: Settings, progress: &dyn Progress) -> Result<Self, Error> {
        Stage::Lock.begin()?;
        let instance = Instance::take(&settings.run_dir)?;
        let name = Name::take()?;
        let report = Report::new(&settings);
        let (reload, notes) = Reload::new(&settings.files)?;
        let (cgroup_folders, _) = Folders::new();

        Stage::Discover.begin()?;
        // Before the host is looked at, so that no change falls between.
        let watch = route::watch()?;
        let mut host = Host::discover(&settings).await?;
        host.notes.extend(notes);

        Stage::Load.begin()?;
        let pins = Pins::new(&settings.bpffs);
        let level = settings.log_bpf.level();
        let room = Rulebook::room(&settings.rules, settings.tables);
        let (mut datapath, legacy) = Datapath::load_over(&pins, host.netns, level, room)?;
        let inherited = legacy.config();
        if let Some(before) = &inherited {
            inherit::same_places(before, &settings, &host.vpns)?;
        }
        let scoped_before = legacy.scopes();
        let lacks = Lacks::make_do(&mut datapath, &mut host);
        host.notes.extend(lacks.notes(&requirements::kernel()));
        let log = match level {
            None => None,
            Some(_) => Some(watched(
                aya_log::EbpfLogger::init(datapath.ebpf_mut()).map_err(Error::Log)?,
            )?),
        };

        Stage::Rules.begin()?;
        let rulebook = Rulebook::new(settings.rules.clone(), inherited.map(|config| config.key))?;
        datapath.set_rules(rulebook.entries(), progress)?;
        let nets = rulebook.nets();
        datapath.set_nets(&nets)?;
        let config = Config {
            key: rulebook.key(),
            netns: host.netns.map_or(0, |cookie| cookie.0),
            // The ages of flows are counted from there.
            tick: inherited.map_or(0, |config| config.tick),
            floor: upkeep::FLOOR,
            grace: upkeep::GRACE,
            vpns: vpns::nowhere(&settings),
            default: settings.default_vpn.path(),
            mask: settings.routing.mark.mask(),
            reset: u32::from(settings.sni.late == Late::Reset),
            bypass: inherited.map_or(0, |config| config.bypass),
            tls_ports: ports(&settings.sni.ports),
            http_ports: ports(&settings.sni.http_ports),
            nets: u32::from(!nets.is_empty()),
            patterns: u32::from(rulebook.rules().has_patterns()),
            blocks: u32::from(rulebook.rules().blocks_names()),
            ..Config::default()
        };
        // Before it is pinned: whoever goes on with what this run leaves, at whatever moment, finds key and tick there.
        datapath.configure(&config)?;

        Stage::Pin.begin()?;
        // What a killed run left goes on steering until here, where hardly anything can fail any more, or until it is
        // attached to anew.
        if let Some(why) = datapath.pin_over(&pins, legacy)? {
            host.notes
                .push(format!("what a killed run left is begun anew: {why}"));
        }
        let events = watched(datapath.take_events()?)?;
        let pieces = Pieces::new(watched(datapath.take_segments()?)?);
        let counted = datapath.stats()?;

        Stage::Routing.begin()?;
        let routing = Routing::open(&settings.run_dir, settings.routing).await?;
        let mut engine = Self {
            datapath,
            routing,
            events,
            pieces,
            initials: Initials::new(),
            refusals: Refusals::new(),
            relay: Relay::new(),
            mappings: Mappings::new(&settings),
            scoped: Scoped::new(&settings),
            processes: processes::Scoped::default(),
            links: host.links.clone(),
            contested: None,
            log,
            config,
            watch,
            rulebook: Arc::new(rulebook),
            known: Known::default(),
            reload,
            control: Control::new(counted),
            report,
            counted,
            started: false,
            vpns: settings.vpns.iter().map(FollowedVpn::new).collect(),
            bypassed: Bypassed::default(),
            plan: None,
            obstacles: Vec::new(),
            restored: None,
            unclear: None,
            bridges: Vec::new(),
            newest: IfIndex(0),
            untold: Vec::new(),
            asking: Asking::default(),
            seen: BTreeSet::new(),
            others: BTreeSet::new(),
            look_again: false,
            cgroups: Vec::new(),
            cgroup_folders,
            lost: None,
            hurry: None,
            settings,
            _name: name,
            _instance: instance,
        };
        engine.others = host.links.iter().map(|link| link.index).collect();
        let newest = engine.looked_at(&host.links);
        // What came while nobody ran waits until it is attached to.
        engine.newest = engine.routing.newest().unwrap_or(newest);
        for (place, vpn) in engine.vpns.iter_mut().enumerate() {
            vpn.sources = engine.routing.sources(VpnId(place));
        }
        engine.bridges = host.bridges.clone();
        host.notes.extend(engine.begin_scopes().await?);
        host.notes.extend(engine.follow_processes()?);
        engine.follow_vpns(&host.vpns, &host.links).await?;
        host.notes.extend(engine.bypassed.note().cloned());

        Stage::Cgroups.begin()?;
        engine.is_here()?;
        for cgroup in std::mem::take(&mut host.cgroups) {
            let attached = engine.datapath.attach_cgroup(&cgroup.path);
            if unless_gone(attached)?.is_some() {
                host.cgroups.push(cgroup);
            }
        }
        engine.cgroups = host.cgroups.clone();
        engine.watch_cgroups()?;
        host.notes.extend(engine.end_older()?);
        Stage::Bridges.begin()?;
        for bridge in std::mem::take(&mut host.bridges) {
            let attached = engine.datapath.attach_bridge(&bridge.name, bridge.index.0);
            if let Some(notes) = unless_gone(attached)? {
                host.notes.extend(notes);
                host.bridges.push(bridge);
            }
        }
        engine.bridges = host.bridges.clone();
        // Who was isolated before has let nothing out.
        engine.isolate(&scoped_before);
        if newest > engine.newest {
            engine.newest = newest;
            engine.follow_vpns(&host.vpns, &host.links).await?;
        }
        engine.datapath.detach_others()?;
        if let Some(before) = inherited {
            host.notes.extend(engine.inherit(&before)?);
        }
        Stage::Ready.begin()?;
        engine.started = true;
        host.notes.extend(engine.know());
        engine.control.notes.clone_from(&host.notes);
        // Whoever is told that it is ready may ask at once.
        engine.open_control();
        engine.report.start(&engine.settings, &host);
        service::ready();
        Ok(engine)
    }

    /// Follows the host and tells what happens, until something fails.
    async fn steer(&mut self) -> Result<(), Error> {
        // Not at once: runs that are killed soon after their start must not make flows old.
        let period = Duration::from_secs(TICK_SECONDS);
        let mut tick = interval_at(Instant::now() + period, period);
        let mut second = interval(Duration::from_secs(1));
        let mut round = interval(ROUND);
        for timer in [&mut tick, &mut second, &mut round] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut look = None;
        loop {
            let looking = look.unwrap_or_else(|| Instant::now() + SECOND_LOOK);
            let hurrying = self.hurry.map_or(looking, |hurry| hurry.next);
            tokio::select! {
                told = drain(&mut self.events, EVENTS_AT_ONCE, Event::read) => {
                    for event in told? {
                        let told = self.tell(&event);
                        self.go_on(told);
                    }
                }
                given = self.pieces.next() => {
                    for given in given? {
                        let taken = self.take_piece(&given);
                        self.go_on(taken);
                    }
                }
                resolved = self.known.next() => {
                    let taught = self.resolved(&resolved);
                    self.go_on(taught);
                }
                step = self.reload.next() => self.reload(step),
                step = self.scoped.next() => {
                    let followed = self.follow_scopes(step).await;
                    self.go_on(followed);
                }
                news = self.mappings.next() => {
                    let taken = self.take_mapping(news).await;
                    self.go_on(taken);
                }
                asked = self.relay.next() => {
                    self.go_on(asked.map_err(Error::from));
                }
                ask = self.control.next() => self.answer(ask),
                () = flush(&mut self.log) => {}
                changed = self.watch.next() => {
                    if changed.is_none() {
                        let watch = route::watch().map_err(Error::from);
                        match self.go_on(watch) {
                            Some(watch) => self.watch = watch,
                            None => sleep(SECOND_LOOK).await,
                        }
                    }
                    look.get_or_insert_with(|| self.next_look());
                }
                // Some changes are told by nobody: a sysctl set by hand.
                _ = round.tick() => {
                    self.known.look();
                    self.reload.look();
                    self.look_again = true;
                    self.lost = Some(Instant::now());
                    look.get_or_insert(Instant::now());
                }
                names = self.cgroup_folders.stirred() => self.hurry(&names),
                () = sleep_until(hurrying), if self.hurry.is_some() => {
                    let followed = self.follow_cgroups();
                    self.go_on(followed);
                }
                told = self.asking.next() => {
                    let attached = match told {
                        Some(told) => self.docker_told(told).await,
                        None => Ok(false),
                    };
                    if self.go_on(attached) == Some(true) {
                        look.get_or_insert_with(|| self.next_look());
                    }
                }
                () = sleep_until(looking), if look.is_some() => {
                    let followed = self.follow_links().await;
                    let again = self.go_on(followed).unwrap_or(true);
                    look = again.then(|| Instant::now() + SECOND_LOOK);
                }
                _ = tick.tick() => {
                    let kept = self.upkeep();
                    self.go_on(kept);
                    let forgotten = self.forget_asked();
                    self.go_on(forgotten);
                }
                _ = second.tick() => {
                    service::alive();
                    self.pieces.expire();
                    self.initials.expire();
                    self.let_go_of_added();
                    let heard = self.is_here();
                    self.go_on(heard);
                    let counted = self.count();
                    self.go_on(counted);
                    let followed = self.follow_cgroups();
                    self.go_on(followed);
                    let looked = self.look_for_waiting();
                    self.go_on(looked);
                }
            }
        }
    }

    /// What happened to packets since the last second, where the user should know.
    fn count(&mut self) -> Result<(), Error> {
        let stats = self.datapath.stats()?;
        self.report.counters(&self.counted, &stats);
        let before = std::mem::replace(&mut self.counted, stats);
        self.relieve(&before, &stats)
    }

    /// A failure while steering is told and tried again: ending would let go of flows that are steered now.
    fn go_on<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result
            .inspect_err(|error| self.report.trouble(&sentence(error)))
            .ok()
    }

    /// Puts the host back; or leaves all as it is, where a scope is to stay isolated.
    async fn stop(self) -> Result<(), Error> {
        service::stopping();
        let kept = self.keeps();
        let Self {
            mut datapath,
            routing,
            report,
            control,
            mappings,
            // Dropped the other way round: the lock last.
            _instance,
            _name,
            ..
        } = self;
        drop(control);
        if kept {
            // As if it was killed: what is pinned goes on, until another run takes it over.
            std::mem::forget((datapath, routing));
            report.end_kept();
            return Ok(());
        }
        mappings.give_back().await;
        let detached = datapath.remove();
        for change in routing.remove().await? {
            report.detail(&change);
        }
        detached?;
        report.end();
        Ok(())
    }
}

/// Ports as the programs compare with them; the configuration takes no more than there is room for.
fn ports(numbers: &[u16]) -> [Port; PORTS] {
    let mut ports = [Port::default(); PORTS];
    for (port, &number) in ports.iter_mut().zip(numbers) {
        *port = Port::new(number);
    }
    ports
}

/// What ends a run in good order: a key, the service manager, a terminal that goes away.
struct Signals {
    ends: [Signal; 3],
    hangup: Signal,
    terminal: Terminal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        // Before SIGHUP is listened to, whose being ignored counts.
        let terminal = Terminal::at_start();
        let listen = |kind| signal(kind).map_err(Error::Signals);
        Ok(Self {
            ends: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::quit())?,
            ],
            hangup: listen(SignalKind::hangup())?,
            terminal,
        })
    }

    async fn any(&mut self) {
        let [interrupt, terminate, quit] = &mut self.ends;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = quit.recv() => return,
                // Else it asks for the rules to be read again.
                _ = self.hangup.recv() => {
                    if self.terminal.has_gone() {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits for entries of a ring buffer, and takes them: at most so many, so that a flood of them keeps nothing else
/// waiting.
async fn drain<T>(
    ring: &mut AsyncFd<RingBuf<MapData>>,
    most: usize,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let mut ready = ring.readable_mut().await.map_err(Error::Events)?;
    let mut taken = Vec::new();
    for _ in 0..most {
        let Some(entry) = ready.get_inner_mut().next() else {
            ready.clear_ready();
            break;
        };
        taken.extend(read(&entry));
    }
    Ok(taken)
}

/// To wait for a ring buffer of the programs, or for changes of files.
fn watched<T: AsFd + AsRawFd>(inner: T) -> Result<AsyncFd<T>, Error> {
    // SAFETY: the ring buffers of aya and the inotify that come here own their file, which is open and the same until
    // they are dropped.
    let registered = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) };
    registered.map_err(|failed| Error::Events(failed.into()))
}

/// Passes on what the programs log; without a log, waits for ever.
async fn flush(log: &mut Option<AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>>) {
    match log {
        Some(log) => {
            if let Ok(mut ready) = log.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        }
        None => std::future::pending().await,
    }
}
