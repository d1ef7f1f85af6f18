//! The numbers by which routing knows what is steer's, and who else uses them.

use crate::{
    doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
    route::{Error, Mark, Numbers, Priority, Survey, TableId},
};

pub(super) const MARK: Check = Check::new("mark", "rules about steer's marks");
pub(super) const FILTERS: Check = Check::new("mark-filters", "firewalls that set steer's marks");
pub(super) const PRIORITY: Check =
    Check::new("priority", "the routing table and the priorities of rules");

const REFUSES: &str =
    "steer run refuses to start, for packets would take another way than it means";
/// Pairs of bits that few use, for a proposal.
const PAIRS: [u32; 6] = [
    0x3000,
    0x0300_0000,
    0x0c00_0000,
    0x3000_0000,
    0x00c0_0000,
    0x0030,
];

pub(super) fn mark(facts: &Facts) -> Finding {
    let survey = match &facts.survey {
        Ok(survey) => survey,
        Err(why) => return MARK.unknown(why),
    };
    let numbers = facts.settings.routing;
    let clashes = survey.clashes(numbers);
    let taken: Vec<_> = clashes
        .iter()
        .filter(|error| matches!(error, Error::MarkTaken { .. }))
        .map(ToString::to_string)
        .collect();
    if taken.is_empty() {
        return MARK.well(format!("no rule of others is about {}", numbers.mark));
    }
    MARK.broken(taken.join("; "), REFUSES)
        .mend(marks(facts, survey))
}

pub(super) fn filters(facts: &Facts) -> Finding {
    let rules = match &facts.filters {
        Ok(rules) => rules,
        Err(why) => return FILTERS.unknown(why),
    };
    let mask = facts.settings.routing.mark.mask();
    let setters = setters(rules, mask);
    let Some((value, line)) = setters.first() else {
        return FILTERS.well(format!("no rule of a firewall sets a bit of {mask:#x}"));
    };
    let found = format!(
        "a rule sets the mark {value:#x}, which has bits of steer's {mask:#x}: {line}{}",
        match setters.len() {
            1 => String::new(),
            more => format!("; and {} more", more - 1),
        }
    );
    let matters = "packets with these bits take the VPN, or go past it, whatever their name";
    let mend = match &facts.survey {
        Ok(survey) => marks(facts, survey),
        Err(_) => "nft list ruleset | grep mark".to_owned(),
    };
    let ours: Vec<_> = facts.settings.routing.marks().collect();
    let whole = |value: &u32| ours.iter().any(|ours| value & mask == ours.value());
    if setters.iter().any(|(value, _)| whole(value)) {
        FILTERS.broken(found, matters).mend(mend)
    } else {
        FILTERS.advice(found, matters).mend(mend)
    }
}

pub(super) fn priority(facts: &Facts) -> Finding {
    let survey = match &facts.survey {
        Ok(survey) => survey,
        Err(why) => return PRIORITY.unknown(why),
    };
    let numbers = facts.settings.routing;
    let clashes = survey.clashes(numbers);
    let taken: Vec<_> = clashes
        .iter()
        .filter(|error| {
            matches!(
                error,
                Error::ForeignRule { .. } | Error::ForeignRoute { .. }
            )
        })
        .collect();
    if taken.is_empty() {
        return PRIORITY.well(format!(
            "table {} and the priorities from {} on are steer's or free",
            numbers.table, numbers.priority
        ));
    }
    let of_rules = taken
        .iter()
        .any(|error| matches!(error, Error::ForeignRule { .. }));
    let of_table = taken
        .iter()
        .any(|error| matches!(error, Error::ForeignRoute { .. }));
    let mut lines = Vec::new();
    let free = (numbers.priority.0..32000)
        .step_by(50)
        .map(|first| Numbers {
            priority: Priority(first),
            ..numbers
        });
    let free = free.map(|free| free.priority).find(|first| {
        let mut rules = survey.rules.iter();
        !rules.any(|rule| {
            Numbers {
                priority: *first,
                ..numbers
            }
            .owns(rule.priority)
        })
    });
    if let Some(first) = free.filter(|_| of_rules) {
        lines.push(format!(
            "priority = {first}    # in [routing] of /etc/steer/steer.toml"
        ));
    }
    let tables = (numbers.table.0..u32::MAX).step_by(2).map(|first| Numbers {
        table: TableId(first),
        ..numbers
    });
    let unused = |numbers: &Numbers| {
        let mut used = survey.routes.iter().map(|route| route.table);
        numbers.check().is_ok() && !used.any(|table| numbers.tables().any(|ours| ours == table))
    };
    if let Some(free) = tables.take(1000).find(unused).filter(|_| of_table) {
        lines.push(format!(
            "table = {}    # in [routing] of /etc/steer/steer.toml",
            free.table
        ));
    }
    let taken: Vec<_> = taken.iter().map(ToString::to_string).collect();
    PRIORITY
        .broken(taken.join("; "), REFUSES)
        .mend(lines.join("\n"))
}

/// The lines that choose bits that neither a rule nor a firewall uses.
fn marks(facts: &Facts, survey: &Survey) -> String {
    let filters = facts.filters.as_deref().unwrap_or_default();
    let free = PAIRS.into_iter().find_map(|mask| {
        // The lower bit of the two.
        let value = mask & mask.wrapping_neg();
        let mark = Mark::new(value, mask).ok()?;
        let numbers = Numbers {
            mark,
            ..facts.settings.routing
        };
        let clashes = survey.clashes(numbers);
        let by_rule = clashes
            .iter()
            .any(|error| matches!(error, Error::MarkTaken { .. }));
        (!by_rule && setters(filters, mask).is_empty()).then_some(mark)
    });
    free.map_or_else(
        || {
            "ip rule; nft list ruleset | grep mark    # and choose two bits that nobody uses"
                .to_owned()
        },
        |mark| {
            format!(
                "mark = {:#x}    # in [routing] of /etc/steer/steer.toml\nmask = {:#x}",
                mark.value(),
                mark.mask()
            )
        },
    )
}

/// The rules of others that set bits of the mask: the value and the line. What only copies a mark is none.
fn setters(rules: &str, mask: u32) -> Vec<(u32, String)> {
    let mut ours = false;
    let mut found = Vec::new();
    for line in rules.lines() {
        if line.starts_with("table ") {
            ours = line.starts_with("table inet steer ");
        }
        let value = sets(line).filter(|value| !ours && value & mask != 0);
        found.extend(value.map(|value| (value, line.trim().to_owned())));
    }
    found
}

/// The bits that a rule of nft's or of the older iptables' sets.
fn sets(line: &str) -> Option<u32> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    for begin in ["--set-xmark ", "--set-mark ", "--or-mark "] {
        if let Some((_, rest)) = line.split_once(begin) {
            let word = rest.split_whitespace().next()?;
            return number(word.split('/').next()?);
        }
    }
    let (_, rest) = line.split_once("mark set ")?;
    let words: Vec<_> = rest.split_whitespace().collect();
    match words.as_slice() {
        ["ct" | "meta", "mark", rest @ ..] | ["mark", rest @ ..] => {
            // "mark and 0xffffcfff xor 0x1000", "mark | 0x1000": the last sets.
            let set = rest
                .windows(2)
                .filter(|pair| matches!(pair[0], "xor" | "or" | "|" | "^"));
            set.filter_map(|pair| number(pair[1])).next_back()
        }
        [value, ..] => number(value),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_set_marks_are_read() {
        for (line, value) in [
            ("\t\tmeta mark set 0x00001000", Some(0x1000)),
            ("ct state new meta mark set 4096 accept", Some(4096)),
            (
                "meta mark set meta mark & 0xffffcfff | 0x00002000",
                Some(0x2000),
            ),
            ("meta mark set mark and 0xffff0000 xor 0x4000", Some(0x4000)),
            ("meta mark set ct mark", None),
            ("ct mark set meta mark", None),
            ("meta mark 0x1000 accept", None),
            (
                "-A PREROUTING -j MARK --set-xmark 0x1000/0xffffffff",
                Some(0x1000),
            ),
            ("-A OUTPUT -m mark --mark 0x1 -j ACCEPT", None),
        ] {
            assert_eq!(sets(line), value, "{line}");
        }
    }

    #[test]
    fn the_table_of_steers_own_is_passed_over() {
        let rules = "table inet steer {\n meta mark set 0x1000\n}\ntable inet other {\n meta mark set 0x1001\n}";
        assert_eq!(
            setters(rules, 0x3000),
            [(0x1001, "meta mark set 0x1001".to_owned())]
        );
    }

    #[test]
    fn proposals_are_marks() {
        for mask in PAIRS {
            assert_eq!(mask.count_ones(), 2, "{mask:#x}");
            assert!(
                Mark::new(mask & mask.wrapping_neg(), mask)
                    .unwrap()
                    .bypass()
                    .is_some()
            );
        }
    }
}
