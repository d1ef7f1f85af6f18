//! The nft table `inet steer`, by way of the `nft` program: it masquerades, and keeps the marks ([`keep`]).

use std::{borrow::Cow, env, ffi::OsString, io, process::Stdio};

use nftables::{
    batch::Batch,
    expr::{BinaryOperation, Expression, Meta, MetaKey, NamedExpression},
    schema::{Chain, NfListObject, NfObject, Nftables, Rule, Table},
    stmt::{Match, Operator, Statement},
    types::{NfChainType, NfFamily, NfHook},
};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    Change, Error, keep,
    plan::{Mark, Nat},
};

pub(super) const TABLE: &str = "steer";
const CHAIN: &str = "postrouting";
/// `srcnat`, where Docker and everybody else masquerades: the first to translate a connection has it.
const PRIORITY: i32 = 100;
/// On the rule that masquerades: what tells our table from another that has its name.
const COMMENT: &str = "steer: what takes the VPN gets the address of the VPN";
/// On the others, which nft lists otherwise than they were made. Counts on when they change.
const KEEPS: &str = "steer: keeps its marks, 1";

/// The table `inet steer` as it is: `None` when there is none, and whose it is otherwise.
pub(super) async fn observe() -> Result<Option<Owner>, Error> {
    match nft(&["--json", "list", "table", "inet", TABLE], "").await {
        Ok(json) => Ok(Some(owner(&json))),
        Err(Failure::Refused(message)) if message.contains("No such file or directory") => Ok(None),
        Err(failure) => Err(failure.of(format!("nft list table inet {TABLE}"))),
    }
}

/// Replaces the table in one transaction, or deletes it.
pub(super) async fn set(change: &Change, new: Option<&Nat>) -> Result<(), Error> {
    let ruleset = serde_json::to_string(&render(new)).map_err(|error| Error::Nft {
        command: change.to_string(),
        message: error.to_string(),
    })?;
    match nft(&["--json", "--file", "-"], &ruleset).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.of(change.to_string())),
    }
}

/// Why `nft` did not do what it was to do.
enum Failure {
    NotStarted(io::Error),
    Refused(String),
}

impl Failure {
    fn of(self, command: String) -> Error {
        match self {
            Self::NotStarted(error) if error.kind() == io::ErrorKind::NotFound => Error::NftMissing,
            Self::NotStarted(error) => Error::Nft {
                command,
                message: error.to_string(),
            },
            Self::Refused(message) if message.contains("Operation not permitted") => {
                Error::Permission { command }
            }
            Self::Refused(message) => Error::Nft { command, message },
        }
    }
}

/// Runs `nft`. The helpers of the nftables crate leave its standard error to ours, and so lose what it says.
async fn nft(arguments: &[&str], input: &str) -> Result<String, Failure> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        // A Ctrl-C in the terminal ends steer, which then needs nft to put the host back.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::NotStarted)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without having read: then it says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(Failure::NotStarted)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The first line has the cause; those after it quote the input.
    let cause = said
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it gave no reason");
    Err(Failure::Refused(cause.trim().to_owned()))
}

/// Whose the table `inet steer` is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Ours, and what it does.
    Steer(Nat),
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
    let commented = rules.iter().any(|rule| rule["comment"] == COMMENT);
    if !(commented || rules.is_empty() && flushed) {
        return Owner::Other("it lacks the rule with steer's comment".into());
    }
    let nat = match serde_json::from_str::<Nftables<'_>>(json) {
        Ok(listed) => parse(&listed.objects),
        Err(_) => None,
    };
    nat.map_or(Owner::SteerChanged, Owner::Steer)
}

/// `su` without `-` and some service managers leave out the folders that nft is in.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn render(nat: Option<&Nat>) -> Nftables<'static> {
    let table = || {
        NfListObject::Table(Table {
            family: NfFamily::INet,
            name: TABLE.into(),
            handle: None,
        })
    };
    let mut batch = Batch::new();
    // Added first, so that deleting it cannot fail for want of it.
    batch.add(table());
    batch.delete(table());
    if let Some(nat) = nat {
        batch.add(table());
        for chain in chains() {
            batch.add(NfListObject::Chain(chain));
        }
        batch.add(rule(CHAIN, expression(nat), COMMENT));
        for (chain, expression) in keep::rules(nat.mark) {
            batch.add(rule(chain, expression, KEEPS));
        }
    }
    batch.to_nftables()
}

fn rule(
    chain: &'static str,
    expression: Vec<Statement<'static>>,
    comment: &'static str,
) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: expression.into(),
        comment: Some(comment.into()),
        ..Rule::default()
    })
}

fn chains() -> impl Iterator<Item = Chain<'static>> {
    [chain()].into_iter().chain(keep::chains(TABLE))
}

fn chain() -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: CHAIN.into(),
        _type: Some(NfChainType::NAT),
        hook: Some(NfHook::Postrouting),
        prio: Some(PRIORITY),
        ..Chain::default()
    }
}

/// `meta mark and MASK == VALUE oifname "VPN" masquerade`
fn expression(nat: &Nat) -> Vec<Statement<'static>> {
    let meta = |key| Expression::Named(NamedExpression::Meta(Meta { key }));
    let equal = |left, right| {
        Statement::Match(Match {
            left,
            right,
            op: Operator::EQ,
        })
    };
    let mark = match nat.mark.mask() {
        u32::MAX => meta(MetaKey::Mark),
        mask => Expression::BinaryOperation(Box::new(BinaryOperation::AND(
            meta(MetaKey::Mark),
            Expression::Number(mask),
        ))),
    };
    vec![
        equal(mark, Expression::Number(nat.mark.value())),
        equal(
            meta(MetaKey::Oifname),
            Expression::String(Cow::Owned(nat.interface.clone())),
        ),
        Statement::Masquerade(None),
    ]
}

/// The inverse of [`render`]: of the rule that masquerades exactly, of the others by their chain and comment.
fn parse(objects: &[NfObject<'_>]) -> Option<Nat> {
    let mut missing: Vec<_> = chains().collect();
    let mut kept = Vec::new();
    let mut nat = None;
    for object in objects {
        match object {
            NfObject::ListObject(NfListObject::Chain(found)) => {
                let found = Chain {
                    handle: None,
                    policy: None,
                    ..found.clone()
                };
                let at = missing.iter().position(|chain| *chain == found)?;
                missing.swap_remove(at);
            }
            NfObject::ListObject(NfListObject::Rule(rule))
                if rule.comment.as_deref() == Some(KEEPS) =>
            {
                kept.push(rule.chain.as_ref());
            }
            NfObject::ListObject(NfListObject::Rule(rule)) => {
                let parsed = parse_rule(&rule.expr)?;
                if nat.replace(parsed).is_some() {
                    return None;
                }
            }
            NfObject::ListObject(NfListObject::Table(_) | NfListObject::MetainfoObject(_)) => {}
            _ => return None,
        }
    }
    let is_whole = |nat: &Nat| keep::rules(nat.mark).map(|(chain, _)| chain).eq(kept);
    nat.filter(|nat| missing.is_empty() && is_whole(nat))
}

fn parse_rule(expr: &[Statement<'_>]) -> Option<Nat> {
    let [
        Statement::Match(mark),
        Statement::Match(interface),
        Statement::Masquerade(None),
    ] = expr
    else {
        return None;
    };
    let mask = match &mark.left {
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::AND(_, Expression::Number(mask)) => *mask,
            _ => return None,
        },
        _ => u32::MAX,
    };
    let (Expression::Number(value), Expression::String(name)) = (&mark.right, &interface.right)
    else {
        return None;
    };
    let nat = Nat {
        interface: name.to_string(),
        mark: Mark::new(*value, mask).ok()?,
    };
    // Operators and keys are compared by making the rule anew.
    (expression(&nat) == expr).then_some(nat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(mark: Mark) -> Nat {
        Nat {
            interface: "wg0".into(),
            mark,
        }
    }

    /// As nft 1.0.6 lists what [`render`] makes, with a rule that masquerades what has that `mark`.
    fn listing(mark: &str, comment: &str) -> String {
        let chains = chains().map(|chain| {
            let mut object = serde_json::to_value(NfListObject::Chain(chain)).unwrap();
            object["chain"]["policy"] = "accept".into();
            object.to_string()
        });
        let of = if mark == MASKED {
            Mark::DEFAULT
        } else {
            whole()
        };
        let kept = keep::rules(of).map(|(chain, _)| {
            format!(
                r#"{{"rule": {{"family": "inet", "table": "steer", "chain": "{chain}", "comment": "{KEEPS}", "expr": []}}}}"#
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
            kept.collect::<Vec<_>>().join(",")
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
            Owner::Steer(nat(Mark::DEFAULT))
        );
        assert_eq!(
            owner(&listing(r#"{"meta": {"key": "mark"}}"#, COMMENT)),
            Owner::Steer(nat(whole()))
        );
    }

    #[test]
    fn a_chain_or_a_rule_that_is_missing_is_ours_to_replace() {
        let all = listing(MASKED, COMMENT);
        for part in ["restore-out", KEEPS] {
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
        let error = missing.of("nft".into()).to_string();
        assert!(error.contains("install the package nftables"), "{error}");
    }

    #[test]
    fn a_rule_without_the_comment_is_foreign() {
        assert!(matches!(owner(&listing(MASKED, "mine")), Owner::Other(_)));
        let empty =
            r#"{"nftables": [{"table": {"family": "inet", "name": "steer", "handle": 1}}]}"#;
        assert!(matches!(owner(empty), Owner::Other(_)));
    }
}
