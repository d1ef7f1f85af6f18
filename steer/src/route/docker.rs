//! What Docker's firewall is told to let through: rules of iptables, in the chain that Docker keeps for its user's own.
//!
//! Docker drops what comes to a container's port that is not published: its `FORWARD` has the policy `DROP`, and Docker 28 drops before that.
//! No table of nft can overrule this. So what is forwarded to a container is accepted in `DOCKER-USER`, which is asked before all of
//! Docker's own rules, and which dockerd leaves alone once it has made it. Docker 20.10 makes none for IPv6; there it is `FORWARD` itself.
//!
//! Answers are accepted as well: those from a network without a way out (`--internal`) Docker drops.
//!
//! The `iptables` program is asked, for what nft adds to its tables it cannot list; the one of nft (`iptables-nft`) and,
//! where its tables are in use, the one of the older kind (`iptables-legacy`), for packets pass both.

use std::{fs, iter};

use super::{
    Change, Error,
    plan::Family,
    ports::Forward,
    program::{self, Failure},
};

/// The chain of the user.
pub(super) const USERS: &str = "DOCKER-USER";
const FORWARD: &str = "FORWARD";
/// Who has it and not [`USERS`] is Docker 20.10, of IPv6.
const DOCKERS: &str = "DOCKER";
/// How [`FORWARD`] is listed that drops what none of its rules accepts.
const DROPS: &str = "-P FORWARD DROP";
/// What our comments begin with.
const SIGNATURE: &str = "steer: ";

/// What Docker's firewall is to let through: the packets of a forwarded port in one direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// The port.
    pub forward: Forward,
    /// Name of the VPN's interface.
    pub vpn: String,
    /// Whether it is the answers that are let through.
    pub answers: bool,
}

impl Opening {
    pub(super) fn both(forward: &Forward, vpn: &str) -> [Self; 2] {
        [false, true].map(|answers| Self {
            forward: forward.clone(),
            vpn: vpn.to_owned(),
            answers,
        })
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.forward.to)
    }

    /// What the rule is known by. It has in it all that the rule has.
    fn comment(&self) -> String {
        let Forward {
            protocol,
            port,
            to,
            to_port,
            bridge,
            vpn: _,
        } = &self.forward;
        let (vpn, what) = (&self.vpn, if self.answers { "answers of " } else { "" });
        format!(
            "{SIGNATURE}{what}{protocol} port {port} of {vpn} to {to} port {to_port} by {bridge}"
        )
    }

    /// The rule, as the arguments of `iptables` after the name of its chain. Of all packets between the two interfaces only
    /// those whose connection was translated, and came to that port before.
    fn rule(&self) -> Vec<String> {
        let Forward {
            protocol,
            port,
            to,
            to_port,
            bridge,
            vpn: _,
        } = &self.forward;
        let (from, by, which, at, direction) = if self.answers {
            (bridge, &self.vpn, "-s", "--sport", "REPLY")
        } else {
            (&self.vpn, bridge, "-d", "--dport", "ORIGINAL")
        };
        let (protocol, port, to) = (protocol.name(), port.to_string(), to.to_string());
        let (to_port, comment) = (to_port.to_string(), self.comment());
        [
            &["-i", from, "-o", by, which, &to][..],
            &["-p", protocol, "-m", protocol, at, &to_port],
            &["-m", "conntrack", "--ctstate", "DNAT"],
            &["--ctorigdstport", &port, "--ctdir", direction],
            &["-m", "comment", "--comment", &comment, "-j", "ACCEPT"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }
}

/// The firewall of a family, of a kind of iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The program that lists and changes it.
    pub program: &'static str,
    /// The family.
    pub family: Family,
    /// The chain in which to let through; `None` where Docker has no firewall.
    pub chain: Option<&'static str>,
    /// Whether it drops what nothing in it lets through.
    pub drops: bool,
    /// The rules of steer's.
    pub rules: Vec<Listed>,
}

/// A rule of steer's in a chain that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The chain.
    pub chain: &'static str,
    /// The rule, as the arguments of `iptables` after that.
    pub rule: Vec<String>,
}

impl Listed {
    fn comment(&self) -> Option<&str> {
        let mut rest = self.rule.iter().skip_while(|word| *word != "--comment");
        rest.nth(1).map(String::as_str)
    }
}

impl Gate {
    /// The steps to what is to be let through: first those that add.
    pub(super) fn changes<'a>(
        &self,
        openings: impl Iterator<Item = &'a Opening>,
    ) -> (Vec<Change>, Vec<Change>) {
        let program = self.program;
        let mut spare: Vec<_> = self.rules.iter().collect();
        let mut opens = Vec::new();
        if let Some(chain) = self.chain {
            for opening in openings.filter(|opening| opening.family() == self.family) {
                let comment = opening.comment();
                let is_it =
                    |listed: &&Listed| listed.chain == chain && listed.comment() == Some(&comment);
                match spare.iter().position(is_it) {
                    Some(at) => drop(spare.remove(at)),
                    None => opens.push(Change::Open {
                        program,
                        chain,
                        rule: opening.rule(),
                    }),
                }
            }
        }
        let close = |listed: &Listed| Change::Close {
            program,
            chain: listed.chain,
            rule: listed.rule.clone(),
        };
        (opens, spare.into_iter().map(close).collect())
    }
}

/// The firewalls of this host in which there is something of Docker's or of steer's, and why others are not known.
pub(super) async fn gates() -> (Vec<Gate>, Vec<Error>) {
    let (mut gates, errors) = firewalls().await;
    gates.retain(|gate| gate.chain.is_some() || !gate.rules.is_empty());
    (gates, errors)
}

/// All firewalls of iptables.
pub(super) async fn firewalls() -> (Vec<Gate>, Vec<Error>) {
    let (mut gates, mut errors) = (Vec::new(), Vec::new());
    for family in super::guard::families() {
        let programs = match programs(family).await {
            Ok(programs) => programs,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for program in programs {
            let mut listed = run(program, &["-S"]).await;
            // One rule in any chain that nft has made keeps the table from being listed, but not the chain.
            if listed.is_err()
                && let Ok(users) = run(program, &["-S", USERS]).await
            {
                listed = Ok(users);
            }
            match listed {
                Ok(listed) => gates.push(read(program, family, &listed)),
                Err(failure) => errors.push(failure.of_iptables(format!("{program} -S"))),
            }
        }
    }
    (gates, errors)
}

/// Lets through. `chain` may have gone meanwhile.
pub(super) async fn open(
    change: &Change,
    program: &str,
    chain: &str,
    rule: &[String],
) -> Result<(), Error> {
    edit(program, "-I", chain, rule)
        .await
        .map_err(|failure| failure.of_iptables(change.to_string()))
}

/// Lets through no longer.
pub(super) async fn close(
    change: &Change,
    program: &str,
    chain: &str,
    rule: &[String],
) -> Result<(), Error> {
    match edit(program, "-D", chain, rule).await {
        Err(Failure::Refused(message)) if is_of_what_is_gone(&message) => Ok(()),
        result => result.map_err(|failure| failure.of_iptables(change.to_string())),
    }
}

/// As both kinds say it.
fn is_of_what_is_gone(message: &str) -> bool {
    ["does a matching rule exist", "No chain/target/match"]
        .iter()
        .any(|part| message.contains(part))
}

async fn edit(program: &str, how: &str, chain: &str, rule: &[String]) -> Result<(), Failure> {
    let rule = rule.iter().map(String::as_str);
    let arguments: Vec<_> = [how, chain].into_iter().chain(rule).collect();
    run(program, &arguments).await.map(drop)
}

/// Waits for others who are at it.
async fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let arguments = iter::once("-w").chain(arguments.iter().copied());
    program::run(program, arguments, "").await
}

/// The programs to ask, of those that are there. The older kind makes its tables when it is asked for them, so it is only
/// where they are there already.
async fn programs(family: Family) -> Result<Vec<&'static str>, Error> {
    let (plain, of_nft, legacy, tables) = match family {
        Family::V4 => (
            "iptables",
            "iptables-nft",
            "iptables-legacy",
            "ip_tables_names",
        ),
        Family::V6 => (
            "ip6tables",
            "ip6tables-nft",
            "ip6tables-legacy",
            "ip6_tables_names",
        ),
    };
    let tables = fs::read_to_string(format!("/proc/thread-self/net/{tables}"));
    let has_legacy = tables.is_ok_and(|tables| tables.lines().any(|table| table == "filter"));
    let is_there = async |program: &str| -> Result<Option<String>, Error> {
        match program::run(program, ["--version"], "").await {
            Ok(version) => Ok(Some(version)),
            Err(failure) if failure.is_of_a_missing_program() => Ok(None),
            Err(failure) => Err(failure.of_iptables(format!("{program} --version"))),
        }
    };
    let mut programs = Vec::new();
    if is_there(of_nft).await?.is_some() {
        programs.push(of_nft);
    } else if let Some(version) = is_there(plain).await?
        && (has_legacy || version.contains("nf_tables"))
    {
        programs.push(plain);
    }
    if has_legacy && is_there(legacy).await?.is_some() {
        programs.push(legacy);
    }
    Ok(programs)
}

/// Reads what `iptables -S` lists.
fn read(program: &'static str, family: Family, listed: &str) -> Gate {
    let mut rules = Vec::new();
    let has = |chain: &str| {
        listed
            .lines()
            .any(|line| line.strip_prefix("-N ") == Some(chain))
    };
    for line in listed.lines() {
        let words = words(line);
        let [add, chain, rule @ ..] = &words[..] else {
            continue;
        };
        let known = [USERS, FORWARD].into_iter().find(|known| chain == known);
        let Some(chain) = known.filter(|_| add == "-A") else {
            continue;
        };
        let rule = Listed {
            chain,
            rule: rule.to_vec(),
        };
        if rule.comment().is_some_and(|it| it.starts_with(SIGNATURE)) {
            rules.push(rule);
        }
    }
    let chain = if has(USERS) {
        Some(USERS)
    } else {
        has(DOCKERS).then_some(FORWARD)
    };
    Gate {
        program,
        family,
        chain,
        drops: listed.lines().any(|line| line == DROPS),
        rules,
    }
}

/// The words of a line, where what has spaces in it stands in quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' if !quoted => words.extend(word.take()),
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Whether a word is to be quoted for a shell.
pub(super) fn shown(words: &[String]) -> String {
    let shown = words.iter().map(|word| {
        if word.contains(' ') {
            format!("\"{word}\"")
        } else {
            word.clone()
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Protocol;

    fn forward(to: &str) -> Forward {
        Forward {
            protocol: Protocol::Tcp,
            port: 8080,
            to: to.parse().unwrap(),
            to_port: 80,
            bridge: "br-0643904d72d9".into(),
            vpn: crate::route::VpnId::default(),
        }
    }

    /// As iptables 1.8.9 lists what Docker 20.10 made and steer, of both kinds.
    const LISTED: &str = r#"-P INPUT ACCEPT
-P FORWARD DROP
-N DOCKER
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-USER -s 172.18.0.2/32 -i br-0643904d72d9 -o wg0 -p tcp -m tcp --sport 80 -m conntrack --ctstate DNAT --ctorigdstport 8080 --ctdir REPLY -m comment --comment "steer: answers of tcp port 8080 of wg0 to 172.18.0.2 port 80 by br-0643904d72d9" -j ACCEPT
-A DOCKER-USER -d 172.18.0.2/32 -i wg0 -o br-0643904d72d9 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT --ctorigdstport 8080 --ctdir ORIGINAL -m comment --comment "steer: tcp port 8080 of wg0 to 172.18.0.2 port 80 by br-0643904d72d9" -j ACCEPT
-A DOCKER-USER -s 10.0.0.0/8 -m comment --comment "mine: \"no\"" -j DROP
-A DOCKER-USER -j RETURN
"#;

    fn all(changes: (Vec<Change>, Vec<Change>)) -> Vec<String> {
        let (opens, closes) = changes;
        opens
            .iter()
            .chain(&closes)
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_is_there_is_left_and_the_rest_is_made_or_taken_away() {
        let gate = read("iptables", Family::V4, LISTED);
        assert_eq!(gate.chain, Some(USERS));
        assert_eq!(gate.rules.len(), 2);
        let wanted = Opening::both(&forward("172.18.0.2"), "wg0");
        assert_eq!(gate.changes(wanted.iter()), (vec![], vec![]));
        let other = Opening::both(&forward("172.18.0.3"), "wg0");
        assert_eq!(
            all(gate.changes(other[..1].iter())),
            [
                "iptables -I DOCKER-USER -i wg0 -o br-0643904d72d9 -d 172.18.0.3 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT --ctorigdstport 8080 --ctdir ORIGINAL -m comment --comment \"steer: tcp port 8080 of wg0 to 172.18.0.3 port 80 by br-0643904d72d9\" -j ACCEPT",
                "iptables -D DOCKER-USER -s 172.18.0.2/32 -i br-0643904d72d9 -o wg0 -p tcp -m tcp --sport 80 -m conntrack --ctstate DNAT --ctorigdstport 8080 --ctdir REPLY -m comment --comment \"steer: answers of tcp port 8080 of wg0 to 172.18.0.2 port 80 by br-0643904d72d9\" -j ACCEPT",
                "iptables -D DOCKER-USER -d 172.18.0.2/32 -i wg0 -o br-0643904d72d9 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT --ctorigdstport 8080 --ctdir ORIGINAL -m comment --comment \"steer: tcp port 8080 of wg0 to 172.18.0.2 port 80 by br-0643904d72d9\" -j ACCEPT",
            ]
        );
    }

    #[test]
    fn without_a_chain_for_users_dockers_own_firewall_is_told() {
        let without = LISTED.replace("-N DOCKER-USER\n", "");
        let gate = read("ip6tables", Family::V6, &without);
        assert_eq!(gate.chain, Some(FORWARD));
        let wanted = Opening::both(&forward("fd00::2"), "wg0");
        let changes = all(gate.changes(wanted.iter()));
        assert!(
            changes[0].starts_with("ip6tables -I FORWARD -i wg0"),
            "{changes:?}"
        );
        assert_eq!(changes.len(), 4, "those in another chain go: {changes:?}");
        let of_another_family = Opening::both(&forward("172.18.0.2"), "wg0");
        assert_eq!(gate.changes(of_another_family.iter()).0, []);

        let none = read("iptables", Family::V4, "-P INPUT ACCEPT\n-P FORWARD DROP\n");
        assert_eq!((none.chain, none.rules), (None, vec![]));
    }

    #[test]
    fn a_rule_that_is_there_twice_is_taken_away_once() {
        let (_, last) = LISTED.split_once("RETURN").unwrap();
        let twice = LISTED
            .lines()
            .filter(|line| line.contains("steer: tcp"))
            .collect::<String>();
        let gate = read("iptables", Family::V4, &format!("{LISTED}{twice}{last}"));
        let wanted = Opening::both(&forward("172.18.0.2"), "wg0");
        let (opens, closes) = gate.changes(wanted.iter());
        assert_eq!((opens.len(), closes.len()), (0, 1));
    }

    #[test]
    fn words_are_read_as_iptables_writes_them() {
        assert_eq!(
            words(r#"-A  x --comment "a \"b\" \\" -j "" y"#),
            ["-A", "x", "--comment", r#"a "b" \"#, "-j", "", "y"]
        );
    }
}
