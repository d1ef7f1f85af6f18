//! What is steered and not the VPNs' goes past a VPN that has the host's default route.

use std::collections::BTreeSet;

use steer_common::types::Config;

use super::{Engine, Error};
use crate::route::{self, Family, IfIndex, Mark, Taken, Vpn};

/// What there is to go past.
#[derive(Debug, Default)]
pub(super) struct Bypassed {
    /// Families whose default route a VPN has had. What is steered goes past it from then on, also while the VPN is gone,
    /// so that what begins meanwhile keeps its path when it is back.
    families: BTreeSet<Family>,
    /// Which VPNs have had it.
    by: BTreeSet<IfIndex>,
    /// What was said of it last.
    told: Option<String>,
}

impl Bypassed {
    /// Looks what VPNs have taken of the host's routing besides what steer gives them.
    pub(super) async fn look(&mut self, vpns: &[Option<Vpn>]) -> Result<Taken, Error> {
        // Without a VPN all default routes are others'.
        let indices: Vec<_> = vpns.iter().flatten().map(|vpn| vpn.index).collect();
        let taken = route::taken(&indices).await?;
        self.families.extend(&taken.families);
        self.by.extend(&taken.by);
        Ok(Taken {
            families: self.families.clone(),
            ..taken
        })
    }

    /// What the user should know of it.
    pub(super) fn note(&self) -> Option<&String> {
        self.told.as_ref()
    }
}

impl Engine {
    /// Has the programs mark what goes past the VPNs, once there is a way, and says so.
    pub(super) fn bypass(&mut self, vpns: &[Option<Vpn>], taken: &Taken) -> Result<(), Error> {
        let mark = self.settings.routing.mark.bypass();
        let used = mark.filter(|_| !taken.families.is_empty());
        let config = Config {
            bypass: used.map_or(0, Mark::value),
            ..self.config
        };
        if config != self.config {
            self.config = config;
            self.datapath.configure(&self.config)?;
        }
        let had = |vpn: &&Vpn| vpn.up && self.bypassed.by.contains(&vpn.index);
        let had = vpns.iter().flatten().find(had);
        let note = had.map(|vpn| note(&vpn.name, mark, taken));
        if note.is_some() && note != self.bypassed.told {
            self.bypassed.told = note;
            if self.started {
                self.bypassed
                    .told
                    .iter()
                    .for_each(|note| self.report.note(note));
            }
        }
        Ok(())
    }
}

fn note(vpn: &str, mark: Option<Mark>, taken: &Taken) -> String {
    const INSTEAD: &str = "or have it take no route (OpenVPN: route-nopull; wg-quick: Table = off)";
    if mark.is_none() {
        return format!(
            "{vpn} has the host's default route, and all of the mask in [routing] is the mark's, so everything goes through \
             the VPN; give the mask a bit more than the mark, {INSTEAD}"
        );
    }
    let by: BTreeSet<_> = taken
        .past()
        .filter_map(|route| route.target.interface())
        .map(|interface| interface.name.as_str())
        .collect();
    let has_other = |family: &&Family| taken.past().any(|route| route.family == **family);
    let without: Vec<_> = taken
        .families
        .iter()
        .filter(|family| !has_other(family))
        .map(Family::to_string)
        .collect();
    let past = by.into_iter().collect::<Vec<_>>().join(", ");
    let without = without.join(" and ");
    match (past.is_empty(), without.is_empty()) {
        (false, true) => format!(
            "{vpn} has the host's default route; what is steered and not for the VPN goes past it, by {past}"
        ),
        (false, false) => format!(
            "{vpn} has the host's default route; what is steered and not for the VPN goes past it, by {past}, but all {without} \
             goes through it, for of that there is no other default route"
        ),
        (true, _) => format!(
            "{vpn} has the host's default route, and there is no other ({without}), so everything goes through the VPN; have it \
             leave the other there (OpenVPN: redirect-gateway def1), {INSTEAD}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Hop, Interface, Route, TableId, Target};

    fn route(family: Family, name: &str) -> Route {
        Route {
            family,
            table: TableId::MAIN,
            metric: 100,
            target: Target::Hop(Hop::out_of(Interface {
                name: name.into(),
                index: IfIndex(2),
            })),
        }
    }

    fn told(families: &[Family], others: &[(Family, &str)]) -> String {
        let taken = Taken {
            families: families.iter().copied().collect(),
            others: others
                .iter()
                .map(|&(family, name)| route(family, name))
                .collect(),
            by: [IfIndex(7)].into(),
        };
        note("tun0", Mark::DEFAULT.bypass(), &taken)
    }

    #[test]
    fn it_is_told_by_what_and_what_has_no_other_way() {
        use Family::{V4, V6};
        let begins = "tun0 has the host's default route";
        assert_eq!(
            told(&[V4], &[(V4, "eth0"), (V6, "wlan0")]),
            format!("{begins}; what is steered and not for the VPN goes past it, by eth0")
        );
        let some = told(&[V4, V6], &[(V4, "eth0")]);
        assert!(
            some.ends_with(
                "by eth0, but all IPv6 goes through it, for of that there is no other default route"
            ),
            "{some}"
        );
        let none = told(&[V4, V6], &[]);
        assert!(none.starts_with(&format!(
            "{begins}, and there is no other (IPv4 and IPv6), so everything goes through the VPN; have it leave"
        )), "{none}");
    }
}
