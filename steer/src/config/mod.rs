//! What steer is to do: the configuration file and the flags, resolved into [`Settings`].

pub mod edit;
mod explain;
mod file;
mod json;
mod resolve;
mod rules;
pub mod sample;
mod scope;
mod sni;
mod tables;
mod vpn;

pub use crate::route::OnDown;
pub use file::ConfigFile;
pub(crate) use file::line_of;
pub(crate) use json::list_json;
pub use resolve::{Overrides, routing};
pub use rules::ListSummary;
pub use scope::{At, Forward, OnStop, Protocol, Scope, Selector, Way};
pub use sni::{Late, Sni};
pub use vpn::VpnSettings;

use crate::datapath::Tables;
use crate::origin::{Origin, Sourced};
use crate::route::{Numbers, VpnId};
use crate::rules::{BuildError, RuleSet};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file read when no other is named and it exists.
pub const DEFAULT_FILE: &str = "/etc/steer/steer.toml";

/// Everything a run needs to know, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Every file that was read, to be watched for changes.
    pub files: Vec<PathBuf>,
    /// The VPNs, at least one.
    pub vpns: Vec<VpnSettings>,
    /// That of whatever does not say which.
    pub default_vpn: VpnId,
    /// The cgroups whose processes are steered.
    pub cgroups: Vec<Sourced<CgroupChoice>>,
    /// The bridges whose containers are steered.
    pub bridges: Vec<Sourced<BridgeChoice>>,
    /// Where Docker is asked for its networks.
    pub docker: Sourced<DockerChoice>,
    /// Which names go where.
    pub rules: Arc<RuleSet>,
    /// What each list came to.
    pub lists: Vec<ListSummary>,
    /// Who is asked for names of the VPN, through the VPN, whomever their clients ask; none: whom those ask.
    pub dns_vpn: Vec<IpAddr>,
    /// Whether the exact names of the rules are resolved at the start, and again before they expire.
    pub resolve: bool,
    /// Which flows are read for the name in their first packets.
    pub sni: Sni,
    /// What is steered as a whole, in the order of the file.
    pub scopes: Vec<Scope>,
    /// The numbers that routing uses.
    pub routing: Numbers,
    /// How much the tables of the kernel programs have room for.
    pub tables: Tables,
    /// How much is printed.
    pub output: Output,
    /// What the kernel programs log.
    pub log_bpf: LogBpf,
    /// The directory that maps and programs are pinned in.
    pub bpffs: PathBuf,
    /// The directory of the lock and of what must be put back.
    pub run_dir: PathBuf,
    /// What the command line said, to bring together with the file again.
    flags: Overrides,
}

/// A VPN's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VpnChoice {
    /// The one tun, wireguard or ppp device that is up.
    Auto,
    /// This one.
    Named(String),
}

/// Cgroups whose processes are steered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Those of dockerd and containerd.
    Auto,
    /// This one: absolute, or relative to a cgroup2 mount point.
    Path(PathBuf),
}

/// Bridges whose containers are steered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BridgeChoice {
    /// `docker0` and those of Docker's networks.
    Auto,
    /// Those whose name matches: a name, or a pattern with `*` and `?`.
    Pattern(String),
}

/// Where Docker is asked for its networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerChoice {
    /// At `DOCKER_HOST`, if that is a Unix socket, or at the usual places.
    Auto,
    /// At this socket.
    Socket(PathBuf),
    /// Nowhere.
    Off,
}

/// How much is printed on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// Nothing but errors.
    Quiet,
    /// What is attached where, then a line for each name learned and each flow steered.
    #[default]
    Normal,
    /// What steer itself changes on the host as well.
    Verbose,
}

/// What the kernel programs log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogBpf {
    /// Nothing; the log calls then cost nothing.
    #[default]
    Off,
    /// Packets that are stopped, and why.
    Warn,
    /// And what becomes of all others.
    Debug,
}

impl LogBpf {
    /// The level as the loader takes it.
    pub fn level(self) -> Option<aya_log::Level> {
        match self {
            Self::Off => None,
            Self::Warn => Some(aya_log::Level::Warn),
            Self::Debug => Some(aya_log::Level::Debug),
        }
    }
}

impl Settings {
    /// Whether what is to be steered is waited for: the user says so, or nothing of it may be there before steer is.
    pub fn waits(&self) -> bool {
        self.flags.wait || !self.scopes.is_empty()
    }

    /// The name servers that are asked through a VPN, each once for each.
    pub fn resolvers(&self) -> BTreeSet<(VpnId, IpAddr)> {
        let of_scopes = self.scopes.iter().flat_map(|scope| {
            let vpn = scope.vpn.unwrap_or(self.default_vpn);
            scope.dns.iter().map(move |server| (vpn, *server))
        });
        let of_names = self.dns_vpn.iter();
        let of_names = of_names.map(|server| (self.default_vpn, *server));
        of_scopes.chain(of_names).collect()
    }

    /// Whether there are scopes of containers, of which Docker has to tell.
    pub fn scopes_containers(&self) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope.selector.is_of_containers())
    }

    /// The cgroups of scopes, each with the scope's place.
    pub fn scoped_cgroups(&self) -> impl Iterator<Item = (usize, Sourced<CgroupChoice>)> {
        let scopes = self.scopes.iter().enumerate();
        scopes.filter_map(|(place, scope)| match &scope.selector {
            Selector::Cgroup(path) => {
                let choice = CgroupChoice::Path(path.clone());
                Some((place, Sourced::new(choice, scope.origin.clone())))
            }
            _ => None,
        })
    }

    /// The scopes with a port that their VPN's gateway assigns, and that VPN.
    pub fn assigned(&self) -> impl Iterator<Item = (&Scope, VpnId)> {
        let asks = |scope: &&Scope| scope.forward.iter().any(|it| it.at == At::NatPmp);
        let scopes = self.scopes.iter().filter(asks);
        scopes.map(|scope| (scope, scope.vpn.unwrap_or(self.default_vpn)))
    }

    /// All cgroups whose processes are steered: those to attach to, and those of scopes.
    pub fn all_cgroups(&self) -> Vec<Sourced<CgroupChoice>> {
        let of_scopes = self.scoped_cgroups().map(|(_, choice)| choice);
        self.cgroups.iter().cloned().chain(of_scopes).collect()
    }

    /// The default one of the VPNs.
    pub fn vpn(&self) -> &VpnSettings {
        &self.vpns[self.default_vpn.0]
    }

    /// The VPN of a name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn vpn_named(&self, name: &str) -> Result<VpnId, String> {
        vpn::named(&self.vpns, name)
    }

    /// The name of a VPN where there are several: of one alone it need not be said which it is.
    pub fn vpn_name(&self, vpn: VpnId) -> Option<&str> {
        let several = self.vpns.len() > 1;
        let vpn = self.vpns.get(vpn.0).filter(|_| several)?;
        Some(&vpn.name)
    }

    /// The default of [`Settings::bpffs`].
    pub fn default_bpffs() -> &'static Path {
        Path::new("/sys/fs/bpf/steer")
    }

    /// The default of [`Settings::run_dir`].
    pub fn default_run_dir() -> &'static Path {
        Path::new("/run/steer")
    }
}

/// Why there are no settings to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A line of the file or a flag is wrong.
    #[error("{origin}: {why}")]
    Invalid {
        /// Which.
        origin: Origin,
        /// What is wrong and what was expected.
        why: String,
    },
    /// The rules contradict each other, or are too many.
    #[error(transparent)]
    Rules(#[from] BuildError),
}

impl ConfigError {
    fn invalid(origin: &Origin, why: impl Into<String>) -> Self {
        Self::Invalid {
            origin: origin.clone(),
            why: why.into(),
        }
    }
}

#[cfg(test)]
mod tests;
