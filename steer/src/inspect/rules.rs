//! The rules in force.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RuleFact, Snapshot};
use crate::rules::{Domain, Subject, UnknownVerdict, Verdict};

/// The answer to `steer rules list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Domains, ranges and words with a rule, those of lists too.
    pub count: usize,
    /// Those of the file, of flags, of presets and those added while steer runs; those of lists too if they were asked for.
    pub rules: Vec<RuleFact>,
    /// What each list came to.
    pub lists: Vec<Value>,
}

/// What a user wants to see of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Those of lists too.
    #[serde(default)]
    pub all: bool,
    /// Only those with this verdict: `vpn`, `direct` or `block`.
    pub verdict: Option<String>,
    /// Only those in which this text is found.
    pub find: Option<String>,
}

/// Lists the rules.
pub fn list(snapshot: &Snapshot, wanted: &Wanted) -> Rules {
    let set = snapshot.rulebook.rules();
    let is_wanted = |fact: &RuleFact| {
        wanted.verdict.as_ref().is_none_or(|it| *it == fact.verdict)
            && wanted
                .find
                .as_ref()
                .is_none_or(|it| fact.rule.contains(it.as_str()))
    };
    let facts: Box<dyn Iterator<Item = RuleFact>> = if wanted.all {
        let names = set
            .patterns()
            .map(|(it, by)| snapshot.rule_fact(&Subject::Names(it), &by));
        let nets = set
            .nets()
            .map(|(it, by)| snapshot.rule_fact(&Subject::Addresses(it), &by));
        let texts = set
            .texts()
            .map(|(it, by)| snapshot.rule_fact(&Subject::Text(it.clone()), &by));
        Box::new(names.chain(nets).chain(texts))
    } else {
        let own = set.own().into_iter();
        Box::new(own.map(|(subject, by)| snapshot.rule_fact(&subject, &by)))
    };
    Rules {
        count: set.count(),
        rules: facts.filter(is_wanted).collect(),
        lists: snapshot
            .settings
            .lists
            .iter()
            .map(crate::config::list_json)
            .collect(),
    }
}

/// The answer to `steer rules test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The name or address.
    pub about: String,
    /// `vpn`, `direct`, `block`, or `none` where no rule speaks of it.
    pub verdict: String,
    /// The rule that says so.
    pub rule: Option<RuleFact>,
    /// Less specific ones that speak of it too.
    pub passed_over: Vec<RuleFact>,
}

/// What the rules say of a name or an address, whatever was learned.
///
/// # Errors
/// When it is neither.
pub fn test(snapshot: &Snapshot, about: &str) -> Result<Tested, String> {
    let set = snapshot.rulebook.rules();
    let mut facts = Vec::new();
    if let Ok(address) = about.parse() {
        if let Some(judgement) = set.decide_address(address)
            && let crate::rules::By::Net(net) = judgement.by
        {
            facts.push(snapshot.rule_fact(&Subject::Addresses(net), &judgement));
        }
    } else {
        let name: Domain = about
            .parse()
            .map_err(|error: crate::rules::PatternError| error.to_string())?;
        for (suffix, whole) in super::explain::suffixes(name.as_str()) {
            let at = set.at(suffix);
            let at = at.filter(|(pattern, _)| pattern.scope.covers(whole));
            facts.extend(at.map(|(it, by)| snapshot.rule_fact(&Subject::Names(it), &by)));
        }
        if facts.is_empty()
            && let Some(judgement) = set.decide(name.as_str())
            && let crate::rules::By::Text(text) = judgement.by
        {
            facts.push(snapshot.rule_fact(&Subject::Text(text.clone()), &judgement));
        }
    }
    let mut facts = facts.into_iter();
    let rule = facts.next();
    Ok(Tested {
        about: about.to_owned(),
        verdict: rule
            .as_ref()
            .map_or("none", |rule| rule.verdict.as_str())
            .to_owned(),
        rule,
        passed_over: facts.collect(),
    })
}

/// A rule to be added while steer runs, or taken away again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// As a user writes it.
    pub rule: String,
    /// Its path; none to take away a rule that was added.
    pub verdict: Option<String>,
    /// The VPN by its name, if the rule is to say which.
    #[serde(default)]
    pub vpn: Option<String>,
    /// For how long, in seconds; none until steer ends.
    pub seconds: Option<u64>,
}

impl Change {
    /// The verdict.
    ///
    /// # Errors
    /// When it is none.
    pub fn verdict(&self) -> Result<Option<Verdict>, String> {
        let verdict = self.verdict.as_ref().map(|verdict| {
            let parsed: Result<Verdict, UnknownVerdict> = verdict.parse();
            parsed.map_err(|_| format!("\"{verdict}\" is no path; write vpn, direct or block"))
        });
        verdict.transpose()
    }
}
