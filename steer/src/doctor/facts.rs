//! Everything that is looked at, as plain values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use crate::{
    config::{Settings, VpnSettings},
    host::{
        Cgroup, Gauge, HostError, Link, cgroup::Daemon, docker::Ranges, inventory::Inventory, vpn,
    },
    natpmp::Refusal,
    route::{IfIndex, Survey, Taken, Vpn, VpnId},
};

/// What was looked at, or why it could not be.
pub type Looked<T> = Result<T, String>;

/// A host at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The configuration file, if there is one, or what is wrong with it.
    pub configuration: Looked<Option<PathBuf>>,
    /// What it comes to; the defaults where it is wrong.
    pub settings: Settings,
    /// Kernel and process.
    pub system: System,
    /// The cgroups to steer, or why there are none.
    pub cgroups: Looked<Vec<Cgroup>>,
    /// What is to be known of them, a sentence each.
    pub cgroup_notes: Vec<String>,
    /// The cgroups of scopes that are not there, a sentence each.
    pub cgroups_awaited: Vec<String>,
    /// Who is in the cgroup of a scope and ought not to be: the scope's place, and the process.
    pub scoped_daemons: Vec<(usize, Daemon)>,
    /// The interfaces.
    pub links: Looked<Vec<Link>>,
    /// Their sizes and counts.
    pub gauges: BTreeMap<IfIndex, Gauge>,
    /// Rules, routes, and what is in the way in nftables.
    pub survey: Looked<Survey>,
    /// Whether a VPN has the default route.
    pub taken: Looked<Taken>,
    /// What the VPNs' far ends say to an echo request.
    pub echoes: BTreeMap<IfIndex, Looked<Echo>>,
    /// What the name servers say that are asked through a VPN.
    pub resolvers: BTreeMap<(VpnId, IpAddr), Looked<Resolver>>,
    /// What the gateways say that are to assign ports.
    pub gateways: BTreeMap<VpnId, Looked<(Ipv4Addr, Assigner)>>,
    /// Switches of the kernel.
    pub sysctls: Sysctls,
    /// Docker.
    pub docker: Docker,
    /// Who resolves names.
    pub names: Names,
    /// The names of the processes that run, as the kernel cuts them: after 15 characters.
    pub processes: BTreeSet<String>,
    /// The rules of nftables and of the older iptables.
    pub filters: Looked<String>,
}

/// What the kernel and the process offer; what is missing in steer's own sentence.
#[derive(Clone, Debug)]
pub struct System {
    /// The kernel's version.
    pub kernel: Looked<String>,
    /// Its types.
    pub btf: Looked<()>,
    /// Where things are pinned.
    pub bpf_fs: Looked<()>,
    /// Whether cgroup2 is mounted.
    pub cgroup2: Looked<()>,
    /// What this process may do.
    pub privileges: Looked<()>,
}

/// What became of an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// It was answered.
    Answered(IpAddr),
    /// It was not, within a second.
    Silent(IpAddr),
}

/// What became of a question to a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// It was answered.
    Answers,
    /// It was not, within two seconds.
    Silent,
}

/// What became of a question to a gateway by NAT-PMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assigner {
    /// It was answered.
    Answers,
    /// It was answered by a refusal.
    Refuses(Refusal),
    /// It was not, within two seconds.
    Silent,
}

/// Switches of the kernel.
#[derive(Clone, Debug)]
pub struct Sysctls {
    /// `net.ipv4.ip_forward`
    pub ip_forward: Looked<bool>,
    /// `net.ipv4.conf.*.rp_filter`
    pub rp_filter: BTreeMap<String, u8>,
    /// Whether /proc/sys can be written to.
    pub writable: bool,
}

/// Docker.
#[derive(Clone, Debug)]
pub struct Docker {
    /// Where it is asked; none where it is not.
    pub socket: Option<PathBuf>,
    /// Its networks and containers, where there are scopes.
    pub inventory: Looked<Inventory>,
    /// Its networks, as it tells.
    pub networks: Looked<Vec<Ranges>>,
    /// Whether dockerd runs in this network namespace.
    pub runs: bool,
    /// The arguments that it was started with.
    pub arguments: Vec<String>,
    /// Its configuration file.
    pub daemon_json: PathBuf,
    /// The text of that; none where it does not exist.
    pub daemon_text: Looked<Option<String>>,
}

/// Who resolves names.
#[derive(Clone, Debug)]
pub struct Names {
    /// /etc/resolv.conf.
    pub resolv_conf: Looked<String>,
    /// /etc/nsswitch.conf, empty where there is none.
    pub nsswitch: String,
    /// Whether systemd-resolved listens on a socket of its own.
    pub resolved: bool,
    /// Its configuration, all files one after another.
    pub resolved_conf: String,
    /// Whether nscd listens on its socket.
    pub nscd: bool,
}

impl Facts {
    /// The VPNs' interfaces, as a run would choose them; none where there is no telling.
    pub fn choices(&self) -> Vec<(VpnId, Result<vpn::Choice, HostError>)> {
        let Ok(links) = &self.links else {
            return Vec::new();
        };
        let vpns = self.settings.vpns.iter().enumerate();
        let choose =
            |(place, vpn): (_, &VpnSettings)| (VpnId(place), vpn::choose(&vpn.interface, links));
        vpns.map(choose).collect()
    }

    /// The same of those that are there.
    pub fn vpns(&self) -> BTreeMap<VpnId, Vpn> {
        let choices = self.choices().into_iter();
        let there = choices.filter_map(|(id, choice)| Some((id, choice.ok()?.found()?)));
        there.collect()
    }

    /// Whether an interface is a VPN's.
    pub fn is_vpn(&self, index: IfIndex) -> bool {
        self.vpns().values().any(|vpn| vpn.index == index)
    }

    /// The interfaces; none where they could not be listed.
    pub fn all_links(&self) -> &[Link] {
        self.links.as_deref().unwrap_or_default()
    }

    /// The interface of that index.
    pub fn link(&self, index: IfIndex) -> Option<&Link> {
        self.all_links().iter().find(|link| link.index == index)
    }
}

impl Names {
    /// The name servers of resolv.conf.
    pub fn servers(&self) -> Vec<IpAddr> {
        let text = self.resolv_conf.as_deref().unwrap_or_default();
        let words = text.lines().map(|line| line.split_whitespace());
        let servers = words.filter_map(|mut words| {
            let server = (words.next()? == "nameserver").then(|| words.next())??;
            server.split('%').next()?.parse().ok()
        });
        servers.collect()
    }
}
