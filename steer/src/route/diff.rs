//! From what is there to what is planned: a pure function.

use std::{collections::BTreeMap, fmt};

use super::{
    docker::{Gate, shown},
    plan::{Family, Interface, NftTable, Plan, Route, Rule, Target},
};

/// `rp_filter` value that checks each packet's source against the route back by the same interface.
pub const STRICT: u8 = 1;
/// `rp_filter` value that asks only for some route back.
pub const LOOSE: u8 = 2;

/// What of steer's is in the kernel, and what a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Rules of steer's.
    pub rules: Vec<Rule>,
    /// Routes of steer's.
    pub routes: Vec<Route>,
    /// Steer's nft table.
    pub nft: Option<NftTable>,
    /// Whether it is there with anything else in it than steer puts there.
    pub nft_changed: bool,
    /// Whether the kernel has IPv6 at all.
    pub ipv6: bool,
    /// Value of `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: u8,
    /// Values of `rp_filter` of the interfaces that the plan wants loose, as far as they are there.
    pub rp_filter: BTreeMap<Interface, u8>,
    /// Interfaces whose filter steer has made loose.
    pub loosened: Vec<Loosened>,
    /// The firewalls that Docker has, and what is steer's in them.
    pub gates: Vec<Gate>,
}

/// An interface whose reverse path filter steer has made loose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loosened {
    /// The interface.
    pub interface: Interface,
    /// The value that was there before.
    pub original: u8,
    /// The value now; `None` when the interface is gone.
    pub now: Option<u8>,
}

/// One step. Prints as the command that would do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a rule.
    AddRule(Rule),
    /// Deletes a rule.
    DelRule(Rule),
    /// Adds a route.
    AddRoute(Route),
    /// Puts a route in the place of another of the same metric, with no moment without one.
    ReplaceRoute {
        /// The route that is there.
        old: Route,
        /// The route that takes its place.
        new: Route,
    },
    /// Deletes a route.
    DelRoute(Route),
    /// Makes an interface's reverse path filter loose.
    LoosenRpFilter {
        /// The interface.
        interface: Interface,
        /// The value there is.
        original: u8,
    },
    /// Gives an interface's reverse path filter its value back.
    RestoreRpFilter {
        /// The interface.
        interface: Interface,
        /// The value there was.
        original: u8,
    },
    /// Nothing is to be put back: the interface is gone, or somebody else has changed the value, which is theirs now.
    ForgetRpFilter {
        /// The interface.
        interface: Interface,
        /// The value there was before steer.
        original: u8,
        /// The value there is now; `None` when the interface is gone.
        now: Option<u8>,
    },
    /// Replaces the nft table as a whole.
    SetNft {
        /// What is there.
        old: Option<NftTable>,
        /// What takes its place; `None` deletes the table.
        new: Option<NftTable>,
    },
    /// Adds a rule to a chain of Docker's, before all others there.
    Open {
        /// The `iptables` program.
        program: &'static str,
        /// The chain.
        chain: &'static str,
        /// The rule, as the arguments that follow.
        rule: Vec<String>,
    },
    /// Takes such a rule away.
    Close {
        /// The `iptables` program.
        program: &'static str,
        /// The chain.
        chain: &'static str,
        /// The rule, as the arguments that follow.
        rule: Vec<String>,
    },
}

/// The steps from a state to a plan, in an order in which no packet that must take the VPN can leave by another
/// way: `unreachable` before the rule that leads to it, what replaces before what is replaced, rules before the
/// routes that they lead to.
pub fn diff(plan: &Plan, state: &State) -> Vec<Change> {
    let here = |family| state.ipv6 || family == Family::V4;
    let missing_rules = plan
        .rules
        .iter()
        .filter(|r| here(r.family) && !state.rules.contains(r));
    let spare_rules = state.rules.iter().filter(|r| !plan.rules.contains(r));
    let missing_routes = plan
        .routes
        .iter()
        .filter(|r| here(r.family) && !state.routes.contains(r));
    let takes_place = |new: &Route, old: &Route| {
        (new.family, new.table, new.metric) == (old.family, old.table, old.metric)
    };
    let spare_routes = state
        .routes
        .iter()
        .filter(|old| !plan.routes.iter().any(|new| takes_place(new, old)));

    let mut changes = Vec::new();
    let (blocking, leading): (Vec<_>, Vec<_>) =
        missing_routes.partition(|route| route.target == Target::Unreachable);
    for route in blocking.into_iter().chain(leading) {
        changes.push(
            match state.routes.iter().find(|old| takes_place(route, old)) {
                Some(old) => Change::ReplaceRoute {
                    old: old.clone(),
                    new: route.clone(),
                },
                None => Change::AddRoute(route.clone()),
            },
        );
    }
    changes.extend(loosen(plan, state));
    let nft_changes = plan.nft != state.nft || state.nft_changed;
    let set_nft = Change::SetNft {
        old: state.nft.clone(),
        new: plan.nft.clone(),
    };
    if nft_changes && plan.nft.is_some() {
        changes.push(set_nft.clone());
    }
    changes.extend(missing_rules.copied().map(Change::AddRule));
    let gates = state.gates.iter();
    let (opens, closes): (Vec<_>, Vec<_>) =
        gates.map(|gate| gate.changes(plan.openings.iter())).unzip();
    changes.extend(opens.into_iter().chain(closes).flatten());

    changes.extend(spare_rules.copied().map(Change::DelRule));
    let (blocking, leading): (Vec<_>, Vec<_>) =
        spare_routes.partition(|route| route.target == Target::Unreachable);
    changes.extend(
        leading
            .into_iter()
            .chain(blocking)
            .cloned()
            .map(Change::DelRoute),
    );
    if nft_changes && plan.nft.is_none() {
        changes.push(set_nft);
    }
    changes.extend(tighten(plan, state));
    changes
}

fn loosen(plan: &Plan, state: &State) -> impl Iterator<Item = Change> {
    let all = state.rp_filter_all;
    let wanted = plan.loose_rp_filter.iter();
    wanted.filter_map(move |interface| {
        let original = *state.rp_filter.get(interface)?;
        (original.max(all) == STRICT).then(|| Change::LoosenRpFilter {
            interface: interface.clone(),
            original,
        })
    })
}

fn tighten(plan: &Plan, state: &State) -> impl Iterator<Item = Change> {
    let is_wanted = |entry: &&Loosened| {
        let mut wanted = plan.loose_rp_filter.iter();
        wanted.any(|interface| interface.index == entry.interface.index)
    };
    state
        .loosened
        .iter()
        .filter(move |entry| !is_wanted(entry))
        .map(|entry| {
            let (interface, original) = (entry.interface.clone(), entry.original);
            match entry.now {
                Some(LOOSE) => Change::RestoreRpFilter {
                    interface,
                    original,
                },
                now => Change::ForgetRpFilter {
                    interface,
                    original,
                    now,
                },
            }
        })
}

impl Change {
    /// The change that undoes this one.
    pub fn inverse(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::AddRule(rule) => Self::DelRule(rule),
            Self::DelRule(rule) => Self::AddRule(rule),
            Self::AddRoute(route) => Self::DelRoute(route),
            Self::ReplaceRoute { old, new } => Self::ReplaceRoute { old: new, new: old },
            Self::DelRoute(route) => Self::AddRoute(route),
            Self::LoosenRpFilter {
                interface,
                original,
            } => Self::RestoreRpFilter {
                interface,
                original,
            },
            Self::RestoreRpFilter {
                interface,
                original,
            } => Self::LoosenRpFilter {
                interface,
                original,
            },
            Self::SetNft { old, new } => Self::SetNft { old: new, new: old },
            Self::Open {
                program,
                chain,
                rule,
            } => Self::Close {
                program,
                chain,
                rule,
            },
            Self::Close {
                program,
                chain,
                rule,
            } => Self::Open {
                program,
                chain,
                rule,
            },
            Self::ForgetRpFilter { .. } => return None,
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddRule(rule) => write!(f, "{} rule add {rule}", rule.family.ip()),
            Self::DelRule(rule) => write!(f, "{} rule del {rule}", rule.family.ip()),
            Self::AddRoute(route) => write!(f, "{} route add {route}", route.family.ip()),
            Self::ReplaceRoute { new, .. } => {
                write!(f, "{} route replace {new}", new.family.ip())
            }
            Self::DelRoute(route) => write!(f, "{} route del {route}", route.family.ip()),
            Self::LoosenRpFilter { interface, .. } => {
                write!(f, "sysctl -w {}={LOOSE}", RpFilter(interface))
            }
            Self::RestoreRpFilter {
                interface,
                original,
            } => write!(f, "sysctl -w {}={original}", RpFilter(interface)),
            Self::ForgetRpFilter {
                interface,
                original,
                now: Some(now),
            } => write!(
                f,
                "leave {}={now}, set by somebody else since steer changed it from {original}",
                RpFilter(interface)
            ),
            Self::ForgetRpFilter { interface, .. } => {
                write!(
                    f,
                    "leave {}, which is gone with its interface",
                    RpFilter(interface)
                )
            }
            Self::SetNft {
                new: Some(table), ..
            } => {
                let mut masquerades = table.tunnels().peekable();
                if masquerades.peek().is_none() {
                    f.write_str("nft add table inet steer")?;
                }
                for (place, (mark, interface)) in masquerades.enumerate() {
                    let begin = if place == 0 { "nft " } else { "; " };
                    write!(
                        f,
                        "{begin}add rule inet steer postrouting meta mark and {:#x} == {:#x} oifname \"{interface}\" masquerade",
                        mark.mask(),
                        mark.value(),
                    )?;
                }
                match (table.dns.len(), table.forwards.len()) {
                    (0, 0) => Ok(()),
                    (dns, ports) => {
                        write!(f, " # and rules for DNS: {dns}, forwarded ports: {ports}")
                    }
                }
            }
            Self::Open {
                program,
                chain,
                rule,
            } => write!(f, "{program} -I {chain} {}", shown(rule)),
            Self::Close {
                program,
                chain,
                rule,
            } => write!(f, "{program} -D {chain} {}", shown(rule)),
            Self::SetNft { new: None, .. } => f.write_str("nft delete table inet steer"),
        }
    }
}

struct RpFilter<'a>(&'a Interface);

impl fmt::Display for RpFilter<'_> {
    /// A dot in an interface's name is written as a slash, as sysctl(8) wants it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "net.ipv4.conf.{}.rp_filter",
            self.0.name.replace('.', "/")
        )
    }
}
