//! The nft table `inet steer`, by way of the `nft` program: it masquerades, keeps the marks
//! ([`keep`]), has new bridges wait and segments fit ([`forward`]), sends questions of DNS elsewhere ([`dns`]) and what comes
//! by the VPN to containers ([`ports`](super::ports)).

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    Change, Error, dns,
    expression::{and, compared, meta, named, of_interface},
    forward, keep,
    plan::{IfIndex, Mark, NftTable},
    ports::Forward,
    program::{self, Failure},
    record,
};
use steer_common::types;

use nftables::{
    batch::Batch,
    expr::{Expression, MetaKey},
    schema::{Chain, NfListObject, NfObject, Nftables, Rule, Table},
    stmt::{Operator, Statement},
    types::{NfChainType, NfFamily, NfHook},
};

pub(super) const TABLE: &str = "steer";
const CHAIN: &str = "postrouting";
/// `srcnat`, where Docker and everybody else masquerades: the first to translate a connection has it.
const PRIORITY: i32 = 100;
/// What our comments begin with, which tells our table from another that has its name.
const SIGNATURE: &str = "steer: ";
/// On the rule that masquerades.
const COMMENT: &str = "steer: what takes the VPN gets the address of the VPN";
/// What the comment of the others begins with, before mark, mask, the newest interface and how many VPNs there are. Counts on when they change.
const OTHERS: &str = "steer: rules 6 for ";

/// The table `inet steer` as it is: `None` when there is none, and whose it is otherwise.
pub(super) async fn observe() -> Result<Option<Owner>, Error> {
    match nft(&["--json", "list", "table", "inet", TABLE], "").await {
        Ok(json) => Ok(Some(owner(&json))),
        Err(Failure::Refused(message)) if message.contains("No such file or directory") => Ok(None),
        Err(failure) => Err(failure.of_nft(format!("nft list table inet {TABLE}"))),
    }
}

/// Replaces the table in one transaction, or deletes it.
pub(super) async fn set(change: &Change, new: Option<&NftTable>) -> Result<(), Error> {
    let ruleset = serde_json::to_string(&render(new)).map_err(|error| Error::Nft {
        command: change.to_string(),
        message: error.to_string(),
    })?;
    match nft(&["--json", "--file", "-"], &ruleset).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.of_nft(change.to_string())),
    }
}

async fn nft(arguments: &[&str], input: &str) -> Result<String, Failure> {
    program::run("nft", arguments, input).await
}

/// Whose the table `inet steer` is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Ours, and what it does.
    Steer(NftTable),
    /// Ours, but changed since, by a rule added to it, for example: to be replaced or deleted as a whole.
    SteerChanged,
    /// Somebody else's, and what tells.
    Other(String),
}

fn owner(json: &str) -> Owner {
    let value: serde_json::Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => return Owner::Other(format!("nft prints it as invalid JSON ({error})")),
    };
    let objects: Vec<_> = value["nftables"].as_array().into_iter().flatten().collect();
    let rules: Vec<_> = objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .collect();
    // `nft flush table` leaves the chain.
    let flushed = objects
        .iter()
        .any(|object| object["chain"]["name"] == CHAIN);
    let is_ours = |rule: &&&serde_json::Value| {
        let comment = rule["comment"].as_str();
        comment.is_some_and(|it| it.starts_with(SIGNATURE))
    };
    if !(rules.iter().any(|rule| is_ours(&rule)) || rules.is_empty() && flushed) {
        return Owner::Other("it lacks the rules with steer's comments".into());
    }
    let table = match serde_json::from_str::<Nftables<'_>>(json) {
        Ok(listed) => parse(&listed.objects),
        Err(_) => None,
    };
    table.map_or(Owner::SteerChanged, Owner::Steer)
}

fn render(table: Option<&NftTable>) -> Nftables<'static> {
    let ours = || {
        NfListObject::Table(Table {
            family: NfFamily::INet,
            name: TABLE.into(),
            handle: None,
        })
    };
    let mut batch = Batch::new();
    // Added first, so that deleting it cannot fail for want of it.
    batch.add(ours());
    batch.delete(ours());
    if let Some(table) = table {
        batch.add(ours());
        for chain in chains(table) {
            batch.add(NfListObject::Chain(chain));
        }
        for (mark, interface) in table.tunnels() {
            batch.add(rule(CHAIN, masquerade(mark, interface), COMMENT.into()));
        }
        for (chain, expression) in others(table) {
            batch.add(rule(chain, expression, comment(table).into()));
        }
        for comment in record::comments(table) {
            let nothing = vec![Statement::Return(None)];
            batch.add(rule(record::CHAIN, nothing, comment.into()));
        }
    }
    batch.to_nftables()
}

/// The rules that nft lists otherwise than they were made.
fn others(
    table: &NftTable,
) -> impl Iterator<Item = (Cow<'static, str>, Vec<Statement<'static>>)> + use<> {
    let forwards = table.forwards.iter().filter_map(|forward: &Forward| {
        let vpn = table.interfaces.get(forward.vpn.0)?.as_ref()?;
        Some((dns::TRANSLATE.into(), forward.rule(vpn)))
    });
    let forwards: Vec<_> = forwards.collect();
    let dns = dns::rules(table).into_iter();
    keep::rules(table)
        .chain(forward::rules(table))
        .map(|(chain, rule)| (chain.into(), rule))
        .chain(dns.map(|(chain, rule)| (chain.into(), rule)))
        .chain(forwards)
}

/// On those rules: what they were made of.
fn comment(table: &NftTable) -> String {
    let (mark, newest, vpns) = (table.mark, table.newest, table.interfaces.len());
    let (value, mask) = (mark.value(), mark.mask());
    format!("{OTHERS}{value:#x} {mask:#x} {newest} {vpns}")
}

/// The inverse of [`comment`], without the interfaces and the lists.
fn commented(comment: &str) -> Option<NftTable> {
    let mut numbers = comment.strip_prefix(OTHERS)?.split(' ');
    let mut hex = || u32::from_str_radix(numbers.next()?.strip_prefix("0x")?, 16).ok();
    let mark = Mark::new(hex()?, hex()?).ok()?;
    let newest = IfIndex(numbers.next()?.parse().ok()?);
    let vpns: usize = numbers.next()?.parse().ok()?;
    let table = NftTable {
        interfaces: vec![None; mark.first(vpns.min(types::VPNS)).count()],
        uplinks: BTreeSet::new(),
        mark,
        newest,
        dns: BTreeSet::new(),
        forwards: BTreeSet::new(),
    };
    numbers.next().is_none().then_some(table)
}

fn rule(
    chain: impl Into<Cow<'static, str>>,
    expression: Vec<Statement<'static>>,
    comment: Cow<'static, str>,
) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expression.into(),
        comment: Some(comment),
        ..Rule::default()
    })
}

fn chains(table: &NftTable) -> impl Iterator<Item = Chain<'static>> + use<> {
    let record = (!record::comments(table).is_empty()).then(record);
    [chain(), forward::chain(TABLE)]
        .into_iter()
        .chain(keep::chains(TABLE))
        .chain(dns::chains(TABLE, table))
        .chain(record)
}

fn record() -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: record::CHAIN.into(),
        ..Chain::default()
    }
}

fn chain() -> Chain<'static> {
    Chain {
        _type: Some(NfChainType::NAT),
        hook: Some(NfHook::Postrouting),
        prio: Some(PRIORITY),
        name: CHAIN.into(),
        ..record()
    }
}

/// `meta mark and MASK == VALUE oifname "VPN" masquerade`
fn masquerade(mark: Mark, interface: &str) -> Vec<Statement<'static>> {
    let bits = match mark.mask() {
        u32::MAX => meta(MetaKey::Mark),
        mask => and(meta(MetaKey::Mark), Expression::Number(mask)),
    };
    vec![
        compared(bits, Operator::EQ, Expression::Number(mark.value())),
        of_interface(MetaKey::Oifname, interface),
        Statement::Masquerade(None),
    ]
}

/// The inverse of [`render`]: of the rule that masquerades exactly, of the others by their chain and comment.
fn parse(objects: &[NfObject<'_>]) -> Option<NftTable> {
    let mut chains_there: Vec<Chain<'_>> = Vec::new();
    let mut rules: Vec<&Rule<'_>> = Vec::new();
    for object in objects {
        match object {
            NfObject::ListObject(NfListObject::Chain(found)) => chains_there.push(Chain {
                handle: None,
                policy: None,
                ..found.clone()
            }),
            NfObject::ListObject(NfListObject::Rule(rule)) => rules.push(rule),
            NfObject::ListObject(NfListObject::Table(_) | NfListObject::MetainfoObject(_)) => {}
            _ => return None,
        }
    }
    let mut in_chain = |chain: &str| -> Vec<_> {
        let its = |rule: &mut &Rule<'_>| rule.chain == chain;
        rules.extract_if(.., its).collect()
    };
    let (masquerading, record) = (in_chain(CHAIN), in_chain(record::CHAIN));
    let mut table = commented(rules.first()?.comment.as_deref()?)?;
    let comment = comment(&table);
    if rules
        .iter()
        .any(|rule| rule.comment.as_deref() != Some(&comment))
    {
        return None;
    }
    let lists = record.iter().map(|rule| rule.comment.as_deref());
    (table.dns, table.forwards) = record::read(lists)?;
    for rule in masquerading {
        let name = named(rule.expr.get(1..)?)?;
        let mut marks = table.mark.first(table.interfaces.len());
        let place = marks.position(|mark| masquerade(mark, name) == *rule.expr)?;
        if table.interfaces[place].replace(name.to_owned()).is_some() {
            return None;
        }
    }
    let looked_back = rules.iter().filter(|rule| rule.chain == keep::LOOK_BACK);
    for rule in looked_back {
        let name = named(&rule.expr)?;
        if table.tunnels().all(|(_, interface)| interface != name) {
            table.uplinks.insert(name.to_owned());
        }
    }
    let mut missing: Vec<_> = chains(&table).collect();
    for found in chains_there {
        let at = missing.iter().position(|chain| *chain == found)?;
        missing.swap_remove(at);
    }
    // In what order chains are listed is nft's.
    let mut there: Vec<_> = rules.iter().map(|rule| rule.chain.clone()).collect();
    let mut wanted: Vec<_> = others(&table).map(|(chain, _)| chain).collect();
    there.sort_unstable();
    wanted.sort_unstable();
    (missing.is_empty() && there == wanted).then_some(table)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::route::{DnsRule, Protocol, VpnId};

    fn table(mark: Mark, interface: Option<&str>) -> NftTable {
        NftTable {
            interfaces: vec![interface.map(str::to_owned), None],
            uplinks: BTreeSet::from(["eth0".to_owned()]),
            mark,
            newest: IfIndex(57),
            dns: BTreeSet::new(),
            forwards: BTreeSet::new(),
        }
    }

    /// As nft 1.0.6 lists what [`render`] makes, with a rule that masquerades what has that `mark`.
    fn listing(mark: &str, comment: &str) -> String {
        let of = if mark == MASKED {
            Mark::DEFAULT
        } else {
            whole()
        };
        let of = table(of, Some("wg0"));
        let chains = chains(&of).map(|chain| {
            let mut object = serde_json::to_value(NfListObject::Chain(chain)).unwrap();
            object["chain"]["policy"] = "accept".into();
            object.to_string()
        });
        let others = others(&of).map(|(chain, rule)| {
            let comment = super::comment(&of);
            let first = serde_json::to_string(&rule[0]).unwrap();
            format!(
                r#"{{"rule": {{"family": "inet", "table": "steer", "chain": "{chain}", "comment": "{comment}", "expr": [{first}]}}}}"#
            )
        });
        format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}}},
            {{"table": {{"family": "inet", "name": "steer", "handle": 1}}}},
            {},
            {{"rule": {{"family": "inet", "table": "steer", "chain": "postrouting", "handle": 2, "comment": "{comment}", "expr": [
              {{"match": {{"op": "==", "left": {mark}, "right": 4096}}}},
              {{"match": {{"op": "==", "left": {{"meta": {{"key": "oifname"}}}}, "right": "wg0"}}}},
              {{"masquerade": null}}]}}}},
            {}]}}"#,
            chains.collect::<Vec<_>>().join(","),
            others.collect::<Vec<_>>().join(",")
        )
    }

    fn whole() -> Mark {
        Mark::new(0x1000, u32::MAX).unwrap()
    }

    const MASKED: &str = r#"{"&": [{"meta": {"key": "mark"}}, 12288]}"#;

    #[test]
    fn reads_back_what_it_makes() {
        assert_eq!(
            owner(&listing(MASKED, COMMENT)),
            Owner::Steer(table(Mark::DEFAULT, Some("wg0")))
        );
        assert_eq!(
            owner(&listing(r#"{"meta": {"key": "mark"}}"#, COMMENT)),
            Owner::Steer(table(whole(), Some("wg0")))
        );
    }

    #[test]
    fn reads_back_its_lists_and_misses_none_of_their_rules() {
        let rule = |source: Option<&str>| DnsRule {
            bridge: "docker0".into(),
            source: source.map(|source| source.parse().unwrap()),
            within: vec!["172.17.0.0/16".parse().unwrap()],
            servers: vec!["172.17.0.9".parse().unwrap(), "fd00::53".parse().unwrap()],
            vpn: VpnId(usize::from(source.is_some())),
        };
        let forward = Forward {
            protocol: Protocol::Udp,
            port: 5353,
            to: "172.17.0.2".parse().unwrap(),
            to_port: 53,
            bridge: "docker0".into(),
            vpn: VpnId(1),
        };
        let of = NftTable {
            interfaces: vec![Some("wg0".to_owned()), Some("tun0".to_owned())],
            dns: [rule(None), rule(Some("172.17.0.2")), rule(Some("fd00::2"))].into(),
            forwards: [forward].into(),
            ..table(Mark::DEFAULT, Some("wg0"))
        };
        let added = serde_json::to_value(render(Some(&of))).unwrap();
        let commands = added["nftables"].as_array().unwrap().iter();
        let added = commands.filter_map(|command| command.get("add").cloned());
        let added: Vec<_> = added.collect();
        let listed = |objects: &[serde_json::Value]| {
            owner(&serde_json::json!({ "nftables": objects }).to_string())
        };
        assert_eq!(listed(&added), Owner::Steer(of));
        let is_of_the_table = |at: &usize| added[*at].get("table").is_none();
        for at in (0..added.len()).filter(is_of_the_table) {
            let mut without = added.clone();
            let gone = without.remove(at);
            // Without it there is no VPN, but for it.
            let masquerades = gone["rule"]["chain"] == CHAIN;
            let changed = listed(&without) == Owner::SteerChanged;
            assert!(changed || masquerades, "{gone}");
        }
    }

    #[test]
    fn a_chain_or_a_rule_that_is_missing_is_ours_to_replace() {
        let all = listing(MASKED, COMMENT);
        for part in ["restore-out", OTHERS, "forward"] {
            let without = all.replacen(part, "other", 1);
            assert_eq!(owner(&without), Owner::SteerChanged, "{part}");
        }
    }

    #[test]
    fn a_changed_rule_is_ours_to_replace() {
        let changed = listing(r#"{"&": [{"meta": {"key": "cgroup"}}, 12288]}"#, COMMENT);
        assert_eq!(owner(&changed), Owner::SteerChanged);
    }

    #[test]
    fn a_flushed_table_is_ours_to_replace() {
        let flushed = r#"{"nftables": [{"chain": {"family": "inet", "table": "steer", "name": "postrouting", "handle": 1}}]}"#;
        assert_eq!(owner(flushed), Owner::SteerChanged);
    }

    #[test]
    fn a_missing_nft_names_the_package() {
        let missing = Failure::NotStarted(io::ErrorKind::NotFound.into());
        let error = missing.of_nft("nft".into()).to_string();
        assert!(error.contains("install the package nftables"), "{error}");
    }

    #[test]
    fn a_table_without_the_comments_is_foreign() {
        let theirs = listing(MASKED, COMMENT).replace(SIGNATURE, "mine: ");
        assert!(matches!(owner(&theirs), Owner::Other(_)));
        let empty =
            r#"{"nftables": [{"table": {"family": "inet", "name": "steer", "handle": 1}}]}"#;
        assert!(matches!(owner(empty), Owner::Other(_)));
    }
}
