//! What a run says on standard output, line by line, and what a configuration comes to.

mod journal;
mod summary;

pub use journal::{Journal, Told};
pub use summary::configured;

use std::{
    collections::{HashMap, VecDeque},
    fmt::{Arguments, Display},
    io::{Write as _, stdout},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use steer_common::{
    stats::{Action, Outcome, Stats},
    types::{NameEntry, Path, Verdict},
};

use crate::{
    config::{ListSummary, Output, Settings},
    engine::Rulebook,
    events::{Event, Late, Learned, Name, Refused, STEER, Steered, protocol},
    host::{Bridge, Cgroup, Host},
    prefetch::Failure,
    route::{Change, OnDown, Vpn, VpnId},
    words::counted,
};

/// Names remembered for the lines of flows; the oldest goes first.
const NAMES: usize = 4096;
/// A failure is told again only after that, and counts as over.
const TROUBLED: Duration = Duration::from_secs(60);
/// What a scope stops is told again only after that: somebody may try for ever.
const STOPPED: Duration = Duration::from_secs(600);

/// Other rules were put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// How many there were before.
    pub before: usize,
    /// How many there are.
    pub rules: usize,
    /// From the beginning of reading to their being in force, and what was learned decided anew; in milliseconds.
    pub took: u64,
    /// Addresses with another verdict, or by another rule.
    pub anew: usize,
    /// Addresses of which no rule speaks any more.
    pub gone: usize,
}

/// The lines, as many as the user wants.
#[derive(Debug)]
pub struct Report {
    output: Output,
    /// The scopes, as one would say them.
    scopes: Vec<String>,
    /// The names of the VPNs, where there are several.
    vpns: Vec<String>,
    journal: Arc<Journal>,
    begun: Instant,
    names: HashMap<IpAddr, Name>,
    ages: VecDeque<IpAddr>,
    steered: u64,
    learned: u64,
    troubles: HashMap<String, Instant>,
    /// When it was told last what a scope stopped, and how much of it was not told since.
    stopped: HashMap<&'static str, (Instant, u64)>,
}

impl Report {
    /// Says as much as the settings want.
    pub fn new(settings: &Settings) -> Self {
        let scopes = settings.scopes.iter();
        Self {
            output: settings.output,
            scopes: scopes.map(|scope| scope.selector.to_string()).collect(),
            vpns: (0..settings.vpns.len())
                .filter_map(|place| settings.vpn_name(VpnId(place)).map(str::to_owned))
                .collect(),
            journal: Arc::default(),
            begun: Instant::now(),
            names: HashMap::new(),
            ages: VecDeque::new(),
            steered: 0,
            learned: 0,
            troubles: HashMap::new(),
            stopped: HashMap::new(),
        }
    }

    /// Where all that is told can be heard, also what is not printed.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Since the beginning.
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How many flows were sent through the VPN, save those that only ask for a source address.
    pub fn steered(&self) -> u64 {
        self.steered
    }

    /// What failed within the last minute.
    pub fn troubles(&self) -> Vec<String> {
        let lately = self
            .troubles
            .iter()
            .filter(|(_, told)| told.elapsed() < TROUBLED);
        lately.map(|(text, _)| text.clone()).collect()
    }

    /// What is attached where, what goes where, and that it does from now on.
    pub fn start(&self, settings: &Settings, host: &Host) {
        for line in summary::summary(settings, host) {
            self.row(&line);
        }
        self.say(
            "ready",
            format_args!("after {} ms", self.begun.elapsed().as_millis()),
        );
    }

    /// The last line.
    pub fn end(&self) {
        self.say(
            "ended",
            format_args!(
                "{} addresses learned, {} flows steered; the host is as it was before",
                self.learned, self.steered
            ),
        );
    }

    /// steer ends, and all stays as it is.
    pub fn end_kept(&self) {
        self.say(
            "ended",
            format_args!(
                "{} addresses learned, {} flows steered; what is steered stays so, because a scope is to stay isolated: steer run goes on \
                 with it, steer cleanup puts the host back",
                self.learned, self.steered
            ),
        );
    }

    /// Something the user should know.
    pub fn note(&self, text: &str) {
        self.say("note", format_args!("{text}"));
    }

    /// One of steer's own doings.
    pub fn detail(&self, doing: &dyn Display) {
        if self.output >= Output::Verbose {
            let _ = writeln!(stdout(), "         {doing}");
        }
        self.journal.tell("detail", doing.to_string(), Value::Null);
    }

    /// What somebody else had undone, and steer did again.
    pub fn restored(&self, changes: &[Change]) {
        for change in changes {
            self.say("restored", format_args!("{change}: somebody undid it"));
        }
    }

    /// Somebody had taken the programs from a bridge, and they are there again.
    pub fn attached_again(&self, bridge: &Bridge) {
        self.say(
            "restored",
            format_args!("the programs on {}: somebody detached them", bridge.name),
        );
    }

    /// A VPN is another than before: up, down, with other addresses. It has a name where there are several.
    pub fn vpn(&self, name: Option<&str>, vpn: Option<&Vpn>, on_down: OnDown) {
        let name = name.map_or_else(String::new, |name| format!("{name} "));
        match (vpn.filter(|vpn| vpn.up), on_down) {
            (Some(vpn), _) => self.say("vpn", format_args!("{name}{} is up", vpn.name)),
            (None, OnDown::Block) => self.say(
                "vpn",
                format_args!("{name}is down: what must take it is blocked until it is back"),
            ),
            (None, OnDown::Direct) => self.say(
                "vpn",
                format_args!(
                    "{name}is down: what should take it goes direct until it is back, as on_down says"
                ),
            ),
        }
    }

    /// A bridge was attached to or has gone.
    pub fn bridge(&self, bridge: &Bridge, attached: bool) {
        let network = match &bridge.network {
            Some(network) => format!(" (Docker's network {network})"),
            None => String::new(),
        };
        let what = if attached { "attached" } else { "gone" };
        self.say("bridge", format_args!("{}{network} {what}", bridge.name));
    }

    /// A cgroup was attached to or has gone.
    pub fn cgroup(&self, cgroup: &Cgroup, attached: bool) {
        let what = if attached { "attached" } else { "gone" };
        self.say("cgroup", format_args!("{} {what}", cgroup.path.display()));
    }

    /// What the programs told.
    pub fn event(&mut self, event: &Event, rules: &Rulebook, bridges: &[Bridge]) {
        match event {
            // It is told as contested.
            Event::Learned(learned) if learned.verdict == Verdict::NONE => {}
            Event::Learned(learned) => {
                self.learned += 1;
                self.remember(learned);
                self.learned(learned, rules, bridges);
            }
            Event::Steered(steered) if steered.is_probe() => {
                if self.output >= Output::Verbose {
                    self.tell_steered(steered, rules, bridges);
                }
            }
            Event::Steered(steered) => {
                self.steered += 1;
                self.tell_steered(steered, rules, bridges);
            }
            Event::Refused(refused) => self.refused(refused, rules, bridges),
            Event::Late(late) => self.late(late, rules, bridges),
            // It is told if it stays so.
            Event::Waits(_) => {}
        }
    }

    /// Other rules were put in force.
    pub fn reloaded(&self, reloaded: &Reloaded) {
        let Reloaded {
            before,
            rules,
            took,
            anew,
            gone,
        } = *reloaded;
        self.say("reloaded", format_args!(
            "{} ({before} before) in {} ms; of the addresses known, {anew} decided anew and {gone} let go",
            counted(rules, "rule"),
            took
        ));
    }

    /// What a list came to when it was read again.
    pub fn list(&self, list: &ListSummary) {
        for line in summary::list(list) {
            self.row(&line);
        }
    }

    /// Other rules could not be read or put in force.
    pub fn not_reloaded(&self, why: &str) {
        self.say(
            "warning",
            format_args!("not reloaded, the rules stay as they were: {why}"),
        );
    }

    /// Names were resolved before their use: so many, with so many addresses, save some.
    pub fn resolved(&self, names: usize, addresses: usize, failed: &[(String, Failure)]) {
        let failed = match failed {
            [] => String::new(),
            failed => format!(" ({} failed: {})", failed.len(), listed(failed)),
        };
        self.say(
            "resolved",
            format_args!(
                "{} before their use: {}{failed}",
                counted(names, "name"),
                counted(addresses, "address")
            ),
        );
    }

    /// A name that was resolved before its use is not any more, or for another reason, or is again.
    pub fn unresolved(&self, name: &str, failure: Option<&Failure>) {
        match failure {
            Some(failure) => self.say(
                "note",
                format_args!("{name} is not resolved before its use: {failure}; asking again"),
            ),
            None => self.detail(&format_args!("{name} is resolved again")),
        }
    }

    /// Something failed and will be tried again; the same is told once a minute.
    pub fn trouble(&mut self, text: &str) {
        let told = self.troubles.get(text);
        if told.is_some_and(|told| told.elapsed() < TROUBLED) {
            return;
        }
        self.troubles.retain(|_, told| told.elapsed() < TROUBLED);
        self.troubles.insert(text.to_owned(), Instant::now());
        tracing::warn!("{text}; trying again");
        let text = format!("{text}; trying again");
        self.journal.tell("warning", text, Value::Null);
    }

    /// What the counters say that no user should have to look for: packets stopped and events lost.
    pub fn counters(&mut self, before: &Stats, now: &Stats) {
        for &outcome in Outcome::ALL {
            let more = now.counter(outcome).wrapping_sub(before.counter(outcome));
            if more == 0 {
                continue;
            }
            match heed(outcome) {
                Heed::None => {}
                Heed::Note => self.stopped(outcome, more),
                Heed::Warning => self.say(
                    "warning",
                    format_args!("{more} × {}: {}", outcome.name(), advice(outcome)),
                ),
            }
        }
    }

    /// What a scope is there to stop.
    fn stopped(&mut self, outcome: Outcome, more: u64) {
        let name = outcome.name();
        let since = self.stopped.get(name).copied();
        let count = since.map_or(0, |(_, untold)| untold) + more;
        if let Some((told, _)) = since.filter(|(told, _)| told.elapsed() < STOPPED) {
            self.stopped.insert(name, (told, count));
            return;
        }
        self.stopped.insert(name, (Instant::now(), 0));
        self.note(&format!("{count} × {name}: {}", advice(outcome)));
    }

    /// The name of a VPN, where there are several.
    fn vpn_name(&self, path: Path) -> Option<&str> {
        let name = self.vpns.get(VpnId::of(path)?.0)?;
        Some(name)
    }

    fn learned(&self, learned: &Learned, rules: &Rulebook, bridges: &[Bridge]) {
        let path = match learned.verdict {
            Verdict::BLOCK => "blocked",
            verdict if verdict.is_vpn() => "vpn",
            _ => "direct",
        };
        let vpn = self.vpn_name(learned.verdict.named());
        self.say_with(
            "learned",
            format_args!(
                "{} {} → {path}{} (rule {}, ttl {} s, asked {})",
                learned.name,
                learned.address,
                after(vpn),
                rules.domain(learned.rule).unwrap_or("of another run"),
                learned.ttl,
                place(learned.origin, bridges)
            ),
            json!({
                "name": learned.name.to_string(),
                "address": learned.address,
                "path": path,
                "vpn": vpn,
                "rule": rules.domain(learned.rule),
                "ttl": learned.ttl,
                "by": place(learned.origin, bridges),
            }),
        );
    }

    fn tell_steered(&self, steered: &Steered, rules: &Rulebook, bridges: &[Bridge]) {
        let (address, port) = steered.remote;
        let scope = steered.scope.and_then(|number| self.scopes.get(number));
        let name = match (scope, self.names.get(&address)) {
            (Some(scope), _) => format!("scope {scope}"),
            (None, Some(name)) => name.to_string(),
            (None, None) => rules
                .domain(steered.rule)
                .unwrap_or("of another run")
                .to_owned(),
        };
        let from = match steered.local {
            Some((local, _)) => format!("from {local} {}", place(steered.origin, bridges)),
            None => place(steered.origin, bridges),
        };
        let vpn = self.vpn_name(steered.path);
        self.say_with(
            "steered",
            format_args!(
                "{name} {address} port {port} {} → vpn{} ({from})",
                protocol(steered.protocol),
                after(vpn)
            ),
            json!({
                "name": name,
                "address": address,
                "port": port,
                "protocol": protocol(steered.protocol),
                "path": "vpn",
                "vpn": vpn,
                "rule": rules.domain(steered.rule),
                "scope": scope,
                "from": steered.local.map(|(local, _)| local),
                "by": place(steered.origin, bridges),
            }),
        );
    }

    fn refused(&self, refused: &Refused, rules: &Rulebook, bridges: &[Bridge]) {
        let (address, port) = (refused.remote.ip(), refused.remote.port());
        let rule = rules.domain(refused.rule);
        let name = self.names.get(&address).map(Name::to_string);
        let name = name.unwrap_or_else(|| rule.unwrap_or("of another run").to_owned());
        let local = refused.local.map(|local| local.ip());
        let by = place(refused.origin, bridges);
        let from = local.map_or_else(|| by.clone(), |local| format!("from {local} {by}"));
        self.say_with(
            "blocked",
            format_args!(
                "{name} {address} port {port} {} → nowhere (rule {}, {from})",
                protocol(refused.protocol),
                rule.unwrap_or("of another run")
            ),
            json!({
                "name": name,
                "address": address,
                "port": port,
                "protocol": protocol(refused.protocol),
                "path": "blocked",
                "rule": rule,
                "from": local,
                "by": by,
            }),
        );
    }

    fn late(&self, late: &Late, rules: &Rulebook, bridges: &[Bridge]) {
        let (address, port) = late.remote;
        let blocked = late.verdict == Verdict::BLOCK;
        let what = match (late.stopped, blocked) {
            (true, false) => "was stopped, and its next try takes the VPN",
            (false, false) => "goes on direct, and later ones take the VPN",
            (true, true) => "was stopped, for it is blocked",
            (false, true) => "goes on, and later ones are blocked",
        };
        self.say_with(
            if blocked { "blocked" } else { "late" },
            format_args!(
                "{} {address} port {port}: known only by its first packet (rule {}); {what} ({})",
                late.name,
                rules.domain(late.rule).unwrap_or("of another run"),
                place(late.origin, bridges)
            ),
            json!({
                "name": late.name.to_string(),
                "address": address,
                "port": port,
                "stopped": late.stopped,
                "path": if blocked { "blocked" } else { "vpn" },
                "rule": rules.domain(late.rule),
                "by": place(late.origin, bridges),
            }),
        );
    }

    /// An address has names of several verdicts. `names` are all that it is known by, if they were looked for.
    pub fn contested(
        &self,
        learned: &Learned,
        rule: u64,
        names: &[NameEntry],
        path: &str,
        rules: &Rulebook,
    ) {
        let by = |rule| rules.domain(rule).unwrap_or("of another run");
        let this = match learned.verdict {
            Verdict::NONE => "by no rule".to_owned(),
            _ => format!("by rule {}", by(learned.rule)),
        };
        let others: Vec<_> = names
            .iter()
            .filter(|entry| entry.verdict != learned.verdict && entry.rule == rule)
            .map(|entry| Name::of(entry).to_string())
            .collect();
        let others = match others.as_slice() {
            [] => String::new(),
            names => format!(" of {}", names.join(", ")),
        };
        self.say_with(
            "contested",
            format_args!(
                "{}: it is {}'s {this}, and by rule {}{others}; {}",
                learned.address,
                learned.name,
                by(rule),
                match path {
                    "vpn" => "the VPN wins",
                    _ => "the direct path wins",
                },
            ),
            json!({
                "name": learned.name.to_string(),
                "address": learned.address,
                "path": path,
                "rule": by(rule),
            }),
        );
    }

    fn remember(&mut self, learned: &Learned) {
        if self
            .names
            .insert(learned.address, learned.name.clone())
            .is_some()
        {
            return;
        }
        self.ages.push_back(learned.address);
        if self.ages.len() > NAMES
            && let Some(oldest) = self.ages.pop_front()
        {
            self.names.remove(&oldest);
        }
    }

    fn say(&self, kind: &str, text: Arguments<'_>) {
        self.say_with(kind, text, Value::Null);
    }

    /// A line, with the same in values.
    fn say_with(&self, kind: &str, text: Arguments<'_>, facts: Value) {
        let text = text.to_string();
        if self.output >= Output::Normal {
            // Nobody may be reading any more, which is no reason to stop steering.
            let _ = writeln!(stdout(), "{kind:<8} {text}");
        }
        self.journal.tell(kind, text, facts);
    }

    /// A line of a summary.
    fn row(&self, line: &str) {
        let (kind, text) = line.split_at_checked(summary::COLUMN).unwrap_or((line, ""));
        self.say(kind.trim_end(), format_args!("{text}"));
    }
}

/// A name, apart from what is before it.
fn after(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" {name}"))
}

/// Where it was seen: a bridge goes by its index, a process by its socket's cookie.
fn place(origin: u64, bridges: &[Bridge]) -> String {
    let bridge = bridges
        .iter()
        .find(|bridge| u64::from(bridge.index.0) == origin);
    match bridge {
        Some(bridge) => format!("on {}", bridge.name),
        None if origin == STEER => "by steer itself".to_owned(),
        None => "by a process".to_owned(),
    }
}

/// The first few names with why they failed.
fn listed(failed: &[(String, Failure)]) -> String {
    const LISTED: usize = 3;
    let each = failed
        .iter()
        .take(LISTED)
        .map(|(name, failure)| format!("{name}: {failure}"));
    let mut text = each.collect::<Vec<_>>().join("; ");
    if failed.len() > LISTED {
        text.push_str(&format!("; and {} more", failed.len() - LISTED));
    }
    text
}

/// Who should hear of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heed {
    /// Nobody.
    None,
    /// Who looks, once in a while.
    Note,
    /// Everybody.
    Warning,
}

fn heed(outcome: Outcome) -> Heed {
    match outcome {
        // What waits for its name, or has begun with one, is told by itself, and so is who waits long for his scope.
        Outcome::InitialHeld | Outcome::LateStopped | Outcome::ScopeUnknown => Heed::None,
        // It is answered.
        Outcome::Relayed => Heed::None,
        Outcome::Isolated | Outcome::Blocked => Heed::Note,
        // Each is told.
        Outcome::Refused => Heed::None,
        Outcome::EventLost | Outcome::NamesFull => Heed::Warning,
        _ if outcome.action() == Action::Drop => Heed::Warning,
        _ => Heed::None,
    }
}

fn advice(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Isolated => {
            "packets of scopes that would have gone direct were stopped: of connections from before the scope held, which their clients begin \
             anew; DNS questions that nobody can ask through the VPN, over TCP at Docker's own resolver or to the host where the scope has no \
             dns; or what is to a link-local address"
        }
        Outcome::Blocked => {
            "flows of scopes whose default is \"block\" began of which no rule speaks; steer explain --from container NAME HOST says of one \
             why, steer rules add lets one out"
        }
        Outcome::ScopeUnknown => "packets of containers of which Docker has not told yet wait",
        Outcome::Relayed => "DNS questions are asked through the VPN instead",
        Outcome::FlowsFull => {
            "the table of flows is full, and new ones to the VPN are refused until some end"
        }
        Outcome::AddrsFull => {
            "the table of addresses is full, and answers for names of the VPN, or that are blocked, are held back"
        }
        Outcome::NamesFull => {
            "the table of names is full: addresses are learned, but after a change of rules some keep their path until they expire"
        }
        Outcome::HeldBack => {
            "answers for names of the VPN, or that are blocked, could not be read to their end, and were held back lest the rest go direct"
        }
        Outcome::NotMarked => "the kernel refused to mark a socket, and its connection was refused",
        Outcome::BoundElsewhere => {
            "datagrams of a socket bound to another address than the VPN's were refused; leave it unbound"
        }
        Outcome::NoVpn => "datagrams were refused while the VPN has no address",
        Outcome::WrongPath => {
            "packets for a VPN were about to leave by another interface, or by the VPN that their socket was connected by \
             before, and were stopped; did somebody change the rules or routes?"
        }
        Outcome::Busy => "DNS questions came faster than they could be remembered",
        Outcome::EventLost => "lines are missing here; what is steered is not affected",
        _ => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_failures_are_listed() {
        let failed: Vec<_> = (0..5)
            .map(|n| (format!("n{n}.example"), Failure::Absent))
            .collect();
        assert_eq!(
            listed(&failed),
            "n0.example: there is no such name; n1.example: there is no such name; \
             n2.example: there is no such name; and 2 more"
        );
        assert_eq!(listed(&failed[..1]), "n0.example: there is no such name");
    }

    #[test]
    fn what_a_scope_stops_is_no_warning_and_is_not_told_every_second() {
        let told = Outcome::ALL.iter().copied();
        let noted: Vec<_> = told
            .clone()
            .filter(|outcome| heed(*outcome) == Heed::Note)
            .collect();
        assert_eq!(noted, [Outcome::Isolated, Outcome::Blocked]);
        for outcome in [
            Outcome::Relayed,
            Outcome::ScopeUnknown,
            Outcome::InitialHeld,
        ] {
            assert_eq!(heed(outcome), Heed::None);
        }
        let stopped = told.filter(|it| it.action() == Action::Drop && heed(*it) == Heed::Warning);
        assert!(stopped.clone().count() > 5);
        for outcome in stopped {
            assert_ne!(advice(outcome), "stopped", "{outcome:?}");
        }

        let file = crate::config::ConfigFile::default();
        let mut settings = Settings::resolve(file, crate::config::Overrides::default()).unwrap();
        settings.output = Output::Quiet;
        let mut report = Report::new(&settings);
        let mut now = Stats::default();
        for count in 1..=3 {
            let before = now;
            now.scope_blocked += count;
            report.counters(&before, &now);
        }
        let (_, untold) = report.stopped["scope_blocked"];
        assert_eq!(untold, 2 + 3, "only the first is told at once");
    }
}
