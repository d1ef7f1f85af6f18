//! Who resolves names, and whether steer sees the answers.
//!
//! What a steered process or container asks by plain DNS is seen, whoever answers: a resolver on loopback too, and one that itself asks over TLS or
//! HTTPS. What is not seen is an answer that does not come by DNS.

use super::list;
use crate::{
    config::{CgroupChoice, Way},
    doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
};

pub(super) const SERVERS: Check = Check::new("resolver", "the name servers of this host");
pub(super) const HIDDEN: Check = Check::new("resolver-hidden", "answers that do not come by DNS");
pub(super) const CACHE: Check = Check::new("resolver-cache", "caches of the C library");

/// Resolvers that ask over TLS or HTTPS, as the kernel cuts names.
const ENCRYPTING: [&str; 6] = [
    "stubby",
    "cloudflared",
    "dnscrypt-proxy",
    "dnsproxy",
    "https_dns_proxy",
    "AdGuardHome",
];
const RESOLVED: &str = "systemd-resolve";
const UNIT: &str = "system.slice/systemd-resolved.service";
const STEER_IT: &str = "cgroups = [\"auto\", \"system.slice/systemd-resolved.service\"]    # in [attach] of /etc/steer/steer.toml";

pub(super) fn servers(facts: &Facts) -> Finding {
    if let Err(why) = &facts.names.resolv_conf {
        return SERVERS.unknown(why);
    }
    let servers = facts.names.servers();
    if servers.is_empty() {
        return SERVERS
            .advice(
                "/etc/resolv.conf names no name server",
                "programs then ask 127.0.0.1; if nobody answers there, no name is resolved, by steer neither",
            )
            .mend("cat /etc/resolv.conf    # and write: nameserver ADDRESS");
    }
    let words: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let on_loopback = servers.iter().any(|server| server.is_loopback());
    let by = encrypting(facts);
    let seen = if !on_loopback {
        "the answers to what is steered are seen on their way"
    } else if by.is_empty() {
        "on loopback: its answers to what is steered are seen all the same"
    } else {
        "on loopback, and asks in secret: its answers to what is steered are seen all the same"
    };
    let by = if by.is_empty() || !on_loopback {
        String::new()
    } else {
        format!(" ({})", list(&by))
    };
    SERVERS.well(format!("{}{by}: {seen}", list(&words)))
}

pub(super) fn hidden(facts: &Facts) -> Finding {
    let names = &facts.names;
    let hosts = names
        .nsswitch
        .lines()
        .find_map(|line| line.trim().strip_prefix("hosts:"));
    let asks_resolved = hosts.is_some_and(|line| {
        let mut before_dns = line.split_whitespace().take_while(|word| *word != "dns");
        before_dns.any(|word| word == "resolve")
    });
    if !asks_resolved || !names.resolved {
        return HIDDEN.well("programs of the C library ask by DNS");
    }
    let steered =
        facts.settings.cgroups.iter().any(
            |choice| matches!(&choice.value, CgroupChoice::Path(path) if path.ends_with(UNIT)),
        );
    let found = "/etc/nsswitch.conf has the C library ask systemd-resolved over a socket of its own (hosts: resolve), not by DNS";
    let matters = "a steered process gets such answers past steer. The names of the rules that steer resolves itself are known all the same; others only by the name in a connection's first packet, which ends that connection, and the next try takes the VPN. Containers are not concerned";
    let past = facts
        .settings
        .scopes
        .iter()
        .find(|scope| !scope.selector.is_of_containers() && scope.default != Way::Direct);
    if let Some(scope) = past {
        return HIDDEN
            .broken(
                format!("{found}, so what the scope at {} asks that way leaves by the direct path", scope.origin),
                "a scope has a say in questions of DNS, and not in what its processes ask another on a socket of this host",
            )
            .mend("sed -i 's/ resolve \\[!UNAVAIL=return\\]//' /etc/nsswitch.conf    # programs then ask by DNS, and the scope's resolver answers");
    }
    match (steered, over_tls(facts)) {
        (true, false) => HIDDEN.well(format!(
            "{found}; systemd-resolved is steered, and what it asks is seen"
        )),
        (true, true) => HIDDEN
            .advice(
                format!("{found}; systemd-resolved is steered, but asks over TLS (DNSOverTLS), where nothing is seen"),
                matters,
            )
            .mend("sed -i 's/ resolve \\[!UNAVAIL=return\\]//' /etc/nsswitch.conf    # programs then ask its stub by DNS, and are seen"),
        (false, tls) => {
            let other = if tls { "" } else { STEER_IT };
            let lines = [
                other,
                "sed -i 's/ resolve \\[!UNAVAIL=return\\]//' /etc/nsswitch.conf    # programs then ask its stub by DNS, and are seen",
            ];
            let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
            HIDDEN.advice(found, matters).mend(lines.join("\n# or\n"))
        }
    }
}

pub(super) fn cache(facts: &Facts) -> Finding {
    if !facts.names.nscd {
        return CACHE.well("nscd does not run");
    }
    CACHE
        .advice(
            "nscd runs, and may answer the C library's questions from its cache",
            "it asks from a cgroup of its own, and its answers do not come by DNS: steer does not see them",
        )
        .mend("enable-cache hosts no    # in /etc/nscd.conf, then systemctl restart nscd")
}

fn encrypting(facts: &Facts) -> Vec<&'static str> {
    let mut found: Vec<_> = ENCRYPTING
        .into_iter()
        .filter(|name| facts.processes.contains(*name))
        .collect();
    if facts.processes.contains(RESOLVED) && over_tls(facts) {
        found.push("systemd-resolved with DNSOverTLS");
    }
    found
}

/// The last of a key holds.
fn over_tls(facts: &Facts) -> bool {
    let lines = facts.names.resolved_conf.lines();
    let mut values = lines.filter_map(|line| line.trim().strip_prefix("DNSOverTLS="));
    values
        .next_back()
        .is_some_and(|value| !matches!(value.trim(), "" | "no" | "false" | "0" | "off"))
}
