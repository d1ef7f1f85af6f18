//! The VPN: that it is there and answers, and what it did to the host.

use std::net::IpAddr;

use super::list;
use crate::{
    doctor::{
        facts::{Echo, Facts},
        finding::{Check, Finding},
    },
    host::{
        Kind,
        vpn::{Choice, shared_addresses},
    },
    route::{Family, TableId, Vpn, VpnId},
};

pub(super) const FOUND: Check = Check::new("vpn", "the VPN's interface");
pub(super) const UP: Check = Check::new("vpn-up", "that the VPN is up");
pub(super) const ADDRESSES: Check =
    Check::new("vpn-addresses", "that each VPN has addresses of its own");
pub(super) const ANSWERS: Check =
    Check::new("vpn-answers", "that something comes back through the VPN");
pub(super) const DEFAULT_ROUTE: Check =
    Check::new("vpn-default-route", "who has the default route");
pub(super) const RP_FILTER: Check = Check::new("rp-filter", "the reverse path filter");
pub(super) const MTU: Check = Check::new("vpn-mtu", "packet sizes of the VPN");

pub(super) const NO_VPN: &str = "no VPN's interface is known";
/// What WireGuard adds to a packet that it sends over IPv6 (over IPv4: 60).
const WIREGUARD: u32 = 80;
/// The least that IPv6 works with (RFC 8200 section 5).
const LEAST: u32 = 1280;

pub(super) fn found(facts: &Facts) -> Finding {
    if let Err(why) = &facts.links {
        return FOUND.unknown(why);
    }
    let one = |(id, choice)| {
        let name = facts.settings.vpn_name(id);
        let name = name.map_or_else(String::new, |name| format!("{name}: "));
        match choice {
            Ok(Choice::Found(vpn)) => {
                let link = facts.link(vpn.index).map(crate::host::Link::describe);
                FOUND.well(format!("{name}{}", link.unwrap_or(vpn.name)))
            }
            Ok(Choice::Awaited(why)) => FOUND
                .broken(
                    format!("{name}{why}"),
                    "until it comes, what the rules send there is blocked, or goes direct if on_down says so",
                )
                .mend("systemctl start openvpn-client@NAME    # or: wg-quick up wg0"),
            Err(why) => FOUND
                .broken(format!("{name}{why}"), "steer run refuses to start")
                .mend("ip -brief address    # then in /etc/steer/steer.toml: [vpn] interface = \"wg0\""),
        }
    };
    Finding::all(facts.choices().into_iter().map(one), FOUND)
}

/// What a check finds of each VPN that is there, as one.
fn of_each(facts: &Facts, check: Check, one: impl Fn(&Vpn) -> Finding) -> Finding {
    match facts.vpns() {
        none if none.is_empty() => check.unknown(NO_VPN),
        vpns => Finding::all(vpns.values().map(one), check),
    }
}

pub(super) fn up(facts: &Facts) -> Finding {
    of_each(facts, UP, is_up)
}

fn is_up(vpn: &Vpn) -> Finding {
    let matters =
        "what the rules send there is blocked meanwhile, or goes direct if on_down says so";
    if !vpn.up {
        return UP
            .broken(format!("{} is down", vpn.name), matters)
            .mend(format!(
                "ip link set {} up    # or start the VPN that makes it",
                vpn.name
            ));
    }
    if vpn.v4.is_empty() && vpn.v6.is_empty() {
        return UP
            .broken(format!("{} is up and has no address", vpn.name), matters)
            .mend(format!(
                "ip address show {}    # then see the VPN's own log",
                vpn.name
            ));
    }
    UP.well(format!("{} is up", vpn.name))
}

pub(super) fn addresses(facts: &Facts) -> Finding {
    let vpns = facts.vpns();
    if vpns.is_empty() {
        return ADDRESSES.unknown(NO_VPN);
    }
    let name = |id: &VpnId| vpns[id].name.clone();
    let told = |(address, ids): &(IpAddr, Vec<VpnId>)| {
        format!(
            "{} have {address}",
            list(&ids.iter().map(name).collect::<Vec<_>>())
        )
    };
    let shared = shared_addresses(vpns.iter().map(|(id, vpn)| (*id, vpn)));
    let Some((_, ids)) = shared.first() else {
        return ADDRESSES.well("no two VPNs have one address");
    };
    let found: Vec<_> = shared.iter().map(told).collect();
    let last = ids.last().map(name).unwrap_or_default();
    ADDRESSES
        .broken(
            found.join("; "),
            "the way of an unconnected datagram, and of an answer to who came by a VPN, is told by that VPN's address: with one for several, it leads \
             by the first of them, so such datagrams for the others are stopped",
        )
        .mend(format!(
            "Address = ANOTHER    # in [Interface] of /etc/wireguard/{last}.conf, one that its provider gives for another key or account; with OpenVPN, as its server assigns"
        ))
}

pub(super) fn answers(facts: &Facts) -> Finding {
    of_each(facts, ANSWERS, |vpn| has_answered(facts, vpn))
}

fn has_answered(facts: &Facts, vpn: &Vpn) -> Finding {
    let gauge = facts.gauges.get(&vpn.index).copied().unwrap_or_default();
    let received = format!(
        "{} has sent {} packets and received {}",
        vpn.name, gauge.sent, gauge.received
    );
    let mend = match facts.link(vpn.index).map(|link| &link.kind) {
        Some(Kind::Wireguard) => {
            format!("wg show {}    # latest handshake, endpoint, keys", vpn.name)
        }
        _ => "journalctl -e -u 'openvpn*'    # or the log of whatever VPN it is".to_owned(),
    };
    let Some(echo) = facts.echoes.get(&vpn.index) else {
        return ANSWERS.unknown(format!("the far end of {} was not asked", vpn.name));
    };
    match echo {
        Ok(Echo::Answered(target)) => ANSWERS.well(format!("{target} answers an echo request")),
        // A WireGuard whose far end is away is up all the same.
        Ok(Echo::Silent(target)) if gauge.received == 0 => ANSWERS
            .broken(
                format!("{target} does not answer an echo request, and {received}"),
                "the tunnel is up on this side only: what the rules send there is lost",
            )
            .mend(mend),
        Ok(Echo::Silent(target)) => ANSWERS
            .advice(
                format!("{target} does not answer an echo request; {received} so far"),
                "it may only be that the far end answers none; if names of the VPN time out, it is away",
            )
            .mend(mend),
        Err(_) if gauge.received > 0 => ANSWERS.well(format!("{received} so far")),
        Err(why) => ANSWERS.unknown(format!("{why}; {received}")),
    }
}

pub(super) fn default_route(facts: &Facts) -> Finding {
    let vpns = facts.vpns();
    let Some(first) = vpns.values().next() else {
        return DEFAULT_ROUTE.unknown(NO_VPN);
    };
    let taken = match &facts.taken {
        Ok(taken) => taken,
        Err(why) => return DEFAULT_ROUTE.unknown(why),
    };
    if taken.families.is_empty() {
        let names: Vec<_> = vpns.values().map(|vpn| vpn.name.clone()).collect();
        return DEFAULT_ROUTE.well(format!(
            "not {}: what is not steered goes direct",
            list(&names)
        ));
    }
    let vpn = vpns.values().find(|vpn| taken.by.contains(&vpn.index));
    let vpn = vpn.unwrap_or(first);
    let (how, mend) = how_taken(facts, vpn);
    let family = |family: &Family| match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let no_way_past = taken.families.iter().filter(|family| {
        let mut others = taken.others.iter();
        !others.any(|route| route.family == **family)
    });
    let no_way_past: Vec<_> = no_way_past.map(family).collect();
    // Many a host has no IPv6 of its own.
    if !no_way_past.contains(&"IPv4") {
        return DEFAULT_ROUTE
            .advice(
                format!("{} has the host's default route: {how}", vpn.name),
                "steer sends what is steered and not for the VPN past it, by the other default route. All else on this host takes the VPN: if that is not meant, stop the VPN from taking it",
            )
            .mend(mend);
    }
    DEFAULT_ROUTE
        .broken(
            format!(
                "{} has the host's default route ({how}), and there is no other for {}",
                vpn.name,
                no_way_past.join(" and ")
            ),
            "there is no way past the VPN: everything takes it, layers too",
        )
        .mend(mend)
}

/// How the VPN took the default route, and the line that stops it.
fn how_taken(facts: &Facts, vpn: &Vpn) -> (String, String) {
    let survey = facts.survey.as_ref().ok();
    let routes = survey.iter().flat_map(|survey| &survey.routes);
    let by_vpn: Vec<_> = routes
        .filter(|route| route.interface == Some(vpn.index) && !route.ours)
        .collect();
    let halves = by_vpn
        .iter()
        .any(|route| route.table == TableId::MAIN && route.to.prefix() == 1);
    let rules = survey.iter().flat_map(|survey| &survey.rules);
    let mut own_tables = rules.filter(|rule| !rule.ours && rule.inverted);
    let of_rule = own_tables.find(|rule| by_vpn.iter().any(|route| route.table == rule.table));
    let openvpn = "pull-filter ignore \"redirect-gateway\"    # in OpenVPN's client configuration; or route-nopull to take no route at all, then restart it";
    let wg_quick = format!(
        "Table = off    # in [Interface] of /etc/wireguard/{0}.conf, then wg-quick down {0}; wg-quick up {0}",
        vpn.name
    );
    if halves {
        return (
            "OpenVPN's redirect-gateway def1 has put 0.0.0.0/1 and 128.0.0.0/1 before it"
                .to_owned(),
            openvpn.to_owned(),
        );
    }
    if let Some(rule) = of_rule {
        return (
            format!(
                "the rule \"{}\" leads to it, as wg-quick makes for AllowedIPs = 0.0.0.0/0",
                rule.text
            ),
            wg_quick,
        );
    }
    match facts.link(vpn.index).map(|link| &link.kind) {
        Some(Kind::Wireguard) => (
            "its default route comes before the others".to_owned(),
            wg_quick,
        ),
        Some(Kind::Ppp) => (
            "its default route comes before the others".to_owned(),
            "nodefaultroute    # in the peer's file below /etc/ppp/peers, then restart it"
                .to_owned(),
        ),
        _ => (
            "its default route comes before the others".to_owned(),
            openvpn.to_owned(),
        ),
    }
}

pub(super) fn rp_filter(facts: &Facts) -> Finding {
    of_each(facts, RP_FILTER, |vpn| is_loose(facts, vpn))
}

fn is_loose(facts: &Facts, vpn: &Vpn) -> Finding {
    let value = |name: &str| facts.sysctls.rp_filter.get(name).copied();
    let Some(own) = value(&vpn.name) else {
        return RP_FILTER.unknown(format!("cannot read net.ipv4.conf.{}.rp_filter", vpn.name));
    };
    // The kernel takes the larger, of which 2 is the looser.
    if own.max(value("all").unwrap_or(0)) != 1 {
        return RP_FILTER.well(format!("not strict on {}", vpn.name));
    }
    if facts.sysctls.writable || facts.system.privileges.is_err() {
        return RP_FILTER.well(format!(
            "strict on {}: steer run sets it to 2 (loose) there, and puts it back at its end",
            vpn.name
        ));
    }
    RP_FILTER
        .broken(
            format!(
                "strict on {} (net.ipv4.conf.{0}.rp_filter), and /proc/sys is mounted read-only here, so steer run cannot loosen it",
                vpn.name
            ),
            "answers that come by the VPN are dropped: the main table would look for their senders elsewhere",
        )
        .mend(format!("sysctl -w net.ipv4.conf.{}.rp_filter=2    # on the host itself", vpn.name))
}

pub(super) fn mtu(facts: &Facts) -> Finding {
    of_each(facts, MTU, |vpn| fits(facts, vpn))
}

fn fits(facts: &Facts, vpn: &Vpn) -> Finding {
    let Some(own) = facts.gauges.get(&vpn.index).map(|gauge| gauge.mtu) else {
        return MTU.unknown(format!("the MTU of {} is not known", vpn.name));
    };
    let set = |mtu| {
        format!(
            "ip link set {0} mtu {mtu}    # and MTU = {mtu} in [Interface] of its configuration, or tun-mtu {mtu} for OpenVPN",
            vpn.name
        )
    };
    if own < LEAST {
        return MTU
            .advice(
                format!("{} has packets of {own} octets", vpn.name),
                format!("IPv6 does not work below {LEAST}"),
            )
            .mend(set(LEAST));
    }
    let is_wireguard = facts.link(vpn.index).map(|link| &link.kind) == Some(&Kind::Wireguard);
    let uplinks = facts.gauges.iter().filter(|(index, _)| {
        let link = facts.link(**index);
        link.is_some_and(|link| link.up && link.kind == Kind::Other(String::new()))
    });
    let limit = uplinks.map(|(_, gauge)| gauge.mtu).max();
    if let Some(limit) = limit.filter(|limit| is_wireguard && own + WIREGUARD > *limit) {
        return MTU
            .advice(
                format!(
                    "{} has packets of {own} octets, which with WireGuard's {WIREGUARD} around them do not fit into the {limit} of the network card",
                    vpn.name
                ),
                "they are sent in fragments, or lost: connections through the VPN begin and then stall",
            )
            .mend(set(limit - WIREGUARD));
    }
    MTU.well(format!(
        "{own} on {}: steer run has containers' connections ask for segments that fit",
        vpn.name
    ))
}
