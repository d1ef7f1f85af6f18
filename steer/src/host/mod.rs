//! What is there on the machine: the VPN's interface, the bridges, the cgroups, and what the kernel offers.

pub mod bridge;
pub mod cgroup;
pub mod conntrack;
pub mod docker;
pub mod docker_events;
pub mod gauge;
mod home;
pub mod inventory;
pub mod link;
pub mod netlink;
pub mod netns;
pub mod privileges;
pub mod process;
pub mod requirements;
pub mod resolver;
pub mod sock_diag;
pub mod vpn;

use crate::config::Settings;
use crate::error::sentence;
use crate::origin::Origin;
use crate::route::{OnDown, Vpn};
pub use bridge::Bridge;
pub use cgroup::Cgroup;
pub use gauge::Gauge;
pub use home::home;
pub use link::{Kind, Link};
pub use netns::NetnsCookie;
use std::io;
use std::path::PathBuf;

/// What a run attaches to and routes through.
#[derive(Clone, Debug)]
pub struct Host {
    /// The interfaces.
    pub links: Vec<Link>,
    /// The VPNs' interfaces, as far as they are there.
    pub vpns: Vec<Option<Vpn>>,
    /// The cgroups whose processes are steered; none of them lies below another.
    pub cgroups: Vec<Cgroup>,
    /// The bridges whose containers are steered.
    pub bridges: Vec<Bridge>,
    /// The network namespace that steer runs in, as far as it is known: a socket tells from 5.14 on, before that a program.
    pub netns: Option<NetnsCookie>,
    /// What the user should know and is no error, a sentence each.
    pub notes: Vec<String>,
}

impl Host {
    /// Finds what the settings ask for, in the network namespace of this process.
    ///
    /// # Errors
    /// Something that the settings name is not there, or what is to be found by itself cannot be.
    pub async fn discover(settings: &Settings) -> Result<Self, HostError> {
        let links = link::list().await?;
        let mut notes = Vec::new();
        let mut vpns = Vec::new();
        for vpn in &settings.vpns {
            vpns.push(match vpn::choose(&vpn.interface, &links)? {
                vpn::Choice::Found(vpn) => Some(vpn),
                vpn::Choice::Awaited(why) => {
                    let meanwhile = match vpn.on_down.value {
                        OnDown::Block => "is blocked",
                        OnDown::Direct => "goes direct, as on_down says,",
                    };
                    notes.push(format!(
                        "{why}. Until it comes, what the rules send there {meanwhile}"
                    ));
                    None
                }
            });
        }
        let hierarchy = cgroup::Hierarchy::read()?;
        let mut cgroups = hierarchy.resolve(&settings.cgroups, &mut notes)?;
        if settings.scoped_cgroups().next().is_some() {
            // Those of scopes are awaited.
            cgroups = hierarchy.present(&settings.all_cgroups());
        }
        let networks = match docker::networks(&settings.docker, &links, &mut notes).await {
            Err(error @ HostError::Docker { .. }) if settings.waits() => {
                notes.push(format!("{}: it is awaited", sentence(&error)));
                docker::by_name(&links)
            }
            networks => networks?,
        };
        let bridges = bridge::resolve(&settings.bridges, &links, &networks, &mut notes)?;
        let is_vpn = |bridge: &&Bridge| {
            let mut there = vpns.iter().flatten();
            there.any(|vpn| vpn.name == bridge.name)
        };
        if let Some(bridge) = bridges.iter().find(is_vpn) {
            return Err(HostError::VpnIsSteered {
                name: bridge.name.clone(),
            });
        }
        if cgroups.is_empty() && bridges.is_empty() {
            if !settings.waits() {
                return Err(HostError::NothingToSteer);
            }
            notes.push(
                "there is nothing to steer yet: it is, as soon as Docker is there".to_owned(),
            );
        }
        Ok(Self {
            links,
            vpns,
            cgroups,
            bridges,
            netns: netns::cookie(),
            notes,
        })
    }
}

/// Why the machine does not offer what is asked for.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel or a file of the system did not answer.
    #[error("cannot read {what}")]
    Read {
        /// What was asked for.
        what: String,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The list of interfaces did not come.
    #[error("cannot list the network interfaces")]
    Links(#[source] rtnetlink::Error),
    /// Something that a setting names, or leaves to steer, is not there.
    #[error("{origin}: {why}")]
    Missing {
        /// The setting.
        origin: Origin,
        /// What is not there and what is.
        why: String,
    },
    /// What should be found by itself cannot be told.
    #[error("{0}")]
    Unclear(String),
    /// Docker was to be asked at a place of the user's, and did not answer.
    #[error("{origin}: Docker does not answer at {}; see that dockerd runs and the path is right, or use --docker off", socket.display())]
    Docker {
        /// The setting.
        origin: Origin,
        /// Where.
        socket: PathBuf,
        /// How it failed.
        #[source]
        source: docker::AskError,
    },
    /// The VPN's interface is one of the bridges to steer.
    #[error(
        "{name} is to be the VPN and a bridge to steer at once; name another VPN with --vpn IFACE or other bridges with --bridge NAME"
    )]
    VpnIsSteered {
        /// The interface.
        name: String,
    },
    /// There is neither a cgroup nor a bridge.
    #[error(
        "there is nothing to steer: no dockerd or containerd runs in this network namespace, and no bridge of Docker's is here; start Docker, have it awaited with --wait, or say what to steer with --cgroup PATH or --bridge NAME"
    )]
    NothingToSteer,
}

impl HostError {
    /// An error about a setting; one that nobody made names no place.
    fn about(origin: &Origin, why: String) -> Self {
        match origin {
            Origin::Default => Self::Unclear(why),
            _ => Self::Missing {
                origin: origin.clone(),
                why,
            },
        }
    }
}
