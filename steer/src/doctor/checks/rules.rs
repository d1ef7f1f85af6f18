//! The configuration, and rules that send more through the VPN than is meant.

use super::list;
use crate::{
    config::DEFAULT_FILE,
    doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
    rules::Verdict,
};

pub(super) const CONFIGURATION: Check = Check::new("configuration", "steer's configuration file");
pub(super) const LAYERS: Check = Check::new("layers", "the path of image layers");
pub(super) const BROAD: Check =
    Check::new("broad-rules", "rules that send very much through the VPN");

/// Where layers come from, by far the most octets of a pull.
const LAYER_HOSTS: [&str; 6] = [
    "production.cloudflare.docker.com",
    "production.cloudfront.docker.com",
    "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
    "pkg-containers.githubusercontent.com",
    "cdn01.quay.io",
    "prod-registry-k8s-io-us-east-1.s3.dualstack.us-east-1.amazonaws.com",
];
/// Suffixes of two labels below which anybody has names.
const PUBLIC: [&str; 12] = [
    "co.uk", "org.uk", "com.au", "com.br", "com.cn", "com.tr", "com.ua", "co.jp", "co.kr", "co.in",
    "msk.ru", "spb.ru",
];
/// Networks this large or larger.
const LARGE: (u8, u8) = (8, 16);
/// How many are told.
const TOLD: usize = 3;

pub(super) fn configuration(facts: &Facts) -> Finding {
    match &facts.configuration {
        Ok(Some(file)) => CONFIGURATION.well(format!(
            "{} is valid and comes to {} rules",
            file.display(),
            facts.settings.rules.len()
        )),
        Ok(None) => CONFIGURATION.well(format!("there is no {DEFAULT_FILE}: the defaults hold")),
        Err(why) => CONFIGURATION
            .broken(
                why,
                "steer run refuses to start, and one that runs goes on by what it read before. The checks below go by the defaults",
            )
            .mend("steer check FILE    # once it is mended"),
    }
}

pub(super) fn layers(facts: &Facts) -> Finding {
    let by_vpn = LAYER_HOSTS.into_iter().filter_map(|name| {
        let judgement = facts.settings.rules.decide(name)?;
        (judgement.verdict == Verdict::Vpn).then(|| (name, judgement.origin.to_string()))
    });
    let by_vpn: Vec<_> = by_vpn.collect();
    let Some((first, _)) = by_vpn.first() else {
        return LAYERS.well("no rule sends a known host of layers through the VPN");
    };
    let told: Vec<_> = by_vpn
        .iter()
        .map(|(name, origin)| format!("{name} (by {origin})"))
        .collect();
    let direct: Vec<_> = by_vpn
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    LAYERS
        .advice(
            format!("rules send hosts of layers through the VPN: {}", list(&told)),
            format!("nearly all octets of a pull come from there ({first}), and these hosts answer everybody"),
        )
        .mend(format!(
            "direct = [{}]    # in [rules] of /etc/steer/steer.toml: yours win over those of lists",
            direct.join(", ")
        ))
}

pub(super) fn broad(facts: &Facts) -> Finding {
    let rules = &facts.settings.rules;
    let mut broad: Vec<String> = Vec::new();
    for (net, judgement) in rules.nets() {
        let limit = if net.address().is_ipv4() {
            LARGE.0
        } else {
            LARGE.1
        };
        if judgement.verdict == Verdict::Vpn && net.prefix() <= limit {
            broad.push(format!("{net} (by {})", judgement.origin));
        }
    }
    for (name, entry) in rules.entries() {
        let public = !name.contains('.') || PUBLIC.contains(&name);
        if public && entry.below.is_vpn() {
            let any = rules.decide(&format!("x.{name}"));
            let origin = any.map(|judgement| judgement.origin.to_string());
            broad.push(format!(".{name} (by {})", origin.unwrap_or_default()));
        }
    }
    if broad.is_empty() {
        return BROAD.well("none is as wide as a top-level domain or a /8");
    }
    let more = broad.len().saturating_sub(TOLD);
    broad.truncate(TOLD);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    BROAD
        .advice(
            format!("{}{more}", list(&broad)),
            "everything there takes the VPN: it is slow, or paid by the byte. A list that was made for a proxy or a resolver often holds such lines",
        )
        .mend("steer check --json | jq -r '.rules[] | select(.verdict == \"vpn\") | .rule'    # then narrow or leave them out")
}
