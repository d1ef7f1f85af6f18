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
    types::{AddrEntry, Address, NameEntry, NetEntry, Verdict, source},
};

use super::{
    Error, Path, RuleFact, Snapshot, Ways, seconds, verdict_name,
    who::{self, Asker, AskerFact},
};
use crate::{
    datapath::View,
    engine::monotonic,
    events::Name,
    host::{Link, link},
    route::{self, Packet, Way},
    rules::{By, Domain, Subject},
};

/// Addresses of a name whose routes are asked for; the others go likewise.
const ROUTED: usize = 4;

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
    /// Names of both paths have it.
    Contested,
    /// A name had it, and that is over.
    Expired,
    /// Nothing is known of it.
    NeverSeen,
    /// It names the host itself, everybody or a single link.
    NeverSteered,
    /// Whoever would connect is not steered.
    NotSteered,
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFact {
    /// The address.
    pub address: IpAddr,
    /// Where a flow to it goes that begins now.
    pub path: Path,
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
    /// `vpn`, `direct`, or `none` where a flow on the VPN began with a name of no rule.
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
            let (rule, passed_over) = facts.rules_for(name.as_str())?;
            (rule, passed_over, facts.addresses_of(name.as_str())?)
        }
        Target::Address(address) => (None, Vec::new(), facts.addresses([*address].into())?),
    };
    let is_steered = from.as_ref().is_none_or(|from| from.steered);
    if !is_steered {
        addresses
            .iter_mut()
            .for_each(|fact| fact.path = Path::Direct);
    }
    for fact in addresses.iter_mut().take(ROUTED) {
        fact.route = Some(facts.route(fact, from.as_ref(), &links).await?);
    }
    let (mut path, mut because) = match (addresses.first(), &rule) {
        (Some(fact), _) => (fact.path, fact.because),
        (None, Some(rule)) if rule.verdict == verdict_name(Verdict::VPN) => {
            (Path::of(Verdict::VPN, facts.ways, None), Because::Rule)
        }
        (None, Some(_)) => (Path::Direct, Because::Rule),
        (None, None) => (Path::Direct, Because::NoRule),
    };
    if !is_steered {
        (path, because) = (Path::Direct, Because::NotSteered);
    }
    let mut explanation = Explanation {
        about: question.to.to_string(),
        attended: snapshot.run.is_some(),
        path,
        because,
        why: String::new(),
        rule,
        passed_over,
        addresses,
        from,
        changes: Vec::new(),
    };
    explanation.why = why(&explanation);
    explanation.changes = changes(&explanation, snapshot);
    Ok(explanation)
}

/// The path of what begins now and goes to an address.
///
/// # Errors
/// When the tables cannot be read.
pub(super) fn path_of(snapshot: &Snapshot, view: &View, address: IpAddr) -> Result<Path, Error> {
    let facts = Facts::new(snapshot, view);
    Ok(facts.address(address, Vec::new(), 0)?.path)
}

struct Facts<'a> {
    snapshot: &'a Snapshot,
    view: &'a View,
    ways: Ways,
    now: u64,
}

impl<'a> Facts<'a> {
    fn new(snapshot: &'a Snapshot, view: &'a View) -> Self {
        Self {
            snapshot,
            view,
            ways: Ways::new(snapshot, view.config()),
            now: monotonic(),
        }
    }

    /// The rule in force for a name, and those that it goes before.
    fn rules_for(&self, name: &str) -> Result<(Option<RuleFact>, Vec<RuleFact>), Error> {
        let rulebook = &self.snapshot.rulebook;
        let table = self.view.rules()?;
        let mut facts: Vec<RuleFact> = Vec::new();
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
                facts.push(match found {
                    Some((subject, judgement)) => RuleFact::new(subject, judgement),
                    None => RuleFact {
                        rule: suffix.to_owned(),
                        ..RuleFact::of(rulebook, hash, matched.verdict)
                    },
                });
            }
        }
        // Words are looked for by a run that goes on alone.
        if facts.is_empty()
            && self.snapshot.run.is_some()
            && let Some(judgement) = rulebook.rules().decide(name)
            && let By::Text(text) = judgement.by
        {
            facts.push(RuleFact::new(&Subject::Text(text.clone()), &judgement));
        }
        let mut facts = facts.into_iter();
        Ok((facts.next(), facts.collect()))
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
                _ => entry.direct_until,
            });
        Ok(AddressFact {
            address,
            path: Path::of(matched.verdict, self.ways, Some(address.is_ipv4())),
            because,
            rule: (matched.verdict != Verdict::NONE)
                .then(|| RuleFact::of(&self.snapshot.rulebook, matched.rule, matched.verdict)),
            expires_in: expires_in.map(|until| seconds(self.now, until)),
            names: names.iter().map(|entry| self.name(entry)).collect(),
            held,
            route: None,
        })
    }

    fn name(&self, entry: &NameEntry) -> NameFact {
        NameFact {
            name: Name::of(entry).to_string(),
            verdict: verdict_name(entry.verdict).to_owned(),
            rule: (entry.verdict != Verdict::NONE)
                .then(|| RuleFact::of(&self.snapshot.rulebook, entry.rule, entry.verdict)),
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
            Path::Vpn | Path::Blocked => config.vpn(config.default).mark,
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
    let decided = it.addresses.first().and_then(|fact| fact.rule.as_ref());
    let rule = |rule: Option<&RuleFact>| match rule {
        Some(rule) => format!(
            "the rule {} ({}) says {}",
            rule.rule, rule.from, rule.verdict
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
        Because::Contested => format!(
            "names of both paths have {subject}, and the VPN wins: {}",
            rule(decided)
        ),
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
    };
    let but = match it.path {
        Path::Blocked => "; the VPN is down, so it is blocked",
        Path::Direct
            if decided
                .or(it.rule.as_ref())
                .is_some_and(|rule| rule.verdict == "vpn")
                && it.because != Because::NotSteered =>
        {
            "; the VPN is down and on_down is \"direct\", so it goes direct"
        }
        _ => "",
    };
    format!("{reason}{but}")
}

fn changes(it: &Explanation, snapshot: &Snapshot) -> Vec<String> {
    let about = &it.about;
    let mut changes = Vec::new();
    if it.path == Path::Blocked {
        changes.push(match &snapshot.vpn {
            Some(vpn) => format!("bring {} up, or set on_down = \"direct\"", vpn.name),
            None => "start the VPN, or set on_down = \"direct\"".to_owned(),
        });
    }
    match it.because {
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
                zero: 0,
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
            (None, entry(100, 100), true, Because::Expired, 0),
            (Some(net), entry(101, 0), true, Because::Network, 3),
        ] {
            let (found, matched) = judge(&address, net, entry, names, NOW);
            assert_eq!((found, matched.rule), (because, rule));
        }
        let (found, _) = judge(&Address::v4([127, 0, 0, 1]), Some(net), None, false, NOW);
        assert_eq!(found, Because::NeverSteered);
    }
}
