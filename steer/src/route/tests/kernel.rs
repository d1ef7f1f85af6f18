//! A kernel of text.

use std::{collections::BTreeMap, fmt::Write};

use super::*;
use crate::route::docker::USERS;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub rp_filter: u8,
    /// What the administrator has set last, which is what must be there in the end.
    pub administrators: u8,
}

/// As strict as the kernel: what is there cannot be added, what is not there cannot be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kernel {
    pub links: BTreeMap<u32, Link>,
    pub rp_filter_all: u8,
    pub rules: Vec<Rule>,
    pub routes: Vec<Route>,
    pub nft: Option<NftTable>,
    /// What `DOCKER-USER` has, of each family's: none where there is no such chain.
    pub users: BTreeMap<&'static str, Vec<Vec<String>>>,
    pub ledger: Vec<(Interface, u8)>,
}

/// Where a packet goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// Out of this interface.
    Vpn(IfIndex),
    Refused,
    /// By a default route that is not the VPN's.
    Past,
    /// By whatever the main table says.
    Direct,
}

impl Kernel {
    pub fn state(&self, plan: &Plan) -> State {
        let now = |interface: &Interface| {
            self.links
                .get(&interface.index.0)
                .map(|link| link.rp_filter)
        };
        State {
            rules: self.rules.clone(),
            routes: self.routes.clone(),
            nft: self.nft.clone(),
            nft_changed: false,
            gates: self.gates(),
            ipv6: true,
            rp_filter_all: self.rp_filter_all,
            rp_filter: plan
                .loose_rp_filter
                .iter()
                .filter_map(|interface| Some((interface.clone(), now(interface)?)))
                .collect(),
            loosened: self
                .ledger
                .iter()
                .map(|(interface, original)| Loosened {
                    interface: interface.clone(),
                    original: *original,
                    now: now(interface),
                })
                .collect(),
        }
    }

    fn gates(&self) -> Vec<Gate> {
        let gate = |(&program, rules): (&&'static str, &Vec<Vec<String>>)| Gate {
            program,
            family: if program == "iptables" {
                Family::V4
            } else {
                Family::V6
            },
            chain: Some(USERS),
            drops: true,
            rules: rules
                .iter()
                .filter(|rule| rule.iter().any(|word| word.starts_with("steer: ")))
                .map(|rule| Listed {
                    chain: USERS,
                    rule: rule.clone(),
                })
                .collect(),
        };
        self.users.iter().map(gate).collect()
    }

    pub fn execute(&mut self, change: &Change) {
        match change {
            Change::Open {
                program,
                chain,
                rule,
            } => {
                assert_eq!(*chain, USERS, "{change}");
                let rules = self.users.get_mut(program);
                let rules = rules.unwrap_or_else(|| panic!("no chain: {change}"));
                assert!(!rules.contains(rule), "twice: {change}");
                rules.insert(0, rule.clone());
            }
            Change::Close { program, rule, .. } => {
                let rules = self.users.get_mut(program);
                let rules = rules.unwrap_or_else(|| panic!("no chain: {change}"));
                let at = rules.iter().position(|other| other == rule);
                rules.remove(at.unwrap_or_else(|| panic!("no such rule: {change}")));
            }
            Change::AddRule(rule) => {
                assert!(!self.rules.contains(rule), "EEXIST: {change}");
                self.rules.push(*rule);
            }
            Change::DelRule(rule) => {
                assert!(self.rules.contains(rule), "ENOENT: {change}");
                self.rules.retain(|other| other != rule);
            }
            Change::AddRoute(route) => {
                assert!(self.at(route).is_none(), "EEXIST: {change}");
                self.add_route(route);
            }
            Change::ReplaceRoute { old, new } => {
                let at = self
                    .at(new)
                    .unwrap_or_else(|| panic!("nothing to replace: {change}"));
                assert_eq!(self.routes.remove(at), *old, "{change}");
                self.add_route(new);
            }
            Change::DelRoute(route) => {
                let at = self.at(route).unwrap_or_else(|| panic!("ESRCH: {change}"));
                assert_eq!(self.routes.remove(at), *route, "{change}");
            }
            Change::SetNft { old, new } => {
                assert_eq!(self.nft, *old, "{change}");
                self.nft.clone_from(new);
            }
            Change::LoosenRpFilter {
                interface,
                original,
            } => {
                self.forget(interface);
                self.ledger.push((interface.clone(), *original));
                self.set_rp_filter(interface, LOOSE);
            }
            Change::RestoreRpFilter {
                interface,
                original,
            } => {
                self.set_rp_filter(interface, *original);
                self.forget(interface);
            }
            Change::ForgetRpFilter { interface, .. } => self.forget(interface),
        }
    }

    fn at(&self, route: &Route) -> Option<usize> {
        let key = |route: &Route| (route.family, route.table, route.metric);
        self.routes
            .iter()
            .position(|other| key(other) == key(route))
    }

    fn add_route(&mut self, route: &Route) {
        if let Some(interface) = route.target.interface() {
            assert!(
                self.links.contains_key(&interface.index.0),
                "ENODEV: {route}"
            );
        }
        self.routes.push(route.clone());
    }

    fn forget(&mut self, interface: &Interface) {
        self.ledger
            .retain(|(other, _)| other.index != interface.index);
    }

    fn set_rp_filter(&mut self, interface: &Interface, value: u8) {
        if let Some(link) = self.links.get_mut(&interface.index.0) {
            link.rp_filter = value;
        }
    }

    /// Routes go with their interface, and when it goes down.
    pub fn flush(&mut self, index: u32) {
        self.routes.retain(|route| {
            let interface = route.target.interface();
            interface.is_none_or(|interface| interface.index.0 != index)
        });
    }

    pub fn way(&self, family: Family, selector: Selector) -> Way {
        let mut rules: Vec<_> = self
            .rules
            .iter()
            .filter(|r| (r.family, r.selector) == (family, selector))
            .collect();
        rules.sort_by_key(|rule| rule.priority);
        for rule in rules {
            let of_table = |route: &&Route| (route.family, route.table) == (family, rule.table);
            match self
                .routes
                .iter()
                .filter(of_table)
                .min_by_key(|route| route.metric)
            {
                Some(Route {
                    target: Target::Hop(hop),
                    ..
                }) => {
                    return if hop.gateway.is_none() {
                        Way::Vpn(hop.interface.index)
                    } else {
                        Way::Past
                    };
                }
                Some(_) => return Way::Refused,
                None => {}
            }
        }
        Way::Direct
    }

    pub fn has_rule(&self, family: Family, selector: Selector) -> bool {
        self.rules
            .iter()
            .any(|rule| (rule.family, rule.selector) == (family, selector))
    }

    /// As the administrator sees it.
    pub fn text(&self) -> String {
        let mut lines: Vec<_> = self
            .rules
            .iter()
            .map(|rule| format!("{:?} {rule}", rule.family))
            .collect();
        lines.extend(
            self.routes
                .iter()
                .map(|route| format!("{:?} {route}", route.family)),
        );
        lines.sort();
        for (index, link) in &self.links {
            lines.push(format!(
                "{index} {} rp_filter {}",
                link.name, link.rp_filter
            ));
        }
        let mut text = lines.join("\n");
        for (program, rules) in &self.users {
            let mut rules = rules.clone();
            rules.sort();
            write!(text, "\n{program} {rules:?}").unwrap();
        }
        write!(text, "\n{:?}\n{:?}", self.nft, self.ledger).unwrap();
        text
    }
}
