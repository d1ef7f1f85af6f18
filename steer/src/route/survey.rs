//! What a host has of rules and routes, whoever made them, for who judges it before a run.

use std::net::IpAddr;

use super::{
    Error,
    guard::{clash, families},
    netlink::Netlink,
    nft::{self, Owner},
    plan::{Family, IfIndex, Numbers, Priority, TableId},
};
use crate::{error::sentence, rules::Net};

/// A policy rule of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRule {
    /// Its family.
    pub family: Family,
    /// Its priority.
    pub priority: Priority,
    /// The table that it leads to; 0 where to none.
    pub table: TableId,
    /// Value and mask of the mark that it is for, if it is for one and not for all others.
    pub mark: Option<(u32, u32)>,
    /// Whether it is for all that is not as it says.
    pub inverted: bool,
    /// Whether steer made it.
    pub ours: bool,
    /// Much as `ip rule show` prints it.
    pub text: String,
}

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRoute {
    /// Its table.
    pub table: TableId,
    /// Where it leads.
    pub to: Net,
    /// The interface that it leads out of, if out of one.
    pub interface: Option<IfIndex>,
    /// The next hop, if there is one.
    pub gateway: Option<IpAddr>,
    /// Whether steer made it.
    pub ours: bool,
    /// Much as `ip route show` prints it.
    pub text: String,
}

/// All rules and routes of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The rules of both families.
    pub rules: Vec<KnownRule>,
    /// The routes of all tables, less those to the host itself.
    pub routes: Vec<KnownRoute>,
    /// What is in steer's way in nftables, in a sentence.
    pub nft: Option<String>,
}

impl Survey {
    /// What others have of the numbers that are to be steer's: what a run would refuse to start for.
    pub fn clashes(&self, numbers: Numbers) -> Vec<Error> {
        let rules = self.rules.iter().filter(|rule| !rule.ours);
        let rules = rules.filter_map(|rule| clash(numbers, rule.priority, rule.mark, &rule.text));
        let in_table =
            |route: &&KnownRoute| !route.ours && numbers.tables().any(|table| table == route.table);
        let routes = self.routes.iter().filter(in_table);
        let routes = routes.map(|route| Error::ForeignRoute {
            route: route.text.clone(),
            table: route.table,
        });
        rules.chain(routes).collect()
    }
}

/// Lists them, in the network namespace of this thread.
///
/// # Errors
/// The kernel does not list them.
pub async fn survey() -> Result<Survey, Error> {
    let netlink = Netlink::connect()?;
    let mut survey = Survey::default();
    for family in families() {
        let rules = netlink.rules(family).await?.into_iter();
        survey.rules.extend(rules.map(|seen| KnownRule {
            family,
            priority: seen.priority,
            table: seen.table,
            mark: seen.mark,
            inverted: seen.inverted,
            ours: seen.ours.is_some(),
            text: seen.text,
        }));
        let routes = netlink.all_routes(family).await?.into_iter();
        let routes = routes.filter(|seen| seen.table != TableId::LOCAL);
        survey.routes.extend(routes.filter_map(|seen| {
            Some(KnownRoute {
                table: seen.table,
                to: seen.to?,
                interface: seen.interface,
                gateway: seen.gateway,
                ours: seen.ours.is_some(),
                text: seen.text,
            })
        }));
    }
    survey.nft = match nft::observe().await {
        Ok(Some(Owner::Other(why))) => Some(Error::ForeignNft { why }.to_string()),
        Ok(_) => None,
        Err(error) => Some(sentence(&error)),
    };
    Ok(survey)
}
