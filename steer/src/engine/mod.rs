//! A run: from the settings to a steering host, on through its changes, and back.

mod error;
mod rulebook;
mod stage;
mod upkeep;

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use steer_common::{
    stats::Stats,
    types::{Config, TICK_SECONDS},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::stage::Stage;
pub use self::{error::Error, rulebook::Rulebook};
use crate::{
    config::{Settings, VpnChoice},
    datapath::{Datapath, Pins},
    events::Event,
    host::{Bridge, Host, bridge, docker, link, vpn},
    instance::Instance,
    origin::Sourced,
    report::Report,
    route::{self, Change, Numbers, OnDown, Routing, Vpn, Wanted},
};

/// Changes of the host come in bursts; they are taken together.
const SETTLE: Duration = Duration::from_millis(30);
/// Docker makes a bridge before it tells of the network, so a second look follows.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Steers until SIGINT or SIGTERM, then puts the host back.
///
/// # Errors
/// When a part of the host or of the kernel refuses. The host is then as it was before.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut engine = Engine::start(settings).await?;
    let ended = tokio::select! {
        ended = engine.steer() => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    engine.stop().await?;
    ended
}

/// Removes what a killed run left, and says what that was.
///
/// # Errors
/// When a run is alive, or something stays.
pub async fn cleanup(bpffs: &Path, run_dir: &Path, numbers: Numbers) -> Result<Vec<String>, Error> {
    let pins = Pins::new(bpffs);
    let _instance = Instance::take(run_dir)?;
    let mut done = Vec::new();
    if pins.exist() {
        pins.remove()?;
        done.push(format!("rm -r {}", bpffs.display()));
    }
    let changes = route::cleanup(run_dir, numbers).await?;
    done.extend(changes.iter().map(Change::to_string));
    Ok(done)
}

/// All that a run holds. Fields are dropped in their order, which takes the programs away before the routes, and lets
/// the lock go last.
struct Engine {
    datapath: Datapath,
    routing: Routing,
    events: AsyncFd<RingBuf<MapData>>,
    log: Option<AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>>,
    config: Config,
    rulebook: Rulebook,
    report: Report,
    counted: Stats,
    vpn: Sourced<VpnChoice>,
    bridges: Vec<Bridge>,
    settings: Settings,
    _instance: Instance,
}

impl Engine {
    async fn start(settings: Settings) -> Result<Self, Error> {
        Stage::Lock.begin()?;
        let instance = Instance::take(&settings.run_dir)?;
        let report = Report::new(settings.output);

        Stage::Discover.begin()?;
        let host = Host::discover(&settings).await?;
        let pins = Pins::new(&settings.bpffs);
        if pins.exist() {
            pins.remove()?;
            report.note("what a killed run left attached was taken away");
        }

        Stage::Load.begin()?;
        let mut datapath = Datapath::load(settings.log_bpf.level())?;
        let log = match settings.log_bpf.level() {
            None => None,
            Some(_) => Some(watched(
                aya_log::EbpfLogger::init(datapath.ebpf_mut()).map_err(Error::Log)?,
            )?),
        };

        Stage::Rules.begin()?;
        let rulebook = Rulebook::new(&settings.rules)?;
        datapath.set_rules(rulebook.entries())?;
        let config = Config {
            key: rulebook.key(),
            netns: host.netns.map_or(0, |cookie| cookie.0),
            floor: upkeep::FLOOR,
            grace: upkeep::GRACE,
            mark: settings.routing.mark.value(),
            mask: settings.routing.mark.mask(),
            ..Config::default()
        };

        Stage::Pin.begin()?;
        datapath.pin(&pins)?;
        let events = watched(datapath.take_events()?)?;

        Stage::Routing.begin()?;
        let routing = Routing::open(&settings.run_dir, settings.routing).await?;
        let mut engine = Self {
            datapath,
            routing,
            events,
            log,
            config,
            rulebook,
            report,
            counted: Stats::default(),
            // From now on by its name: another device that comes up does not take over.
            vpn: Sourced {
                value: VpnChoice::Named(host.vpn.name.clone()),
                origin: settings.vpn.origin.clone(),
            },
            bridges: Vec::new(),
            settings,
            _instance: instance,
        };
        engine.follow_vpn(Some(host.vpn.clone())).await?;

        Stage::Cgroups.begin()?;
        for cgroup in &host.cgroups {
            engine.datapath.attach_cgroup(&cgroup.path)?;
        }
        Stage::Bridges.begin()?;
        engine.follow_bridges(host.bridges.clone())?;
        Stage::Ready.begin()?;
        engine.report.start(&engine.settings, &host);
        Ok(engine)
    }

    /// Follows the host and tells what happens, until something fails.
    async fn steer(&mut self) -> Result<(), Error> {
        let mut watch = route::watch()?;
        let mut tick = interval(Duration::from_secs(TICK_SECONDS));
        let mut second = interval(Duration::from_secs(1));
        for timer in [&mut tick, &mut second] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut look = None;
        loop {
            let looking = look.unwrap_or_else(|| Instant::now() + SECOND_LOOK);
            tokio::select! {
                told = self.events.readable_mut() => {
                    let mut told = told.map_err(Error::Events)?;
                    while let Some(item) = told.get_inner_mut().next() {
                        if let Some(event) = Event::read(&item) {
                            self.report.event(&event, &self.rulebook, &self.bridges);
                        }
                    }
                    told.clear_ready();
                }
                () = flush(&mut self.log) => {}
                changed = watch.next() => {
                    if changed.is_none() {
                        watch = route::watch()?;
                    }
                    look.get_or_insert(Instant::now() + SETTLE);
                }
                () = sleep_until(looking), if look.is_some() => {
                    look = self.follow().await?.then(|| Instant::now() + SECOND_LOOK);
                }
                _ = tick.tick() => self.upkeep()?,
                _ = second.tick() => {
                    let stats = self.datapath.stats()?;
                    self.report.counters(&self.counted, &stats);
                    self.counted = stats;
                }
            }
        }
    }

    /// Looks at the host anew. Says whether its bridges changed, so that a second look is due.
    async fn follow(&mut self) -> Result<bool, Error> {
        let links = link::list().await?;
        self.follow_vpn(vpn::choose(&self.vpn, &links).ok()).await?;

        let known: BTreeSet<_> = self.bridges.iter().map(|bridge| bridge.index).collect();
        let mut notes = Vec::new();
        let networks = docker::networks(&self.settings.docker, &links, &mut notes)
            .await
            .unwrap_or_default();
        // A bridge that is named and gone is no reason to stop: it may come back.
        let patterns: Vec<_> = self
            .settings
            .bridges
            .iter()
            .filter(|choice| bridge::is_there(choice, &links))
            .cloned()
            .collect();
        let bridges = bridge::resolve(&patterns, &links, &networks, &mut notes)?;
        let now: BTreeSet<_> = bridges.iter().map(|bridge| bridge.index).collect();
        self.follow_bridges(bridges)?;
        Ok(now != known)
    }

    /// Brings routes and programs to what the VPN is like now.
    async fn follow_vpn(&mut self, vpn: Option<Vpn>) -> Result<(), Error> {
        let wanted = Wanted {
            vpn: vpn.clone(),
            on_down: self.settings.on_down,
            numbers: self.settings.routing,
        };
        for change in self.routing.apply(&route::plan(&wanted)).await? {
            self.report.detail(&change);
        }
        let up = vpn.as_ref().filter(|vpn| vpn.up);
        let config = Config {
            vpn_ifindex: vpn.as_ref().map_or(0, |vpn| vpn.index.0),
            vpn4: up
                .and_then(|vpn| vpn.v4.first())
                .map_or([0; 4], |address| address.octets()),
            vpn6: up
                .and_then(|vpn| vpn.v6.first())
                .map_or([0; 16], |address| address.octets()),
            open: u32::from(up.is_none() && self.settings.on_down == OnDown::Direct),
            ..self.config
        };
        if config != self.config {
            self.config = config;
            self.datapath.configure(&self.config)?;
            self.report.vpn(vpn.as_ref(), self.settings.on_down);
        }
        Ok(())
    }

    /// Attaches to bridges that are new, and forgets those that are gone.
    fn follow_bridges(&mut self, bridges: Vec<Bridge>) -> Result<(), Error> {
        for gone in self.bridges.iter().filter(|old| !bridges.contains(old)) {
            self.datapath.detach_bridge(gone.index.0);
            self.report.bridge(gone, false);
        }
        let mut attached = Vec::new();
        for bridge in bridges {
            if !self.bridges.contains(&bridge) {
                match self.datapath.attach_bridge(&bridge.name, bridge.index.0) {
                    Ok(()) => self.report.bridge(&bridge, true),
                    // It went away between the look and now; its going is told, too.
                    Err(error) if error.is_gone() => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            attached.push(bridge);
        }
        self.bridges = attached;
        Ok(())
    }

    async fn stop(self) -> Result<(), Error> {
        let Self {
            mut datapath,
            routing,
            report,
            _instance,
            ..
        } = self;
        let detached = datapath.remove();
        for change in routing.remove().await? {
            report.detail(&change);
        }
        detached?;
        report.end();
        Ok(())
    }
}

/// Waits for a ring buffer of the programs.
fn watched<T: AsFd + AsRawFd>(inner: T) -> Result<AsyncFd<T>, Error> {
    // SAFETY: both ring buffers of aya that come here own their file, which is open and the same until they are dropped.
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
