//! What of other firewalls drops that is forwarded to containers, where steer has no place to let it through.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{
    Error,
    docker::{self, Gate},
    nft::TABLE,
    plan::{Family, Plan},
    program,
};

/// The table in which Docker 29 has its firewall, when it is one of nftables.
const DOCKERS: &str = "docker-bridges";

/// Looks for them, in the network namespace of this thread, and tells each in a sentence. Nothing is looked for when nothing is forwarded.
///
/// # Errors
/// The chains of nftables cannot be listed.
pub async fn obstacles(plan: &Plan) -> Result<Vec<String>, Error> {
    let mut vpns: BTreeMap<&str, BTreeSet<Family>> = BTreeMap::new();
    for opening in &plan.openings {
        vpns.entry(&opening.vpn)
            .or_default()
            .insert(opening.family());
    }
    if vpns.is_empty() {
        return Ok(Vec::new());
    }
    let (firewalls, unknown) = docker::firewalls().await;
    let mut found: Vec<_> = unknown.iter().map(ToString::to_string).collect();
    let arguments = ["--json", "list", "chains"];
    let chains = program::run("nft", arguments, "")
        .await
        .map_err(|failure| failure.of_nft("nft list chains".into()))?;
    for (vpn, families) in vpns {
        found.extend(of_docker(&firewalls, vpn, &families));
        found.extend(of_nft(&chains, vpn, &families));
    }
    Ok(found)
}

fn of_docker(firewalls: &[Gate], vpn: &str, families: &BTreeSet<Family>) -> Vec<String> {
    let mut found = Vec::new();
    for gate in firewalls {
        if gate.chain.is_none() && gate.drops && families.contains(&gate.family) {
            let program = gate.program;
            found.push(format!(
                "what comes by {vpn} for containers is dropped: the chain FORWARD of {program} has the policy DROP, and Docker has no chain \
                 DOCKER-USER there; let it through with `{program} -I FORWARD -i {vpn} -m conntrack --ctstate DNAT -j ACCEPT`"
            ));
        }
    }
    found
}

#[derive(Deserialize)]
struct Listed {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

impl Chain {
    fn concerns(&self, families: &BTreeSet<Family>) -> bool {
        let of_family = |family: &Family| self.family == family.nft();
        self.hook.as_deref() == Some("forward")
            && (self.family == "inet" || families.iter().any(of_family))
    }

    /// Whether it is iptables' own, of which that tells.
    fn is_of_iptables(&self) -> bool {
        self.family != "inet" && self.table == "filter" && self.name == "FORWARD"
    }
}

fn of_nft(chains: &str, vpn: &str, families: &BTreeSet<Family>) -> Vec<String> {
    let listed: Listed = match serde_json::from_str(chains) {
        Ok(listed) => listed,
        Err(error) => {
            return vec![format!(
                "whether a firewall of nftables drops what comes by {vpn} for containers is not known: `nft --json list chains` prints \
                 what cannot be read ({error}); look at `nft list ruleset`"
            )];
        }
    };
    let chains = listed.nftables.into_iter().filter_map(|it| it.chain);
    let concern = chains.filter(|it| it.concerns(families) && !it.is_of_iptables());
    let sentences = concern.filter_map(|chain| {
        let Chain {
            family,
            table,
            name,
            ..
        } = &chain;
        if table == DOCKERS {
            return Some(format!(
                "what comes by {vpn} for containers is dropped where its port is not published: Docker's firewall is the table \
                 \"{family} {table}\" of nftables, in which nobody else can let anything through; publish the container's port, or set \
                 \"firewall-backend\" to \"iptables\" in daemon.json and restart dockerd"
            ));
        }
        let drops = chain.policy.as_deref() == Some("drop") && table != TABLE;
        drops.then(|| {
            format!(
                "what comes by {vpn} for containers may be dropped: the chain \"{family} {table} {name}\" of nftables has the policy drop; \
                 let it through there, with `nft insert rule {family} {table} {name} iifname {vpn} ct status dnat accept`"
            )
        })
    });
    sentences.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_told_with_what_lets_through() {
        let chain = |family: &str, table: &str, name: &str, hook: &str, policy: &str| {
            format!(
                r#"{{"chain": {{"family": "{family}", "table": "{table}", "name": "{name}", "handle": 1, "type": "filter", "hook": "{hook}", "prio": 0, "policy": "{policy}"}}}}"#
            )
        };
        let listed = [
            r#"{"metainfo": {"version": "1.0.6"}}"#.into(),
            r#"{"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 1}}"#
                .into(),
            chain("ip", "filter", "FORWARD", "forward", "drop"),
            chain("inet", "mine", "in", "input", "drop"),
            chain("inet", "mine", "open", "forward", "accept"),
            chain("inet", "mine", "through", "forward", "drop"),
            chain("ip6", "mine", "six", "forward", "drop"),
            chain(
                "ip",
                "docker-bridges",
                "filter-FORWARD",
                "forward",
                "accept",
            ),
        ];
        let listed = format!(r#"{{"nftables": [{}]}}"#, listed.join(","));
        let told = of_nft(&listed, "wg0", &[Family::V4].into());
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(
            told[0]
                .contains("`nft insert rule inet mine through iifname wg0 ct status dnat accept`")
        );
        assert!(told[1].contains("\"ip docker-bridges\""));
        assert!(of_nft("{", "wg0", &BTreeSet::new())[0].contains("not known"));
    }
}
