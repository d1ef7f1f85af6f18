//! Who is compared: each is set up in the box, and taken down so that the box is as before.

mod nftset;
mod nothing;
mod process;
mod squid;
mod steer;

use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::{HostSnapshot, Ns, plan::RESOLVER_V4};

use crate::{
    load::server::{BLOCKED, RESOLVER},
    stage::{Stage, Who},
};

/// A way to send some names through a VPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// Nothing chooses: a route leads the addresses of the VPN's names there. The limit.
    Nothing,
    /// steer.
    Steer,
    /// dnsmasq fills a set of nftables from its answers, nftables marks, a rule routes by the mark.
    Nftset,
    /// squid, which clients ask to CONNECT, and which sends by the address that a name's list has.
    Squid,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Steer, Self::Nftset, Self::Squid];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Steer => "steer",
            Self::Nftset => "dnsmasq + nftset",
            Self::Squid => "squid",
        }
    }

    /// Sets it up.
    ///
    /// # Errors
    /// When it does not start.
    pub fn up(self, stage: &Stage) -> Result<Standing> {
        let before = HostSnapshot::take(&stage.lab)?;
        let part: Box<dyn Part> = match self {
            Self::Nothing => Box::new(nothing::Routes::up(stage)?),
            Self::Steer => Box::new(steer::Running::up(stage)?),
            Self::Nftset => Box::new(nftset::Resolver::up(stage)?),
            Self::Squid => Box::new(squid::Proxy::up(stage)?),
        };
        Ok(Standing {
            contender: self,
            part,
            before,
        })
    }
}

/// What is set up of a contender.
trait Part {
    /// Whom clients ask for names.
    fn resolver(&self, _who: Who) -> SocketAddr {
        (RESOLVER, 53).into()
    }

    /// The proxy that clients go by.
    fn proxy(&self, _who: Who) -> Option<SocketAddr> {
        None
    }

    /// What it keeps in memory.
    fn memory(&self, stage: &Stage) -> Result<Vec<Kept>>;

    /// Takes it down.
    fn down(self: Box<Self>, stage: &Stage) -> Result<()>;
}

/// A part of a contender's memory.
pub struct Kept {
    /// Whose it is: "processes" or "kernel".
    pub whose: &'static str,
    /// How many octets.
    pub octets: u64,
}

/// A contender that is set up.
pub struct Standing {
    /// Which.
    pub contender: Contender,
    part: Box<dyn Part>,
    before: HostSnapshot,
}

impl Standing {
    /// Whom clients ask for names.
    pub fn resolver(&self, who: Who) -> SocketAddr {
        self.part.resolver(who)
    }

    /// Whether clients ask another resolver than without it.
    pub fn changes_names(&self) -> bool {
        self.resolver(Who::Host).ip() != RESOLVER
    }

    /// The proxy that clients go by.
    pub fn proxy(&self, who: Who) -> Option<SocketAddr> {
        self.part.proxy(who)
    }

    /// What it keeps in memory now.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn memory(&self, stage: &Stage) -> Result<Vec<Kept>> {
        self.part.memory(stage)
    }

    /// Takes it down.
    ///
    /// # Errors
    /// When something of it is left.
    pub fn down(self, stage: &Stage) -> Result<()> {
        let name = self.contender.name();
        self.part
            .down(stage)
            .with_context(|| format!("{name} cannot be taken down"))?;
        let left = self.before.diff(&HostSnapshot::take(&stage.lab)?);
        ensure!(left.is_empty(), "after {name} the box is another:\n{left}");
        Ok(())
    }
}

/// Names of which nobody asks here, so that a choice is made among many.
const OTHERS: u32 = 1000;

/// What takes the VPN: each name and all below it.
fn suffixes() -> impl Iterator<Item = String> {
    let docker = [
        "registry-1.docker.io",
        "auth.docker.io",
        "index.docker.io",
        "hub.docker.com",
    ]
    .map(str::to_owned);
    let own = std::iter::once(BLOCKED.to_owned());
    let others = (0..OTHERS).map(|number| format!("site{number}.listed.example"));
    own.chain(docker).chain(others)
}

/// Has dockerd and all else in the box ask this resolver.
fn resolve_by(stage: &Stage, resolver: std::net::Ipv4Addr) -> Result<()> {
    let file = stage.lab.dir().join("resolv.conf");
    // In place: it is laid over the one of dockerd.
    std::fs::write(&file, format!("nameserver {resolver}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Has it ask whom the lab's box asks otherwise.
fn resolve_as_before(stage: &Stage) -> Result<()> {
    resolve_by(stage, RESOLVER_V4)
}

/// Runs `ip` commands in the box.
fn ip(stage: &Stage, lines: &[String]) -> Result<()> {
    let mut script = String::new();
    for line in lines {
        let _ = writeln!(script, "ip {line}");
    }
    stage.lab.shell(Ns::Box, &script).map(drop)
}
