//! What most end-to-end tests begin with: a light lab in which steer sends the names below
//! `fresh.example` through the VPN, for a cgroup and for a guest behind a bridge.

mod shared;
mod zone;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    client::{Ask, Lookup, Told},
    lab::{
        Answer, Client, Guest, Lab, Ns, Question, Resolver, Servers, Steer,
        plan::{Path, Range},
    },
};

pub use shared::Shared;
pub use zone::{Forged, HUGE, MANY};

/// The port that the echo servers listen on.
pub const PORT: u16 = 8443;
/// The name of the steered bridge.
pub const BRIDGE: &str = "br-guest";

/// How bridges are attached to, for [`Fixture::steer_attached`]: as the kernel has it, by tcx where it can, and by the
/// filters of older ones.
pub const ATTACHMENTS: [&str; 2] = ["auto", "clsact"];

/// A lab with servers and a name server, and what steer is to steer in it.
pub struct Fixture {
    /// The name server. Names are `nNUMBER.fresh.example`, steered, and `nNUMBER.plain.example`,
    /// of which no rule speaks; both have the address [`fresh`] gives for the number.
    pub resolver: Resolver,
    /// The echo servers, on [`PORT`].
    pub servers: Servers,
    /// The guest behind [`BRIDGE`].
    pub guest: Guest,
    /// The lab; last, for it removes what the others stand in.
    pub lab: Lab,
}

impl Fixture {
    /// Builds it, with an honest name server.
    pub fn up() -> Result<Self> {
        Self::with_zone(|question| vec![honest(question)])
    }

    /// Builds it, with a name server that answers what `zone` says.
    pub fn with_zone(
        zone: impl Fn(&Question) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::in_lab(Lab::builder().up()?, zone)
    }

    /// Builds it in a light lab of the test's own, with the name server of [`up`](Self::up).
    pub fn up_in(lab: Lab) -> Result<Self> {
        Self::in_lab(lab, |question| vec![honest(question)])
    }

    fn in_lab(
        lab: Lab,
        zone: impl Fn(&Question) -> Vec<Answer> + Send + Sync + 'static,
    ) -> Result<Self> {
        let guest = lab.guest(BRIDGE, 1)?;
        lab.box_cgroup("steered")?;
        let resolver = lab.resolver(zone)?;
        let servers = lab.listen(PORT)?;
        Ok(Self {
            resolver,
            servers,
            guest,
            lab,
        })
    }

    /// A configuration that steers the cgroup and the bridge, with rules within rules. What is learned is learned from
    /// the clients' questions alone.
    pub fn config(&self) -> String {
        format!(
            "[vpn]\ninterface = \"{}\"\n\
             [attach]\ncgroups = [\"{}\"]\nbridges = [\"{BRIDGE}\"]\ndocker = \"off\"\n\
             [rules]\npresets = []\n\
             vpn = [\".fresh.example\", \"n9.layers.fresh.example\"]\n\
             direct = [\"*.layers.fresh.example\", \"exact7.fresh.example\"]\n\
             [dns]\nresolve = false\n",
            self.lab.tunnel_interface(),
            self.lab.cgroup().join("steered").display(),
        )
    }

    /// Starts steer with [`config`](Self::config) and waits until it is ready.
    pub fn steer(&self) -> Result<Steer> {
        self.lab.steer(&self.config(), &[])
    }

    /// The same by a `config` of the test's own, with one of the [`ATTACHMENTS`].
    pub fn steer_attached(&self, config: &str, attachment: &str) -> Result<Steer> {
        let environment = [("STEER_ATTACHMENT", attachment)];
        let mut steer = self.lab.steer_started(config, &[], &environment)?;
        steer.wait_ready()?;
        Ok(steer)
    }

    /// Runs a command line in the box, and returns what it prints.
    pub fn in_box(&self, line: &str) -> Result<String> {
        self.lab.shell(Ns::Box, line)
    }

    /// A client in the steered cgroup, then one behind the steered bridge, with names for messages.
    pub fn clients(&self) -> Result<[(&'static str, Client); 2]> {
        let cgroup = self.lab.box_cgroup("steered")?;
        Ok([
            ("a process", self.lab.client_in(&cgroup)?),
            ("a guest", self.lab.client_behind(&self.guest)?),
        ])
    }

    /// The sum over all CPUs of one of steer's counters in the kernel.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let dump = self.dump("STATS")?;
        let field = format!("\"{name}\": ");
        let counts = dump
            .lines()
            .filter_map(|line| line.trim().strip_prefix(&field));
        let counts: Vec<u64> = counts
            .map(|count| count.trim_end_matches(',').parse())
            .collect::<Result<_, _>>()?;
        ensure!(!counts.is_empty(), "steer has no counter {name}: {dump}");
        Ok(counts.iter().sum())
    }

    /// The sum over all CPUs of what steer has counted in the kernel as `volume`, such as `processes_vpn`: its `field`, such
    /// as `bytes_in`.
    pub fn traffic(&self, volume: &str, field: &str) -> Result<u64> {
        let dump = self.dump("TRAFFIC")?;
        let dump: serde_json::Value = serde_json::from_str(&dump)?;
        let cpus = dump[0]["values"].as_array();
        let cpus = cpus.with_context(|| format!("not a map for each CPU: {dump}"))?;
        let count = |cpu: &serde_json::Value| cpu["value"][volume][field].as_u64();
        let counts: Option<Vec<_>> = cpus.iter().map(count).collect();
        let counts = counts.with_context(|| format!("no {volume} with {field}: {dump}"))?;
        Ok(counts.iter().sum())
    }

    /// One of steer's maps, as bpftool shows it.
    fn dump(&self, map: &str) -> Result<String> {
        let map = self.lab.steer_bpffs().join(map);
        let map = map.to_str().context("the lab's folder is not UTF-8")?;
        let dump = ["bpftool", "map", "dump", "pinned", map];
        self.lab.run(Ns::Box, &dump)?.stdout()
    }

    /// What the servers and the tunnel's far end count of `work`: bytes through the tunnel, both ways.
    pub fn through_tunnel(&self, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        let before = self.lab.tunnel_bytes()?;
        work()?;
        let after = self.lab.tunnel_bytes()?;
        Ok(after.up - before.up + after.down - before.down)
    }
}

/// The address of the names with `number`.
pub fn fresh(number: u16, v6: bool) -> IpAddr {
    if v6 {
        Range::Fresh.host_v6(number).into()
    } else {
        Range::Fresh.host_v4(number).into()
    }
}

/// Its echo server.
pub fn server(number: u16, v6: bool) -> SocketAddr {
    SocketAddr::new(fresh(number, v6), PORT)
}

/// The question for `nNUMBER.ZONE.example`, asked by UDP over the family that it asks for.
pub fn lookup(number: u16, zone: &str, v6: bool) -> Lookup {
    Lookup {
        resolver: if v6 { Resolver::V6 } else { Resolver::V4 },
        name: format!("n{number}.{zone}.example"),
        v6,
        tcp: false,
    }
}

/// The number in a question's name.
pub fn number(question: &Question) -> u16 {
    let label = question.name.split('.').next().unwrap_or_default();
    label
        .trim_start_matches(|letter: char| letter.is_ascii_alphabetic())
        .parse()
        .unwrap_or_default()
}

/// The true answer to a question.
pub fn honest(question: &Question) -> Answer {
    Answer::honest([fresh(number(question), question.v6)])
}

/// Has `client` look up a name.
pub fn resolve(client: &mut Client, lookup: Lookup) -> Result<Vec<IpAddr>> {
    match client.ask(&Ask::Resolve(lookup))? {
        Told::Addresses(addresses) => Ok(addresses),
        other => bail!("a lookup told {other:?}"),
    }
}

/// Has `client` connect, and returns the connection with the path that the server saw.
pub fn open(client: &mut Client, server: SocketAddr) -> Result<(usize, Path)> {
    match client.ask(&Ask::Open(server))? {
        Told::Opened { connection, seen } => Ok((connection, Path::of(seen.ip()))),
        other => bail!("a connection told {other:?}"),
    }
}

/// Has `client` send a datagram, and returns the path that the server saw.
pub fn datagram(client: &mut Client, server: SocketAddr, connected: bool) -> Result<Path> {
    match client.ask(&Ask::Datagram { server, connected })? {
        Told::Seen(seen) => Ok(Path::of(seen.ip())),
        other => bail!("a datagram told {other:?}"),
    }
}

/// Has `client` send this many bytes on a connection and read their echo.
pub fn exchange(client: &mut Client, connection: usize, bytes: usize) -> Result<()> {
    client.ask(&Ask::Exchange { connection, bytes }).map(drop)
}
