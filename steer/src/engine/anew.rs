//! What was learned, decided anew by other rules: after a reload, and when a run goes on with what a killed one left.

use std::collections::{HashMap, HashSet};

use aya::maps::MapError;
use steer_common::{
    decide::Match,
    types::{AddrEntry, Address, NameEntry, NameKey, Verdict},
};

use super::{Engine, Error, Rulebook, upkeep::monotonic};
use crate::{datapath::in_map, events::Name};

/// How often the tables are gone through: programs learn into them meanwhile, and the second time finds what of that was
/// lost.
const ROUNDS: usize = 4;
/// `BPF_EXIST`.
pub(super) const THERE: u64 = 2;

/// What became of the addresses that were known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    /// They have another verdict, or by another rule.
    pub anew: usize,
    /// No rule speaks of them any more.
    pub gone: usize,
}

impl Engine {
    /// Gives each known address the verdicts that the rules of now give the names it is known by. Flows that have begun
    /// stay where they are.
    ///
    /// The rules must be in force, so that what the programs learn from now on is by them.
    pub(super) fn decide_anew(&mut self) -> Result<Decided, Error> {
        let mut decided = Decided::default();
        let mut named = HashSet::new();
        for _ in 0..ROUNDS {
            let round = self.decide_round(&mut named, &mut decided)?;
            if !round {
                break;
            }
        }
        Ok(decided)
    }

    /// Says whether something was written, or could not be because a program was writing.
    fn decide_round(
        &mut self,
        named: &mut HashSet<Address>,
        decided: &mut Decided,
    ) -> Result<bool, Error> {
        let now = monotonic();
        // Addresses first: a program writes an address before its name, so every grant seen here has its name there.
        let addresses: Vec<(Address, AddrEntry)> =
            self.datapath.addresses()?.iter().flatten().collect();
        let wanted = self.decide_names(named, now)?;

        let mut again = false;
        let mut table = self.datapath.addresses()?;
        for (address, seen) in addresses {
            let wanted = match wanted.get(&address) {
                Some(wanted) => wanted.beside(&seen),
                None if named.contains(&address) => AddrEntry::default(),
                None => by_rules(&self.rulebook, &seen),
            };
            if alive(&seen, now) == alive(&wanted, now) {
                continue;
            }
            // A program may have written since.
            let current = match table.get(&address, 0) {
                Ok(current) => current,
                Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(in_map("ADDRS")(error).into()),
            };
            if alive(&current, now) == alive(&wanted, now) {
                continue;
            }
            again = true;
            if current != seen {
                continue;
            }
            if wanted.at(now) == Match::default() {
                // Gone already is as good.
                let _ = table.remove(&address);
                decided.gone += 1;
            } else {
                table
                    .insert(address, wanted, THERE)
                    .map_err(in_map("ADDRS"))?;
                decided.anew += usize::from(wanted.at(now) != seen.at(now));
            }
        }
        Ok(again)
    }

    /// Writes into `NAMES` what the rules say now, and sums up what that grants each address.
    fn decide_names(
        &mut self,
        named: &mut HashSet<Address>,
        now: u64,
    ) -> Result<HashMap<Address, Grants>, Error> {
        let mut wanted: HashMap<Address, Grants> = HashMap::new();
        let mut table = self.datapath.names()?;
        let names: Vec<(NameKey, NameEntry)> = table.iter().flatten().collect();
        for (key, entry) in names {
            named.insert(key.address);
            if entry.until <= now {
                continue;
            }
            let Some(matched) = matched(&self.rulebook, &entry) else {
                // Gone already is as good.
                let _ = table.remove(&key);
                continue;
            };
            if (matched.verdict, matched.rule) != (entry.verdict, entry.rule)
                && let Ok(current) = table.get(&key, 0)
            {
                let entry = NameEntry {
                    verdict: matched.verdict,
                    rule: matched.rule,
                    ..current
                };
                // It may have gone, which is as good.
                let _ = table.insert(key, entry, THERE);
            }
            let grants = wanted.entry(key.address).or_default();
            grants.add(&matched, entry.until, now);
        }
        Ok(wanted)
    }
}

/// What the names of an address grant it.
#[derive(Debug, Default)]
struct Grants {
    sum: AddrEntry,
    by: Vec<Match>,
}

impl Grants {
    fn add(&mut self, matched: &Match, until: u64, now: u64) {
        self.sum.learn(matched, until, now);
        self.by.push(*matched);
    }

    /// The sum, by the rules that are written down already where those are among them.
    fn beside(&self, seen: &AddrEntry) -> AddrEntry {
        let holds = |verdict, rule| self.by.contains(&Match { verdict, rule });
        let mut sum = self.sum;
        let is_named = |entry: &AddrEntry| entry.vpn.named().is_vpn();
        if holds(seen.vpn, seen.vpn_rule) && (is_named(seen) || !is_named(&sum)) {
            (sum.vpn, sum.vpn_rule) = (seen.vpn, seen.vpn_rule);
        }
        if holds(Verdict::DIRECT, seen.direct_rule) {
            sum.direct_rule = seen.direct_rule;
        }
        if holds(Verdict::BLOCK, seen.block_rule) {
            sum.block_rule = seen.block_rule;
        }
        sum
    }
}

/// What the rules say of a name now: of the name that was asked for, or else the rule that an alias of it was known by.
fn matched(rules: &Rulebook, entry: &NameEntry) -> Option<Match> {
    let by_name = rules.decide(&Name::of(entry).to_string());
    match by_name {
        Some(ruling) => Some(ruling.into()),
        None => given(rules, entry.rule, entry.verdict).map(|verdict| Match {
            verdict,
            rule: entry.rule,
        }),
    }
}

/// What is left of an address whose names are not known, for there was no room for them.
fn by_rules(rules: &Rulebook, entry: &AddrEntry) -> AddrEntry {
    let until = |until, rule, verdict| match given(rules, rule, verdict) {
        Some(_) => until,
        None => 0,
    };
    AddrEntry {
        vpn: given(rules, entry.vpn_rule, entry.vpn).unwrap_or(entry.vpn),
        vpn_until: until(entry.vpn_until, entry.vpn_rule, entry.vpn),
        direct_until: until(entry.direct_until, entry.direct_rule, Verdict::DIRECT),
        block_until: until(entry.block_until, entry.block_rule, Verdict::BLOCK),
        ..*entry
    }
}

/// The verdict that a domain's rule, known by its hash, gives now where it gave that one; of one for a VPN it may be another VPN.
fn given(rules: &Rulebook, rule: u64, verdict: Verdict) -> Option<Verdict> {
    let entries = rules.entries();
    let place = entries.binary_search_by_key(&rule, |(hash, _)| *hash);
    let (_, entry) = entries[place.ok()?];
    let both = [entry.exact, entry.below];
    let by_vpn = || both.into_iter().find(|it| it.is_vpn());
    match both.contains(&verdict) {
        true => Some(verdict),
        false if verdict.is_vpn() => by_vpn(),
        false => None,
    }
}

/// An entry without what has expired, so that two are compared by what they do.
fn alive(entry: &AddrEntry, now: u64) -> AddrEntry {
    let mut alive = AddrEntry::default();
    if entry.vpn_until > now {
        (alive.vpn_until, alive.vpn_rule) = (entry.vpn_until, entry.vpn_rule);
        alive.vpn = entry.vpn;
    }
    if entry.direct_until > now {
        (alive.direct_until, alive.direct_rule) = (entry.direct_until, entry.direct_rule);
    }
    if entry.block_until > now {
        (alive.block_until, alive.block_rule) = (entry.block_until, entry.block_rule);
    }
    alive
}

#[cfg(test)]
mod tests {
    use steer_common::types::Path;

    use super::*;

    const VPN: Match = Match {
        verdict: Verdict::VPN,
        rule: 1,
    };
    const OTHER: Match = Match {
        verdict: Verdict::VPN,
        rule: 2,
    };
    const DIRECT: Match = Match {
        verdict: Verdict::DIRECT,
        rule: 3,
    };

    const BLOCK: Match = Match {
        verdict: Verdict::BLOCK,
        rule: 6,
    };

    fn grants(names: &[(Match, u64)]) -> Grants {
        let mut grants = Grants::default();
        for (matched, until) in names {
            grants.add(matched, *until, 0);
        }
        grants
    }

    #[test]
    fn an_address_has_what_all_its_names_grant() {
        let sum = grants(&[(VPN, 20), (OTHER, 10), (BLOCK, 40), (DIRECT, 30)]).sum;
        assert_eq!((sum.vpn_until, sum.direct_until), (20, 30));
        assert_eq!(sum.at(15).verdict, Verdict::VPN);
        assert_eq!(sum.at(25), DIRECT);
        assert_eq!(sum.at(35), BLOCK);
        assert_eq!(sum.at(40), Match::default());
    }

    #[test]
    fn which_of_several_rules_is_written_down_is_no_difference() {
        for (first, second) in [(VPN, OTHER), (OTHER, VPN)] {
            let mut seen = AddrEntry::default();
            seen.learn(&first, 20, 0);
            seen.learn(&second, 10, 0);
            let wanted = grants(&[(second, 10), (first, 20)]).beside(&seen);
            assert_eq!(alive(&wanted, 5), alive(&seen, 5));
        }
        let mut seen = AddrEntry::default();
        seen.learn(&DIRECT, 20, 0);
        let wanted = grants(&[(VPN, 20)]).beside(&seen);
        assert_eq!(wanted.at(5), VPN);
    }

    #[test]
    fn of_several_vpns_it_keeps_the_one_that_it_has() {
        let by = |vpn, rule| Match {
            verdict: Verdict::by(Path::vpn(vpn)),
            rule,
        };
        let (us, de) = (by(1, 4), by(2, 5));
        let mut seen = AddrEntry::default();
        seen.learn(&de, 20, 0);
        seen.learn(&us, 20, 0);
        seen.learn(&VPN, 20, 0);
        assert_eq!(seen.at(5), us, "the last that was named");
        for names in [[us, de, VPN], [VPN, de, us]] {
            let wanted = grants(&names.map(|matched| (matched, 20)));
            assert_eq!(wanted.beside(&seen).at(5), us);
        }
        assert_eq!(grants(&[(de, 20), (VPN, 20)]).beside(&seen).at(5), de);
        let mut unnamed = AddrEntry::default();
        unnamed.learn(&VPN, 20, 0);
        let wanted = grants(&[(VPN, 20), (us, 20)]);
        assert_eq!(wanted.beside(&unnamed).at(5), us);
    }

    #[test]
    fn what_has_expired_is_no_difference() {
        let mut seen = AddrEntry::default();
        seen.learn(&VPN, 20, 0);
        assert_eq!(alive(&seen, 20), AddrEntry::default());
        assert_eq!(alive(&seen, 19), seen);
    }
}
