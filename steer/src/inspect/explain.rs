//! Why a name or an address takes the path that it takes.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use steer_common::{
    decide::Match,
    suffix::hash_name,
    types::{
        self, AddrEntry, Address, NameEntry, NetEntry, ProcessScope, ScopeEntry, ScopeKey, Verdict,
        source,
    },
};

use super::{
    Error, Path, RuleFact, Snapshot, Ways,
    scopes::{self, Judged},
    seconds, verdict_name,
    vpns::the_vpn,
    who::{self, Asker, AskerFact},
};
use crate::{
    datapath::{Scopes, View, cgroup_id},
    engine::monotonic,
    events::Name,
    host::{Link, link},
    route::{self, Packet, Way},
    rules::{By, Domain, Subject},
    scope,
};

/// Addresses of a name whose routes are asked for; the others go likewise.
const ROUTED: usize = 4;
/// An address that is nobody's here (RFC 5737).
const SOMEBODY: Address = Address::v4([192, 0, 2, 1]);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// About whom.
    pub to: Target,
    /// Who would connect; none for any steered process.
    pub from: Option<Asker>,
}

/// Whom a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name.
    Name(Domain),
    /// An address.
    Address(IpAddr),
}

/// A target, with a port or without, which changes nothing: `hub.docker.com`, `203.0.113.7:443`, `[2001:db8::1]:443`, a URL.
impl FromStr for Question {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = host(text)?;
        let to = match host.parse() {
            Ok(address) => Target::Address(address),
            // No name has a last label of digits alone (RFC 3696 section 2).
            Err(_)
                if host.ends_with(|last: char| last.is_ascii_digit())
                    && !host.contains(char::is_alphabetic) =>
            {
                return Err(format!("\"{host}\" is neither an address nor a name"));
            }
            Err(_) => Target::Name(
                host.parse()
                    .map_err(|error: crate::rules::PatternError| error.to_string())?,
            ),
        };
        Ok(Self { to, from: None })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The answer to `steer explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The name or the address.
    pub about: String,
    /// Whether a run goes on; else its programs do what they knew.
    pub attended: bool,
    /// The path; of a name with addresses of several, the one of the first.
    pub path: Path,
    /// The VPN that it takes, or would if that were up, by its name where there are several.
    pub vpn: Option<String>,
    /// The same, by its number.
    #[serde(skip)]
    by: types::Path,
    /// In a word.
    pub because: Because,
    /// In a sentence.
    pub why: String,
    /// The rule for the name, if one speaks of it.
    pub rule: Option<RuleFact>,
    /// Rules that speak of the name too, less specifically.
    pub passed_over: Vec<RuleFact>,
    /// The addresses that the name is known to have, or the one that was asked about.
    pub addresses: Vec<AddressFact>,
    /// Who would connect.
    pub from: Option<AskerFact>,
    /// In which scope he is, if there are scopes.
    pub scope: Option<AskerScope>,
    /// What would change it, a line each.
    pub changes: Vec<String>,
}

/// Why, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// A rule speaks of the name; no address of it is known yet.
    Rule,
    /// No rule speaks of the name.
    NoRule,
    /// A rule speaks of a network that the address is in.
    Network,
    /// A name with a rule has the address.
    Learned,
    /// Names of several verdicts have it, or of several VPNs.
    Contested,
    /// A name had it, and that is over.
    Expired,
    /// Nothing is known of it.
    NeverSeen,
    /// It names the host itself, everybody or a single link.
    NeverSteered,
    /// Whoever would connect is not steered.
    NotSteered,
    /// No rule speaks of it, and the scope of whoever would connect sends it through the VPN.
    Scope,
    /// The scope of whoever would connect lets it out nowhere.
    Isolated,
    /// It is not known in which scope whoever would connect is, so what he sends waits.
    Waits,
    /// It is the host's own or one of its containers', and does not leave: a scope has no say in it.
    Stays,
}

/// In which scope somebody is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskerScope {
    /// What it is about: `network underbridge`; none where he is in none, or that is not known.
    pub scope: Option<String>,
    /// Where the file has it.
    pub from: Option<String>,
    /// Where goes what no rule speaks of: `vpn`, `direct` or `block`; `unknown` while nobody knows in which scope he is.
    pub default: String,
    /// The VPN of that, and of rules that do not say which, where there are several.
    pub vpn: Option<String>,
    /// Who is asked his DNS questions, through the VPN; none: whom he asks.
    pub dns: Vec<IpAddr>,
    /// What is otherwise for what he sends by other bridges, a sentence each.
    pub elsewhere: Vec<String>,
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFact {
    /// The address.
    pub address: IpAddr,
    /// Where a flow to it goes that begins now.
    pub path: Path,
    /// The VPN that it takes, or would if that were up, by its name where there are several.
    pub vpn: Option<String>,
    /// What a rule says of it.
    #[serde(skip)]
    verdict: Verdict,
    /// The VPN by its number.
    #[serde(skip)]
    by: types::Path,
    /// In a word.
    pub because: Because,
    /// The rule that decides.
    pub rule: Option<RuleFact>,
    /// Seconds until that is over, where it ever is.
    pub expires_in: Option<u64>,
    /// The names that it was learned by, the newest first.
    pub names: Vec<NameFact>,
    /// Flows to it that are held on the VPN, whatever is learned meanwhile.
    pub held: usize,
    /// Which way the kernel would send it: `via 192.0.2.1 dev wg0 table 7350`, or `nowhere`.
    pub route: Option<String>,
}

/// A name that gave an address its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameFact {
    /// The name.
    pub name: String,
    /// `vpn`, `direct`, `block`, or `none` where a flow on the VPN began with a name of no rule.
    pub verdict: String,
    /// The rule, where there is one.
    pub rule: Option<RuleFact>,
    /// How it was learned: `answer`, `resolved` or `first-packet`.
    pub how: String,
    /// Who asked: `somebody on docker0`, `a process` or `steer`.
    pub asked_by: String,
    /// Seconds since then.
    pub seconds_ago: u64,
    /// Seconds, as the answer had it.
    pub ttl: u32,
    /// Seconds until it is over; none where it is.
    pub expires_in: Option<u64>,
}

/// Works it out.
///
/// # Errors
/// When the tables cannot be read, or whoever would connect is not there.
pub async fn explain(
    snapshot: &Snapshot,
    view: &View,
    question: &Question,
) -> Result<Explanation, Error> {
    let links = link::list().await?;
    let from = match &question.from {
        Some(asker) => Some(who::find(snapshot, &links, asker).await?),
        None => None,
    };
    let facts = Facts::new(snapshot, view);
    let (rule, passed_over, mut addresses) = match &question.to {
        Target::Name(name) => {
            let mut rules = facts.rules_for(name.as_str())?.into_iter();
            let rule = rules.next();
            let passed_over = rules.map(|(_, rule)| rule).collect();
            (rule, passed_over, facts.addresses_of(name.as_str())?)
        }
        Target::Address(address) => (None, Vec::new(), facts.addresses([*address].into())?),
    };
    let (said, rule) = rule.unzip();
    let is_steered = from.as_ref().is_none_or(|from| from.steered);
    if !is_steered {
        addresses
            .iter_mut()
            .for_each(|fact| facts.send(fact, (Path::Direct, fact.because, types::Path::DIRECT)));
    }
    let asked = from.as_ref().filter(|from| from.steered);
    let scope = match asked {
        Some(from) => facts.scope(from, &links)?,
        None => None,
    };
    if let Some((entry, _)) = &scope {
        let is_process = asked.is_some_and(|from| from.cgroup.is_some());
        for fact in &mut addresses {
            facts.within(entry, is_process, fact)?;
        }
    }
    let leaves = |fact: &&mut AddressFact| !is_stopped(fact.because, fact.rule.as_ref());
    for fact in addresses.iter_mut().take(ROUTED).filter(leaves) {
        fact.route = Some(facts.route(fact, from.as_ref(), &links).await?);
    }
    let (mut path, mut because, mut by) = match addresses.first() {
        Some(fact) => (fact.path, fact.because, fact.by),
        None => {
            let because = match rule {
                Some(_) => Because::Rule,
                None => Because::NoRule,
            };
            let verdict = said.unwrap_or_default();
            let entry = scope.as_ref().map_or(ScopeEntry::NONE, |(entry, _)| *entry);
            // Whatever address it has, it is somebody else's.
            let judged = scopes::judge(&entry, &SOMEBODY, false, verdict);
            facts.course(judged, verdict, entry.path, None, because)
        }
    };
    if !is_steered {
        (path, because, by) = (Path::Direct, Because::NotSteered, types::Path::DIRECT);
    }
    let mut explanation = Explanation {
        about: question.to.to_string(),
        attended: snapshot.run.is_some(),
        path,
        vpn: snapshot.vpn_name(by),
        by,
        because,
        why: String::new(),
        rule,
        passed_over,
        addresses,
        from,
        scope: scope.map(|(_, scope)| scope),
        changes: Vec::new(),
    };
    explanation.why = why(&explanation);
    explanation.changes = changes(&explanation, snapshot);
    Ok(explanation)
}

/// The path of what begins now, is no question of DNS, and goes to an address from a container of which the programs were told
/// this, and its VPN; none where the programs stop it.
///
/// # Errors
/// When the tables cannot be read.
pub(super) fn path_of(
    snapshot: &Snapshot,
    view: &View,
    scope: &ScopeEntry,
    address: IpAddr,
) -> Result<Option<(Path, types::Path)>, Error> {
    let facts = Facts::new(snapshot, view);
    let mut fact = facts.address(address, Vec::new(), 0)?;
    facts.within(scope, false, &mut fact)?;
    Ok((!is_stopped(fact.because, fact.rule.as_ref())).then_some((fact.path, fact.by)))
}

struct Facts<'a> {
    snapshot: &'a Snapshot,
    view: &'a View,
    now: u64,
}

impl<'a> Facts<'a> {
    fn new(snapshot: &'a Snapshot, view: &'a View) -> Self {
        Self {
            snapshot,
            view,
            now: monotonic(),
        }
    }

    /// The rules in force for a name, from the one that decides on.
    fn rules_for(&self, name: &str) -> Result<Vec<(Verdict, RuleFact)>, Error> {
        let rulebook = &self.snapshot.rulebook;
        let table = self.view.rules()?;
        let mut facts = Vec::new();
        for (suffix, whole) in suffixes(name) {
            let hash = hash_name(&self.view.config().key, suffix);
            // The kernel's word: of a killed run, the files may say something else by now.
            let mut matched = Match::default();
            if let Some(entry) = table.get(&hash)? {
                matched.suffix(hash, whole, &entry);
            }
            if matched.verdict != Verdict::NONE {
                let written = rulebook.rules_of(hash);
                let found = written.iter().find(|(subject, judgement)| {
                    judgement.kernel() == matched.verdict && covers(subject, whole)
                });
                let fact = match found {
                    Some((subject, judgement)) => self.snapshot.rule_fact(subject, judgement),
                    None => RuleFact {
                        rule: suffix.to_owned(),
                        ..self.snapshot.rule_of(hash, matched.verdict)
                    },
                };
                facts.push((matched.verdict, fact));
            }
        }
        // Words are looked for by a run that goes on alone.
        if facts.is_empty()
            && self.snapshot.run.is_some()
            && let Some(judgement) = rulebook.rules().decide(name)
            && let By::Text(text) = judgement.by
        {
            let subject = Subject::Text(text.clone());
            let fact = self.snapshot.rule_fact(&subject, &judgement);
            facts.push((judgement.kernel(), fact));
        }
        Ok(facts)
    }

    fn addresses_of(&self, name: &str) -> Result<Vec<AddressFact>, Error> {
        let hash = hash_name(&self.view.config().key, name);
        let names = self.view.names()?;
        let known: BTreeSet<IpAddr> = names
            .iter()
            .filter(|(key, entry)| key.name == hash && entry.until > self.now)
            .map(|(key, _)| key.address.to_ip())
            .collect();
        self.addresses(known)
    }

    /// Goes through the tables once for all of them.
    fn addresses(&self, wanted: BTreeSet<IpAddr>) -> Result<Vec<AddressFact>, Error> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut names: HashMap<IpAddr, Vec<NameEntry>> = HashMap::new();
        for (key, entry) in self.view.names()?.iter() {
            let address = key.address.to_ip();
            if wanted.contains(&address) {
                names.entry(address).or_default().push(entry);
            }
        }
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        let flows = self.view.flows()?;
        for (flow, _) in flows.iter().filter(|(_, entry)| entry.path.is_vpn()) {
            *held.entry(flow.remote.to_ip()).or_default() += 1;
        }
        let facts = wanted.into_iter().map(|address| {
            let names = names.remove(&address).unwrap_or_default();
            let held = held.get(&address).copied().unwrap_or_default();
            self.address(address, names, held)
        });
        facts.collect()
    }

    fn address(
        &self,
        address: IpAddr,
        mut names: Vec<NameEntry>,
        held: usize,
    ) -> Result<AddressFact, Error> {
        let key = Address::from(address);
        let config = self.view.config();
        names.sort_by_key(|entry| std::cmp::Reverse(entry.learned));
        let net = match config.nets {
            0 => None,
            _ => self
                .view
                .net(key)?
                .filter(|net| net.verdict != Verdict::NONE),
        };
        let entry = self.view.addresses()?.get(&key)?;
        let (because, matched) = judge(&key, net, entry, !names.is_empty(), self.now);
        let expires_in = entry
            .filter(|_| matches!(because, Because::Learned | Because::Contested))
            .map(|entry| match matched.verdict {
                verdict if verdict.is_vpn() => entry.vpn_until,
                Verdict::BLOCK => entry.block_until,
                _ => entry.direct_until,
            });
        let because = match because {
            Because::Learned if self.is_of_several(&names, matched.verdict) => Because::Contested,
            because => because,
        };
        let unscoped = types::Path::DIRECT;
        let family = Some(address.is_ipv4());
        let (path, because, by) =
            self.course(Judged::Free, matched.verdict, unscoped, family, because);
        Ok(AddressFact {
            address,
            path,
            vpn: self.snapshot.vpn_name(by),
            verdict: matched.verdict,
            by,
            because,
            rule: (matched.verdict != Verdict::NONE)
                .then(|| self.snapshot.rule_of(matched.rule, matched.verdict)),
            expires_in: expires_in.map(|until| seconds(self.now, until)),
            names: names.iter().map(|entry| self.name(entry)).collect(),
            held,
            route: None,
        })
    }

    /// Whether a name gives the address another VPN than the one that it has.
    fn is_of_several(&self, names: &[NameEntry], verdict: Verdict) -> bool {
        let meant = |verdict| self.view.config().meant(verdict, types::Path::DIRECT);
        let mut by_vpn = names
            .iter()
            .filter(|name| name.until > self.now && name.verdict.is_vpn());
        verdict.is_vpn() && by_vpn.any(|name| meant(name.verdict) != meant(verdict))
    }

    fn name(&self, entry: &NameEntry) -> NameFact {
        NameFact {
            name: Name::of(entry).to_string(),
            verdict: verdict_name(entry.verdict).to_owned(),
            rule: (entry.verdict != Verdict::NONE)
                .then(|| self.snapshot.rule_of(entry.rule, entry.verdict)),
            how: match entry.source {
                source::ANSWER => "answer",
                source::RESOLVED => "resolved",
                _ => "first-packet",
            }
            .to_owned(),
            asked_by: who::asked_by(entry.origin, &self.snapshot.bridges),
            seconds_ago: seconds(entry.learned, self.now),
            ttl: entry.ttl,
            expires_in: (entry.until > self.now).then(|| seconds(self.now, entry.until)),
        }
    }

    /// What the programs were told of somebody, and what that means.
    fn scope(
        &self,
        from: &AskerFact,
        links: &[Link],
    ) -> Result<Option<(ScopeEntry, AskerScope)>, Error> {
        if let Some(cgroup) = &from.cgroup {
            return self.scope_of_processes(cgroup);
        }
        if self.view.config().scopes == 0 {
            return Ok(None);
        }
        let told = self.view.scopes()?.iter().collect::<Scopes>();
        let of = |bridge: &str, addresses: &[IpAddr]| {
            let link = links.iter().find(|link| link.name == bridge)?;
            let told = |key: &ScopeKey| told.get(key).copied();
            let entry = scope::entry(told, link.index, *addresses.first()?);
            Some((entry, self.asker_scope(&entry)))
        };
        let Some((entry, mut scope)) = from
            .bridge
            .as_ref()
            .and_then(|bridge| of(bridge, &from.addresses))
        else {
            return Ok(None);
        };
        let others = from.places.iter();
        let others = others.filter(|(bridge, _)| Some(bridge) != from.bridge.as_ref());
        for (bridge, addresses) in others {
            if let Some((_, other)) = of(bridge, addresses)
                && other.means() != scope.means()
            {
                scope
                    .elsewhere
                    .push(format!("what it sends by {bridge}: {}", other.means()));
            }
        }
        Ok(Some((entry, scope)))
    }

    /// The same of the processes in a cgroup: of the scopes that it lies in, the deepest one's.
    fn scope_of_processes(
        &self,
        cgroup: &std::path::Path,
    ) -> Result<Option<(ScopeEntry, AskerScope)>, Error> {
        if self.view.config().processes == 0 {
            return Ok(None);
        }
        let told = self.view.processes()?;
        for above in cgroup.ancestors() {
            let id = cgroup_id(above).unwrap_or_default();
            if let Some(ProcessScope { entry, .. }) = told.get(&id)? {
                return Ok(Some((entry, self.asker_scope(&entry))));
            }
        }
        let none = ScopeEntry::NONE;
        Ok(Some((none, self.asker_scope(&none))))
    }

    fn asker_scope(&self, entry: &ScopeEntry) -> AskerScope {
        let scopes = &self.snapshot.settings.scopes;
        let scope = scope::scope_id(entry).and_then(|id| scopes.get(id.0));
        AskerScope {
            scope: scope.map(|scope| scope.selector.to_string()),
            from: scope.map(|scope| scope.origin.to_string()),
            default: match entry.default {
                ScopeEntry::FREE => "direct",
                ScopeEntry::VPN => "vpn",
                ScopeEntry::BLOCK => "block",
                _ => "unknown",
            }
            .to_owned(),
            vpn: scope.and_then(|_| {
                let vpn = entry.path.or(self.view.config().default);
                self.snapshot.vpn_name(vpn)
            }),
            dns: scope
                .filter(|_| entry.dns != 0)
                .map_or_else(Vec::new, |scope| scope.dns.clone()),
            elsewhere: Vec::new(),
        }
    }

    /// What becomes of an address where a scope has a say in it.
    fn within(
        &self,
        scope: &ScopeEntry,
        is_process: bool,
        fact: &mut AddressFact,
    ) -> Result<(), Error> {
        let key = Address::from(fact.address);
        let verdict = fact.verdict;
        let is_home = self.view.is_home(key)?;
        let judged = match is_process {
            true => scopes::judge_process(scope, &key, is_home, verdict),
            false => scopes::judge(scope, &key, is_home, verdict),
        };
        let judged = match judged {
            // What that is has a word of its own.
            Judged::Stays if fact.because == Because::NeverSteered => Judged::Free,
            judged => judged,
        };
        let family = Some(fact.address.is_ipv4());
        let course = self.course(judged, verdict, scope.path, family, fact.because);
        self.send(fact, course);
        Ok(())
    }

    fn send(&self, fact: &mut AddressFact, course: (Path, Because, types::Path)) {
        (fact.path, fact.because, fact.by) = course;
        fact.vpn = self.snapshot.vpn_name(fact.by);
    }

    /// The path of what is judged so, why, and the VPN that it takes or would take; `scope` is the VPN of its sender's.
    fn course(
        &self,
        judged: Judged,
        verdict: Verdict,
        scope: types::Path,
        is_v4: Option<bool>,
        because: Because,
    ) -> (Path, Because, types::Path) {
        let config = self.view.config();
        let vpn = config.meant(verdict, scope);
        let ways = Ways::by(vpn, self.snapshot, config);
        let (path, because) = within(judged, verdict, ways, is_v4, because);
        let by_vpn = match judged {
            Judged::Free | Judged::Rule => verdict.is_vpn(),
            Judged::Vpn => true,
            Judged::Nowhere | Judged::Waits | Judged::Stays => false,
        };
        let by = if by_vpn { vpn } else { types::Path::DIRECT };
        (path, because, by)
    }

    /// As the kernel would send the first packet of a flow.
    async fn route(
        &self,
        fact: &AddressFact,
        from: Option<&AskerFact>,
        links: &[Link],
    ) -> Result<String, Error> {
        let config = self.view.config();
        let is_v4 = fact.address.is_ipv4();
        let steered = from.is_none_or(|from| from.steered);
        let mark = match fact.path {
            _ if !steered => 0,
            Path::Vpn | Path::Blocked => config.vpn(fact.by).mark,
            Path::Direct => config.bypass,
        };
        let sender = from.and_then(|from| from.sender(is_v4, links));
        let packet = Packet {
            to: fact.address,
            mark,
            from: sender,
        };
        Ok(match route::way(&packet).await? {
            Way::Nowhere => "nowhere: no route leads there".to_owned(),
            Way::Out {
                interface,
                gateway,
                source,
                table,
            } => {
                let name = links
                    .iter()
                    .find(|link| link.index == interface)
                    .map_or("?", |link| link.name.as_str());
                let via = gateway.map_or_else(String::new, |hop| format!("via {hop} "));
                let source = source.map_or_else(String::new, |from| format!(" src {from}"));
                format!("{via}dev {name}{source} table {table}")
            }
        })
    }
}

impl AskerScope {
    /// In words.
    pub fn means(&self) -> String {
        let scope = match (&self.scope, &self.from) {
            (Some(scope), Some(from)) => format!("{scope} ({from}): "),
            _ => String::new(),
        };
        let vpn = the_vpn(self.vpn.as_deref());
        let default = match self.default.as_str() {
            "vpn" => &format!("what no rule sends direct takes {vpn}"),
            "block" => "nothing leaves but what a rule speaks of",
            "unknown" => {
                "not known yet: Docker has not told of it. What it sends waits, but to this host and its containers"
            }
            _ if self.scope.is_none() => "none: the rules alone decide",
            _ => "what no rule speaks of goes direct",
        };
        let dns: Vec<_> = self.dns.iter().map(ToString::to_string).collect();
        let dns = match dns.as_slice() {
            [] => String::new(),
            some => format!(
                "; DNS questions go to {} through {vpn}, whomever it asks",
                some.join(" or ")
            ),
        };
        format!("{scope}{default}{dns}")
    }
}

/// The path of what a scope judges so, and why; `because` as it is without one.
fn within(
    judged: Judged,
    verdict: Verdict,
    ways: Ways,
    is_v4: Option<bool>,
    because: Because,
) -> (Path, Because) {
    match judged {
        Judged::Free | Judged::Rule => (Path::of(verdict, ways, is_v4), because),
        Judged::Vpn => (Path::of(Verdict::VPN, ways, is_v4), Because::Scope),
        Judged::Nowhere => (Path::Blocked, Because::Isolated),
        Judged::Waits => (Path::Blocked, Because::Waits),
        Judged::Stays => (Path::Direct, Because::Stays),
    }
}

/// Whether nothing leaves, be the VPN up or not: it is a scope's doing, or that of the rule that decides.
fn is_stopped(because: Because, rule: Option<&RuleFact>) -> bool {
    let stays = matches!(because, Because::Stays | Because::NotSteered);
    let blocks = rule.is_some_and(|rule| rule.verdict == verdict_name(Verdict::BLOCK));
    (blocks && !stays) || matches!(because, Because::Isolated | Because::Waits)
}

/// What decides of an address, as the programs do it.
fn judge(
    key: &Address,
    net: Option<NetEntry>,
    entry: Option<AddrEntry>,
    has_names: bool,
    now: u64,
) -> (Because, Match) {
    if !key.is_steerable() {
        return (Because::NeverSteered, Match::default());
    }
    if let Some(NetEntry { rule, verdict, .. }) = net {
        return (Because::Network, Match { verdict, rule });
    }
    let Some(entry) = entry else {
        let because = if has_names {
            Because::Expired
        } else {
            Because::NeverSeen
        };
        return (because, Match::default());
    };
    let matched = entry.at(now);
    let because = match matched.verdict {
        Verdict::NONE => Because::Expired,
        verdict if entry.contested_by(verdict, now) != 0 => Because::Contested,
        _ => Because::Learned,
    };
    (because, matched)
}

/// The name and what it lies below, from the most specific on; whether it is the whole.
pub(super) fn suffixes(name: &str) -> impl Iterator<Item = (&str, bool)> {
    let below = std::iter::successors(name.split_once('.'), |(_, rest)| rest.split_once('.'));
    std::iter::once((name, true)).chain(below.map(|(_, suffix)| (suffix, false)))
}

fn covers(subject: &Subject, whole: bool) -> bool {
    match subject {
        Subject::Names(pattern) => pattern.scope.covers(whole),
        _ => true,
    }
}

fn why(it: &Explanation) -> String {
    let about = &it.about;
    let vpn = the_vpn(it.vpn.as_deref());
    let decided = it.addresses.first().and_then(|fact| fact.rule.as_ref());
    let rule = |rule: Option<&RuleFact>| match rule {
        Some(rule) => format!(
            "the rule {} ({}) says {}",
            rule.rule,
            rule.from,
            rule.says()
        ),
        None => "no rule speaks of it".to_owned(),
    };
    let subject = match it.addresses.first() {
        Some(fact) if fact.address.to_string() != *about => format!("its address {}", fact.address),
        _ => "the address".to_owned(),
    };
    let reason = match it.because {
        Because::Rule => format!(
            "{}; no address of it is known yet, the next answer to a question for it teaches them",
            rule(it.rule.as_ref())
        ),
        Because::NoRule => {
            "no rule speaks of it; unless its address has a rule or a name of the VPN, which steer explain ADDRESS says"
                .to_owned()
        }
        Because::Network => rule(decided),
        Because::Learned => {
            let name = it.addresses.first().and_then(|fact| fact.names.first());
            match name.filter(|name| name.name != *about) {
                Some(name) => format!("{} has {subject}, and {}", name.name, rule(decided)),
                None => rule(decided),
            }
        }
        Because::Contested => {
            let names = it.addresses.first().map(|fact| fact.names.as_slice());
            let is_other = |name: &NameFact| name.verdict != "vpn" && name.expires_in.is_some();
            let names = match names.unwrap_or_default().iter().any(is_other) {
                true => format!(
                    "names of several paths have {subject}, and the VPN wins, and then the direct path"
                ),
                false => format!("names of several VPNs have {subject}, and the last one's wins"),
            };
            format!("{names}: {}", rule(decided))
        }
        Because::Expired => format!("what was known of {subject} has expired"),
        Because::NeverSeen => {
            "no answer that steer has seen gave this address to a name with a rule, and no rule covers it"
                .to_owned()
        }
        Because::NeverSteered => {
            "it names the host itself, everybody or a single link, and is never steered".to_owned()
        }
        Because::NotSteered => it
            .from
            .as_ref()
            .map_or_else(String::new, |from| from.why.clone()),
        Because::Scope => format!(
            "no rule speaks of it, and {} sends that through {vpn}",
            scope(it)
        ),
        Because::Isolated => {
            let fact = it.addresses.first();
            let is_of_link =
                fact.is_some_and(|fact| !Address::from(fact.address).is_steerable());
            match is_of_link {
                true => format!("it is for its own link alone, and {} lets nothing out there", scope(it)),
                false => format!("no rule speaks of it, and {} lets nothing else out", scope(it)),
            }
        }
        Because::Waits => {
            "nobody knows yet in which scope the container is: what it sends waits until Docker tells of it".to_owned()
        }
        Because::Stays => {
            "it is this host's own or one of its containers', where no scope has a say; but of DNS questions, which go to the scope's \
             resolver or nowhere"
                .to_owned()
        }
    };
    let is_within = it
        .scope
        .as_ref()
        .is_some_and(|scope| scope.default != "direct");
    let is_rule = matches!(
        it.because,
        Because::Rule | Because::Network | Because::Learned | Because::Contested
    );
    let over = match is_within && is_rule {
        true => format!("; a rule goes before {}", scope(it)),
        false => String::new(),
    };
    let but = match it.path {
        Path::Blocked if is_stopped(it.because, decided.or(it.rule.as_ref())) => "",
        Path::Blocked => &format!("; {vpn} is down, so it is blocked"),
        Path::Direct
            if decided
                .or(it.rule.as_ref())
                .is_some_and(|rule| rule.verdict == "vpn")
                && !matches!(it.because, Because::NotSteered | Because::Stays) =>
        {
            &format!("; {vpn} is down and on_down is \"direct\", so it goes direct")
        }
        _ => "",
    };
    format!("{reason}{over}{but}")
}

fn scope(it: &Explanation) -> String {
    let scope = it.scope.as_ref().and_then(|scope| scope.scope.as_ref());
    scope.map_or_else(
        || "its scope".to_owned(),
        |scope| format!("the scope {scope}"),
    )
}

fn changes(it: &Explanation, snapshot: &Snapshot) -> Vec<String> {
    let about = &it.about;
    let mut changes = Vec::new();
    let decided = it.addresses.first().and_then(|fact| fact.rule.as_ref());
    if it.path == Path::Blocked && !is_stopped(it.because, decided.or(it.rule.as_ref())) {
        let isolated = it
            .scope
            .as_ref()
            .is_some_and(|scope| scope.default == "vpn");
        let or = match it.because {
            _ if isolated => "",
            _ => ", or set on_down = \"direct\"",
        };
        changes.push(match snapshot.vpn(it.by) {
            Some(vpn) => format!("bring {} up{or}", vpn.name),
            None => format!("start {}{or}", the_vpn(it.vpn.as_deref())),
        });
    }
    match it.because {
        Because::Stays => {}
        Because::Waits if !it.attended => {}
        Because::Waits => changes.push("docker ps, which says whether dockerd answers".to_owned()),
        Because::Isolated => {
            let fact = it.addresses.first();
            if fact.is_none_or(|fact| Address::from(fact.address).is_steerable()) {
                changes
                    .extend(["vpn", "direct"].map(|way| format!("steer rules add {way} {about}")));
            }
        }
        Because::NotSteered => changes
            .push("name its bridge under [attach] bridges, or its cgroup under cgroups".to_owned()),
        Because::NeverSteered => {}
        Because::Contested => {
            if let Some(fact) = it.addresses.first() {
                let other = fact.names.iter().find(|name| name.verdict == "vpn");
                changes.extend(other.map(|name| {
                    format!(
                        "steer rules add direct {}, if the VPN is not for it",
                        name.name
                    )
                }));
                changes.push(format!(
                    "steer rules add direct {}, so that the address goes direct whatever name has it",
                    fact.address
                ));
            }
        }
        Because::NeverSeen | Because::Expired if it.addresses.len() == 1 && it.rule.is_none() => {
            changes.push(format!("steer rules add vpn {about}"));
            changes.push(
                "a question for its name by whoever connects, if a rule speaks of that name"
                    .to_owned(),
            );
        }
        _ => {
            let vpn = it.path != Path::Direct;
            let other = if vpn { "direct" } else { "vpn" };
            // A rule for the name changes nothing where another name or a network decides of its address.
            let own = |fact: &&AddressFact| fact.names.iter().all(|name| name.name == *about);
            let network = it.because == Because::Network;
            let what = match it.addresses.first() {
                Some(fact) if network || !own(&fact) => fact.address.to_string(),
                _ => about.clone(),
            };
            changes.push(format!("steer rules add {other} {what}"));
        }
    }
    if !it.attended {
        changes.retain(|change| !change.starts_with("steer rules"));
        changes.push(
            "steer run, which goes on with what is known and follows the host again".to_owned(),
        );
    }
    changes
}

/// The host of what a user may paste.
fn host(text: &str) -> Result<&str, String> {
    let rest = match text.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#']).next().unwrap_or(rest),
        // An image's name is no host: docker.io/library/nginx.
        None => text,
    };
    if rest.parse::<IpAddr>().is_ok() {
        return Ok(rest);
    }
    let host = match rest.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_err() => {
            return Err(format!(
                "\"{port}\" is no port; write HOST or HOST:PORT with a port from 1 to 65535"
            ));
        }
        Some((host, _)) => host,
        None => rest,
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    Ok(bare.unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_paste_is_understood() {
        for (text, to) in [
            ("hub.docker.com", "hub.docker.com"),
            ("Hub.Docker.com.", "hub.docker.com"),
            ("hub.docker.com:443", "hub.docker.com"),
            ("https://hub.docker.com/v2/", "hub.docker.com"),
            ("http://hub.docker.com:8080?x", "hub.docker.com"),
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:80", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            let question: Question = text.parse().unwrap();
            assert_eq!(question.to.to_string(), to, "{text}");
        }
        for text in [
            "",
            "hub.docker.com:x",
            "a b",
            "203.0.113.300",
            "docker.io/library/nginx",
        ] {
            assert!(text.parse::<Question>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_below_its_suffixes() {
        let found: Vec<_> = suffixes("a.b.example").collect();
        assert_eq!(
            found,
            [
                ("a.b.example", true),
                ("b.example", false),
                ("example", false)
            ]
        );
    }

    #[test]
    fn an_address_is_judged_as_the_programs_do() {
        const NOW: u64 = 100;
        let address = Address::v4([203, 0, 113, 7]);
        let entry = |vpn_until, direct_until| {
            Some(AddrEntry {
                vpn_until,
                direct_until,
                vpn_rule: 1,
                direct_rule: 2,
                vpn: Verdict::VPN,
                ..AddrEntry::default()
            })
        };
        let blocked = |direct_until| {
            let entry: Option<AddrEntry> = entry(0, direct_until);
            entry.map(|entry| AddrEntry {
                block_until: 101,
                block_rule: 4,
                ..entry
            })
        };
        let net = NetEntry {
            rule: 3,
            verdict: Verdict::DIRECT,
            zero: 0,
        };
        for (net, entry, names, because, rule) in [
            (None, None, false, Because::NeverSeen, 0),
            (None, None, true, Because::Expired, 0),
            (None, entry(101, 0), true, Because::Learned, 1),
            (None, entry(0, 101), true, Because::Learned, 2),
            (None, entry(101, 101), true, Because::Contested, 1),
            (None, blocked(0), true, Because::Learned, 4),
            (None, blocked(101), true, Because::Contested, 2),
            (None, entry(100, 100), true, Because::Expired, 0),
            (Some(net), entry(101, 0), true, Because::Network, 3),
        ] {
            let (found, matched) = judge(&address, net, entry, names, NOW);
            assert_eq!((found, matched.rule), (because, rule));
        }
        let (found, _) = judge(&Address::v4([127, 0, 0, 1]), Some(net), None, false, NOW);
        assert_eq!(found, Because::NeverSteered);
    }

    #[test]
    fn a_scope_decides_where_no_rule_does() {
        let up = Ways {
            v4: true,
            v6: false,
            open: false,
        };
        let rule = Because::Learned;
        for (judged, verdict, is_v4, path, because) in [
            (Judged::Vpn, Verdict::NONE, true, Path::Vpn, Because::Scope),
            (
                Judged::Vpn,
                Verdict::NONE,
                false,
                Path::Blocked,
                Because::Scope,
            ),
            (Judged::Rule, Verdict::VPN, true, Path::Vpn, rule),
            (Judged::Rule, Verdict::DIRECT, true, Path::Direct, rule),
            (Judged::Rule, Verdict::BLOCK, true, Path::Blocked, rule),
            (Judged::Free, Verdict::BLOCK, true, Path::Blocked, rule),
            (Judged::Free, Verdict::NONE, true, Path::Direct, rule),
            (
                Judged::Stays,
                Verdict::VPN,
                true,
                Path::Direct,
                Because::Stays,
            ),
            (
                Judged::Waits,
                Verdict::DIRECT,
                true,
                Path::Blocked,
                Because::Waits,
            ),
            (
                Judged::Nowhere,
                Verdict::NONE,
                true,
                Path::Blocked,
                Because::Isolated,
            ),
        ] {
            let found = within(judged, verdict, up, Some(is_v4), rule);
            assert_eq!(found, (path, because), "{judged:?} {verdict:?}");
        }
    }

    fn explanation(because: Because, path: Path, scope: AskerScope) -> Explanation {
        let is_rule = because == Because::Rule;
        Explanation {
            about: "a.example".to_owned(),
            attended: true,
            path,
            vpn: scope.vpn.clone(),
            by: types::Path::DIRECT,
            because,
            why: String::new(),
            rule: is_rule.then(|| RuleFact {
                rule: ".example".to_owned(),
                verdict: "direct".to_owned(),
                vpn: None,
                from: "steer.toml:9".to_owned(),
            }),
            passed_over: Vec::new(),
            addresses: Vec::new(),
            from: None,
            scope: Some(scope),
            changes: Vec::new(),
        }
    }

    #[test]
    fn what_a_rule_blocks_waits_for_no_vpn() {
        let scope = AskerScope {
            default: "vpn".to_owned(),
            ..AskerScope::default()
        };
        let mut it = explanation(Because::Rule, Path::Blocked, scope);
        it.rule.as_mut().unwrap().verdict = "block".to_owned();
        assert_eq!(
            why(&it),
            "the rule .example (steer.toml:9) says block; no address of it is known yet, the next answer to a question for it teaches \
             them; a rule goes before its scope"
        );
        let of = |because| is_stopped(because, it.rule.as_ref());
        assert!(of(Because::Learned) && of(Because::Network));
        assert!(!of(Because::Stays) && !of(Because::NotSteered));
        assert!(!is_stopped(Because::Learned, None));
    }

    #[test]
    fn what_a_scope_does_is_said() {
        let scope = |default: &str| AskerScope {
            scope: Some("network under".to_owned()),
            from: Some("steer.toml:3".to_owned()),
            default: default.to_owned(),
            vpn: None,
            dns: vec!["1.1.1.1".parse().unwrap()],
            elsewhere: Vec::new(),
        };
        let unknown = AskerScope {
            default: "unknown".to_owned(),
            ..AskerScope::default()
        };
        for (because, path, of, said) in [
            (
                Because::Scope,
                Path::Vpn,
                scope("vpn"),
                "no rule speaks of it, and the scope network under sends that through the VPN",
            ),
            (
                Because::Scope,
                Path::Blocked,
                scope("vpn"),
                "no rule speaks of it, and the scope network under sends that through the VPN; the VPN is down, so it is blocked",
            ),
            (
                Because::Isolated,
                Path::Blocked,
                scope("block"),
                "no rule speaks of it, and the scope network under lets nothing else out",
            ),
            (
                Because::Rule,
                Path::Direct,
                scope("vpn"),
                "the rule .example (steer.toml:9) says direct; no address of it is known yet, the next answer to a question for it \
                 teaches them; a rule goes before the scope network under",
            ),
            (
                Because::Waits,
                Path::Blocked,
                unknown.clone(),
                "nobody knows yet in which scope the container is: what it sends waits until Docker tells of it",
            ),
        ] {
            assert_eq!(why(&explanation(because, path, of)), said);
        }
        assert_eq!(
            scope("vpn").means(),
            "network under (steer.toml:3): what no rule sends direct takes the VPN; DNS questions go to 1.1.1.1 through the VPN, \
             whomever it asks"
        );
        let of_several = AskerScope {
            vpn: Some("us".to_owned()),
            ..scope("vpn")
        };
        assert_eq!(
            why(&explanation(
                Because::Scope,
                Path::Blocked,
                of_several.clone()
            )),
            "no rule speaks of it, and the scope network under sends that through the VPN us; the VPN us is down, so it is blocked"
        );
        assert_eq!(
            of_several.means(),
            "network under (steer.toml:3): what no rule sends direct takes the VPN us; DNS questions go to 1.1.1.1 through the \
             VPN us, whomever it asks"
        );
        let none = AskerScope {
            default: "direct".to_owned(),
            ..AskerScope::default()
        };
        assert_eq!(none.means(), "none: the rules alone decide");
    }
}
