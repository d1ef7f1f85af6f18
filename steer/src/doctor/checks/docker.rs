//! Docker: that it answers, where it runs, and that its containers reach anything.

use serde_json::Value;

use super::list;
use crate::{
    config::{CgroupChoice, DockerChoice},
    doctor::{
        daemon_json as file,
        facts::Facts,
        finding::{Check, Finding},
        fix::Fix,
    },
    host::{Kind, Link},
};

pub(super) const SOCKET: Check = Check::new("docker-socket", "Docker's API");
pub(super) const CGROUP: Check = Check::new("docker-cgroup", "the cgroups to steer");
pub(super) const DAEMON_JSON: Check = Check::new("daemon-json", "Docker's configuration file");
pub(super) const IP_FORWARD: Check =
    Check::new("ip-forward", "forwarding between interfaces").fixed();
pub(super) const MTU: Check = Check::new(
    "docker-mtu",
    "packet sizes of containers on the direct path",
)
.fixed();

pub(super) fn socket(facts: &Facts) -> Finding {
    let matters = "only Docker knows which bridges its networks have; without it those with names that it gives (docker0, br-0123456789ab) are taken for its networks";
    let look = "systemctl status docker; ls -l /var/run/docker.sock";
    match (&facts.docker.socket, &facts.docker.networks) {
        (None, _) if facts.settings.docker.value == DockerChoice::Off => {
            SOCKET.well("not asked: docker is \"off\" in the configuration")
        }
        (None, Err(why)) if facts.docker.runs => SOCKET
            .advice(format!("{why}, though dockerd runs"), matters)
            .mend("ls -l /var/run/docker.sock    # or name another in the configuration: [attach] docker = \"PATH\""),
        (None, _) => SOCKET.unknown("no Docker is here: dockerd does not run, and has no socket"),
        (Some(socket), Ok(networks)) => SOCKET.well(format!(
            "it answers at {} and has {} networks",
            socket.display(),
            networks.len()
        )),
        (Some(socket), Err(why)) => {
            let found = format!("Docker does not answer at {}: {why}", socket.display());
            match facts.settings.docker.value {
                DockerChoice::Socket(_) => SOCKET.broken(
                    found,
                    "the configuration names this socket: steer run refuses to start",
                ),
                _ if why.contains("ermission denied") => SOCKET.unknown(found),
                _ => SOCKET.advice(found, matters),
            }
            .mend(look)
        }
    }
}

pub(super) fn cgroup(facts: &Facts) -> Finding {
    let paths = |cgroups: &[crate::host::Cgroup]| {
        let paths = cgroups
            .iter()
            .map(|cgroup| cgroup.path.display().to_string());
        list(&paths.collect::<Vec<_>>())
    };
    match &facts.cgroups {
        Err(why) => CGROUP.broken(
            why,
            "processes are steered by their cgroup: steer run refuses to start",
        ),
        Ok(cgroups) if cgroups.is_empty() => {
            let asks = |choice: &CgroupChoice| *choice == CgroupChoice::Auto;
            if !facts
                .settings
                .cgroups
                .iter()
                .any(|choice| asks(&choice.value))
            {
                return CGROUP.well("the configuration steers no processes");
            }
            if facts.system.privileges.is_err() {
                return CGROUP
                    .unknown("whose network namespace a process is in is not told without root");
            }
            let found = "no dockerd or containerd runs in this network namespace";
            let mend = "systemctl start docker    # or name cgroups: [attach] cgroups = [\"system.slice/app.service\"]";
            if bridges(facts).is_empty() {
                let found = format!("{found}, and no bridge of Docker's is here");
                if facts.settings.waits() {
                    CGROUP.advice(
                        found,
                        "there is nothing to steer yet: as there are scopes, steer run waits for Docker",
                    )
                } else {
                    CGROUP.broken(
                        found,
                        "there is nothing to steer: steer run refuses to start, unless it is to wait for Docker (--wait, as the service does)",
                    )
                }
            } else {
                CGROUP.advice(found, "image pulls are not steered until it does")
            }
            .mend(mend)
        }
        Ok(cgroups) if facts.cgroup_notes.is_empty() => CGROUP.well(paths(cgroups)),
        Ok(cgroups) => CGROUP
            .advice(
                facts.cgroup_notes.join("; "),
                format!(
                    "what runs in {} is steered, and nothing else",
                    paths(cgroups)
                ),
            )
            .mend("systemd-cgls    # and see that Docker's unit has a cgroup of its own"),
    }
}

pub(super) fn daemon_json(facts: &Facts) -> Finding {
    let path = facts.docker.daemon_json.display();
    match &facts.docker.daemon_text {
        Err(why) => DAEMON_JSON.unknown(why),
        Ok(None) => DAEMON_JSON.well(format!("there is no {path}: Docker runs by its defaults")),
        Ok(Some(text)) => match file::parse(text) {
            Ok(object) => DAEMON_JSON.well(format!("{path} is JSON with {} keys", object.len())),
            Err(error) => DAEMON_JSON
                .broken(
                    format!("{path}: {error}"),
                    "a Docker that runs goes on until it is restarted, and then does not start",
                )
                .mend(format!("dockerd --validate --config-file {path}")),
        },
    }
}

pub(super) fn ip_forward(facts: &Facts) -> Finding {
    let bridges = bridges(facts);
    match facts.sysctls.ip_forward {
        Err(ref why) => IP_FORWARD.unknown(why),
        Ok(true) => IP_FORWARD.well("net.ipv4.ip_forward is 1"),
        Ok(false) if bridges.is_empty() => IP_FORWARD
            .well("net.ipv4.ip_forward is 0, and no container's bridge is here that needs it"),
        Ok(false) => {
            let names: Vec<_> = bridges.iter().map(|link| link.name.as_str()).collect();
            IP_FORWARD
                .broken(
                    format!(
                        "net.ipv4.ip_forward is 0, and there are bridges of containers: {}",
                        list(&names)
                    ),
                    "containers reach nothing outside this host, by the VPN or without. Docker sets it when it starts, so something has taken it back since: a file below /etc/sysctl.d, or a tool that hardens",
                )
                .mend("sysctl -w net.ipv4.ip_forward=1\ngrep -r ip_forward /etc/sysctl.conf /etc/sysctl.d    # who takes it back")
                .fix(Some(Fix::Forward))
        }
    }
}

/// A container's connections announce segments of its bridge's MTU. What answers in them meets the uplink's, of which
/// nobody may tell the server.
pub(super) fn mtu(facts: &Facts) -> Finding {
    let mtu = |link: &Link| facts.gauges.get(&link.index).map(|gauge| gauge.mtu);
    let Some((uplink, limit)) = uplink(facts).and_then(|link| Some((link, mtu(link)?))) else {
        return MTU.unknown("no interface with a direct default route is known");
    };
    let larger: Vec<_> = bridges(facts)
        .into_iter()
        .filter(|link| mtu(link).is_some_and(|mtu| mtu > limit))
        .collect();
    let Some(first) = larger.first().copied().and_then(mtu) else {
        return MTU.well(format!(
            "no bridge's is above the {limit} of {}",
            uplink.name
        ));
    };
    let names: Vec<_> = larger.iter().map(|link| link.name.as_str()).collect();
    let found = format!(
        "{} has packets of {first} octets, and {}, by which the direct path leaves, of {limit}",
        list(&names),
        uplink.name
    );
    let matters = "containers tell servers to send segments that do not fit. Where the ICMP that says so is lost on the way, as it often is, their connections begin and then stall";
    let text = facts
        .docker
        .daemon_text
        .as_ref()
        .ok()
        .and_then(Option::as_deref);
    let keys = file::parse(text.unwrap_or_default()).unwrap_or_default();
    if keys
        .get("mtu")
        .and_then(Value::as_u64)
        .is_some_and(|mtu| mtu <= limit.into())
    {
        return MTU
            .advice(
                format!("{found}; {} already says less", facts.docker.daemon_json.display()),
                matters,
            )
            .mend("systemctl restart docker    # and make networks of your own anew, with --opt com.docker.network.driver.mtu");
    }
    let fixable = facts.docker.daemon_text.is_ok() && !has_flag(facts, "--mtu");
    let fix = || {
        let keys = vec![("mtu".to_owned(), limit.into())];
        Fix::DaemonJson(facts.docker.daemon_json.clone(), keys)
    };
    MTU.advice(found, matters)
        .mend(format!(
            "\"mtu\": {limit}    # in {}, then systemctl restart docker; networks of your own: --opt com.docker.network.driver.mtu={limit}",
            facts.docker.daemon_json.display()
        ))
        .fix(fixable.then(fix))
}

/// The bridges that containers are on.
pub(super) fn bridges(facts: &Facts) -> Vec<&Link> {
    let told = facts.docker.networks.iter().flatten();
    let told: Vec<_> = told
        .filter_map(|network| network.interface.as_deref())
        .collect();
    let guessed = crate::host::docker::by_name(facts.all_links());
    let is_one = |link: &&Link| {
        link.kind == Kind::Bridge
            && (told.contains(&&*link.name)
                || guessed.iter().any(|network| network.interface == link.name))
    };
    facts.all_links().iter().filter(is_one).collect()
}

/// Whether dockerd was started with a flag, which its file may not repeat.
pub(super) fn has_flag(facts: &Facts, flag: &str) -> bool {
    facts.docker.arguments.iter().any(|argument| {
        let rest = argument.strip_prefix(flag);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// The interface of the direct default route.
fn uplink(facts: &Facts) -> Option<&Link> {
    let others = facts.taken.iter().flat_map(|taken| &taken.others);
    let of_taken = others.filter_map(|route| route.target.interface().map(|hop| hop.index));
    let survey = facts.survey.as_ref().ok()?;
    let defaults = survey.routes.iter().filter(|route| {
        !route.ours && route.to.prefix() == 0 && route.table == crate::route::TableId::MAIN
    });
    let indices = of_taken.chain(defaults.filter_map(|route| route.interface));
    let index = indices.into_iter().find(|index| !facts.is_vpn(*index))?;
    facts.link(index)
}
