//! `steer status`.

use super::ask::RunChoice;
use super::colour::{Palette, Tone};
use super::output::{self, print};
use super::runtime;
use crate::control::query::Nothing;
use crate::inspect::scopes::{ForwardFact, ScopeFact, WaitingFact};
use crate::inspect::status::{State, Status};
use crate::inspect::vpns::{VpnFact, the_vpn};
use crate::inspect::{self, Path};
use crate::route::OnDown;
use crate::words::{counted, octets, span};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Exit status: 0 all is well; 1 it cannot be told; 3 it steers, and something is wrong; 4 no steer runs, or its programs
go on alone.

Examples:
  steer status
  steer status --quiet || echo 'look at steer'
  steer status --json | jq '.addresses.vpn'";

const DEGRADED: u8 = 3;
const NOT_RUNNING: u8 = 4;

/// Flags of `steer status`.
#[derive(Clone, Debug, Default, Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print nothing: the exit status says it
    #[arg(short, long)]
    pub quiet: bool,

    /// Which run.
    #[command(flatten)]
    pub run: RunChoice,
}

/// Says how steer is.
pub(super) fn status(args: &StatusArgs) -> Result<ExitCode> {
    let asked = runtime()?.block_on(args.run.ask(
        "/v1/status",
        &Nothing {},
        async |snapshot, view| inspect::status::status(&snapshot, &view),
    ));
    let status: Status = match asked {
        Ok(status) => status,
        Err(error) => {
            if let Some(inspect::Error::Nothing { .. }) = error.downcast_ref() {
                if args.json {
                    print(&["{\n  \"state\": \"stopped\"\n}"])?;
                } else if !args.quiet {
                    print(&[error.to_string()])?;
                }
                return Ok(ExitCode::from(NOT_RUNNING));
            }
            return Err(error);
        }
    };
    if args.json {
        print(&[serde_json::to_string_pretty(&status)?])?;
    } else if !args.quiet {
        print(&lines(&status, Palette::of_stdout()))?;
    }
    Ok(match status.state {
        State::Steering => ExitCode::SUCCESS,
        State::Degraded => ExitCode::from(DEGRADED),
        State::Unattended => ExitCode::from(NOT_RUNNING),
    })
}

fn lines(status: &Status, palette: Palette) -> Vec<String> {
    let row = |what: &str, text: String| format!("{what:<9} {text}");
    let state = match status.state {
        State::Steering => palette.paint(Tone::Good, "steering"),
        State::Degraded => palette.paint(Tone::Bad, "steering, and something is wrong"),
        State::Unattended => palette.paint(Tone::Bad, "killed, its programs go on alone"),
    };
    let process = status
        .pid
        .zip(status.uptime)
        .map_or_else(String::new, |(pid, uptime)| {
            format!(
                ", for {}, process {pid}, version {}",
                span(uptime),
                status.version
            )
        });
    let mut lines = vec![row("state", format!("{state}{process}"))];
    lines.extend(
        status
            .troubles
            .iter()
            .map(|why| row("trouble", palette.paint(Tone::Bad, &output::one_line(why)))),
    );
    let several = status.vpns.len() > 1;
    lines.extend(status.vpns.iter().map(|it| row("vpn", vpn(it, several))));
    let bridges = status.bridges.iter().map(|bridge| match &bridge.network {
        Some(network) => row(
            "bridge",
            format!("{} (Docker's network {network})", bridge.interface),
        ),
        None => row("bridge", bridge.interface.clone()),
    });
    lines.extend(bridges);
    lines.extend(
        status
            .cgroups
            .iter()
            .map(|path| row("cgroup", path.clone())),
    );
    for scope in &status.scopes {
        lines.push(row("scope", self::scope(scope)));
        lines.push(row("", members(scope)));
        let forwards = scope.forwards.iter();
        lines.extend(forwards.map(|it| row("forward", forward(it, palette))));
    }
    lines.extend(status.waiting.iter().map(|it| row("waits", waits(it))));
    let config = match &status.config {
        Some(file) => format!(" ({file})"),
        None => " (no configuration file)".to_owned(),
    };
    lines.push(row("rules", format!("{}{config}", status.rules)));
    let known = &status.addresses;
    lines.push(row(
        "learned",
        format!(
            "{} for the VPN{}, {} direct by a rule, {} blocked; room for {}",
            counted(known.vpn, "address"),
            match known.contested {
                0 => String::new(),
                count => format!(" ({count} contested)"),
            },
            known.direct,
            known.block,
            known.room
        ),
    ));
    lines.push(row(
        "flows",
        format!(
            "{}held on the VPN now: {} of {}",
            match status.steered {
                Some(count) => format!("{count} through the VPN since the start; "),
                None => String::new(),
            },
            status.held.used,
            status.held.room
        ),
    ));
    let [vpn, direct] = [Path::Vpn, Path::Direct].map(|path| status.traffic.of(path));
    lines.push(row(
        "traffic",
        format!(
            "{} in and {} out through the VPN since the start, {} in and {} out direct",
            octets(vpn.bytes_in),
            octets(vpn.bytes_out),
            octets(direct.bytes_in),
            octets(direct.bytes_out)
        ),
    ));
    let dropped: Vec<_> = status
        .dropped
        .iter()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    lines.push(match dropped.as_slice() {
        [] => row("dropped", "nothing".to_owned()),
        some => row("dropped", palette.paint(Tone::Bad, &some.join(", "))),
    });
    lines.extend(status.notes.iter().map(|note| row("note", note.clone())));
    lines
}

/// A VPN, by its name where there are several.
fn vpn(it: &VpnFact, several: bool) -> String {
    let name = match several {
        true => format!("{}: ", it.name),
        false => String::new(),
    };
    let when = match it.interface {
        Some(_) => "when down",
        None => "until it comes",
    };
    let on_down = match it.on_down {
        OnDown::Block => "blocked",
        OnDown::Direct => "direct",
    };
    let default = if several && it.default {
        "; the default one"
    } else {
        ""
    };
    format!("{name}{}; {when}: {on_down}{default}", it.state())
}

fn scope(it: &ScopeFact) -> String {
    let vpn = the_vpn(it.vpn.as_deref());
    let default = match it.default.as_str() {
        "vpn" => format!("all but the rules' takes {vpn}"),
        "block" => "nothing but the rules' leaves".to_owned(),
        _ => "all but the rules' goes direct".to_owned(),
    };
    let dns = match it.dns.as_slice() {
        [] => String::new(),
        some => format!("; dns {}", list(some)),
    };
    let kept = match it.on_stop.as_str() {
        "keep" => "",
        _ => "; released when steer stops",
    };
    format!("{}: {default}{dns}{kept} ({})", it.scope, it.from)
}

/// Who is in it.
fn members(it: &ScopeFact) -> String {
    if it.scope.starts_with("cgroup ") {
        return match it.processes {
            Some(1) => "1 process".to_owned(),
            Some(count) => format!("{count} processes"),
            None => "its cgroup is not there yet".to_owned(),
        };
    }
    let on = match it.networks.as_slice() {
        [] => String::new(),
        [one] => format!(" on the network {one}"),
        some => format!(" on the networks {}", list(some)),
    };
    match it.containers.as_slice() {
        [] => format!("no container{on}"),
        some => format!("{}{on}: {}", counted(some.len(), "container"), list(some)),
    }
}

fn forward(it: &ForwardFact, palette: Palette) -> String {
    let forward = &it.forward;
    match &it.why_not {
        Some(why) => palette.paint(Tone::Bad, &format!("{forward} leads nowhere: {why}")),
        None => {
            let assigned = it
                .assigned
                .map_or_else(String::new, |port| format!(" (port {port} is assigned)"));
            format!("{forward}{assigned} leads to {}", list(&it.to))
        }
    }
}

fn waits(it: &WaitingFact) -> String {
    let network = match &it.network {
        Some(network) => format!("{} (Docker's network {network})", it.bridge),
        None => it.bridge.clone(),
    };
    let who = match it.address {
        Some(address) => format!("{address} on {network}"),
        None => format!("whoever is on {network}"),
    };
    let since = match it.seconds {
        Some(seconds) => format!(", for {}", span(seconds)),
        None => String::new(),
    };
    format!("{who}{since}: Docker has not told in which scope that is")
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::status::{Addresses, BridgeFact, Room};
    use crate::inspect::usage::{Count, Totals};

    #[test]
    fn a_status_in_lines() {
        let status = Status {
            version: "0.1.0".to_owned(),
            state: State::Degraded,
            troubles: vec![
                "the VPN wg0 is down: what must take it is blocked until it is up".to_owned(),
            ],
            notes: Vec::new(),
            pid: Some(812),
            uptime: Some(3_700),
            config: Some("/etc/steer/steer.toml".to_owned()),
            vpns: vec![
                VpnFact {
                    name: "us".to_owned(),
                    default: true,
                    interface: Some("wg0".to_owned()),
                    up: false,
                    addresses: vec!["10.8.0.2".parse().unwrap()],
                    on_down: OnDown::Block,
                },
                VpnFact {
                    name: "de".to_owned(),
                    default: false,
                    interface: None,
                    up: false,
                    addresses: Vec::new(),
                    on_down: OnDown::Direct,
                },
            ],
            bridges: vec![BridgeFact {
                interface: "docker0".to_owned(),
                network: Some("bridge".to_owned()),
            }],
            cgroups: vec!["/sys/fs/cgroup/system.slice/docker.service".to_owned()],
            scopes: vec![
                ScopeFact {
                    scope: "network under".to_owned(),
                    from: "steer.toml:3".to_owned(),
                    default: "vpn".to_owned(),
                    vpn: Some("de".to_owned()),
                    dns: vec!["1.1.1.1".parse().unwrap()],
                    on_stop: "keep".to_owned(),
                    networks: vec!["under".to_owned()],
                    containers: vec!["sidecar".to_owned(), "torrent".to_owned()],
                    forwards: vec![
                        ForwardFact {
                            forward: "nat-pmp/tcp -> torrent:4666".to_owned(),
                            assigned: Some(40_000),
                            container: Some("torrent".to_owned()),
                            to: vec!["172.19.0.2:4666".parse().unwrap()],
                            why_not: None,
                        },
                        ForwardFact {
                            forward: "80/tcp -> web:80".to_owned(),
                            assigned: None,
                            container: None,
                            to: Vec::new(),
                            why_not: Some("\"web\" does not run".to_owned()),
                        },
                    ],
                    processes: None,
                },
                ScopeFact {
                    scope: "label steer.path=none".to_owned(),
                    from: "steer.toml:9".to_owned(),
                    default: "block".to_owned(),
                    vpn: None,
                    dns: Vec::new(),
                    on_stop: "release".to_owned(),
                    networks: Vec::new(),
                    containers: Vec::new(),
                    forwards: Vec::new(),
                    processes: None,
                },
            ],
            waiting: vec![WaitingFact {
                bridge: "docker0".to_owned(),
                network: Some("bridge".to_owned()),
                address: Some("172.17.0.9".parse().unwrap()),
                seconds: Some(4),
            }],
            rules: 12,
            addresses: Addresses {
                vpn: 9,
                direct: 2,
                block: 3,
                contested: 1,
                room: 65_536,
            },
            held: Room {
                used: 3,
                room: 65_536,
            },
            steered: Some(41),
            dropped: [("packet_wrong_path".to_owned(), 2)].into(),
            traffic: Totals {
                processes_vpn: Count {
                    bytes_in: 12_345,
                    bytes_out: 678,
                    ..Count::default()
                },
                ..Totals::default()
            },
        };
        let expected = "\
state     steering, and something is wrong, for 1 h 1 min, process 812, version 0.1.0
trouble   the VPN wg0 is down: what must take it is blocked until it is up
vpn       us: wg0 is down (10.8.0.2); when down: blocked; the default one
vpn       de: there is none; until it comes: direct
bridge    docker0 (Docker's network bridge)
cgroup    /sys/fs/cgroup/system.slice/docker.service
scope     network under: all but the rules' takes the VPN de; dns 1.1.1.1 (steer.toml:3)
          2 containers on the network under: sidecar, torrent
forward   nat-pmp/tcp -> torrent:4666 (port 40000 is assigned) leads to 172.19.0.2:4666
forward   80/tcp -> web:80 leads nowhere: \"web\" does not run
scope     label steer.path=none: nothing but the rules' leaves; released when steer stops (steer.toml:9)
          no container
waits     172.17.0.9 on docker0 (Docker's network bridge), for 4 s: Docker has not told in which scope that is
rules     12 (/etc/steer/steer.toml)
learned   9 addresses for the VPN (1 contested), 2 direct by a rule, 3 blocked; room for 65536
flows     41 through the VPN since the start; held on the VPN now: 3 of 65536
traffic   12 kB in and 678 B out through the VPN since the start, 0 B in and 0 B out direct
dropped   2 × packet_wrong_path";
        assert_eq!(lines(&status, Palette(false)).join("\n"), expected);
        let coloured = lines(&status, Palette(true)).join("\n");
        assert_eq!(
            anstream::adapter::strip_str(&coloured).to_string(),
            expected
        );
        assert_ne!(coloured, expected);
    }
}
