//! Where it is measured: a lab with servers, and a guest behind a bridge, which stands for a container.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use steer_tests::lab::{
    DockerVersion, Guest, Lab, Ns, Ran, Tunnel,
    plan::{Path, TUNNEL_V4},
};

use crate::{
    load::{
        Ask, Told,
        server::{BLOCKED, OPEN, READY},
    },
    options::Options,
};

/// The bridge of the guest.
pub const BRIDGE: &str = "br-bench";
/// The box on that bridge.
pub const BRIDGE_V4: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 1);
/// The box's own address on the direct path.
pub const BOX_V4: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);
/// The box's own address within the VPN.
pub const VPN_V4: Ipv4Addr = TUNNEL_V4;

/// Sysctls of all that connects, so that a run of one contender leaves nothing that another stumbles over.
const OF_CLIENTS: &str = "
    sysctl -qw net.ipv4.ip_local_port_range='10000 65000'
    sysctl -qw net.ipv4.tcp_tw_reuse=1
    sysctl -qw net.ipv4.tcp_no_metrics_save=1";
/// Of the box: the key, which the first to listen in a namespace makes otherwise, and which is part of what the box is like.
const OF_BOX: &str = "sysctl -qw net.ipv4.tcp_fastopen_key=1-2-3-4";
/// Of all that follow connections: those that have ended go at once, or there is room for no more.
const OF_CONNTRACK: &str = "
    sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_time_wait=1
    sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1";

/// Who puts a load on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A process of the box.
    Host,
    /// A container, behind a bridge.
    Container,
}

impl Who {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::Container];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Container => "container",
        }
    }

    /// Where it finds the box itself.
    pub const fn sees_box(self) -> Ipv4Addr {
        match self {
            Self::Host => Ipv4Addr::LOCALHOST,
            Self::Container => BRIDGE_V4,
        }
    }
}

/// Which path a load takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// As the host routes.
    Direct,
    /// Through the VPN.
    Vpn,
}

impl Via {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Direct, Self::Vpn];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Vpn => "VPN",
        }
    }

    /// The names that take it.
    pub const fn zone(self) -> &'static str {
        match self {
            Self::Direct => OPEN,
            Self::Vpn => BLOCKED,
        }
    }

    fn path(self) -> Path {
        match self {
            Self::Direct => Path::Direct,
            Self::Vpn => Path::Vpn,
        }
    }
}

/// A lab that is ready for loads.
pub struct Stage {
    _servers: Servers,
    guest: Guest,
    certificate: PathBuf,
    /// The lab; last, for it removes what the others stand in.
    pub lab: Lab,
}

impl Stage {
    /// Builds it; with Docker, and an image of that many octets, only where one is to be pulled.
    ///
    /// # Errors
    /// When a part of it cannot be had.
    pub fn up(options: &Options, image: Option<u64>) -> Result<Self> {
        let mut tell = |line: &str| eprintln!("  lab: {line}");
        let mut builder = Lab::builder()
            .tunnel(Tunnel::best_wireguard())
            .steer(&options.steer)
            .progress(&mut tell);
        if let Some(octets) = image {
            builder = builder.docker(DockerVersion::Installed).filling(octets);
        }
        let mut lab = builder.up()?;
        if image.is_some() {
            // A second start of dockerd leaves the box otherwise than the first one; those to come leave it as this one.
            lab.restart_docker_with(&[])?;
        }
        let guest = lab.guest(BRIDGE, 1)?;
        for ns in Ns::ALL {
            lab.shell(ns, OF_CLIENTS)?;
        }
        lab.shell(Ns::Box, OF_BOX)?;
        for ns in [Ns::Box, Ns::Isp, Ns::Vpn] {
            lab.shell(ns, OF_CONNTRACK)?;
        }
        let mut inside = lab.command_behind(&guest, "sh")?;
        Ran::of(inside.args(["-ec", OF_CLIENTS]))?.stdout()?;
        let certificate = certificate(&lab)?;
        let servers = Servers::start(&lab)?;
        Ok(Self {
            _servers: servers,
            guest,
            certificate,
            lab,
        })
    }

    /// The cgroup that processes put loads on from.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn cgroup(&self) -> Result<PathBuf> {
        self.lab.box_cgroup("loads")
    }

    /// Puts a load on, and sees to it that it took the path that it was to take.
    ///
    /// # Errors
    /// When the load fails, or goes elsewhere.
    pub fn load(&self, who: Who, via: Via, ask: &Ask) -> Result<Told> {
        let own = env::current_exe().context("cannot find this program's own path")?;
        let mut command = match who {
            Who::Host => self.lab.command_in(&self.cgroup()?, own)?,
            Who::Container => self.lab.command_behind(&self.guest, own)?,
        };
        let ran = Ran::of(command.arg("load").arg(serde_json::to_string(ask)?))?;
        let place = format!("{}, {}, {:?}", who.name(), via.name(), ask.load);
        if !ran.ok() {
            bail!("{place}: {}", ran.said());
        }
        let told: Told = serde_json::from_str(&ran.stdout)
            .with_context(|| format!("{place}: the load told nothing"))?;
        if let Some(seen) = told.seen {
            ensure!(
                Path::of(seen) == via.path(),
                "{place}: the server saw {seen}, which is another path"
            );
        }
        Ok(told)
    }

    /// The VPN's kind.
    pub fn tunnel(&self) -> &'static str {
        self.lab.tunnel().name()
    }

    /// The certificate of the servers.
    pub fn certificate(&self) -> PathBuf {
        self.certificate.clone()
    }
}

/// A place to listen in the box for those who see it so.
pub fn at(who: Who, port: u16) -> SocketAddr {
    SocketAddr::from((who.sees_box(), port))
}

/// The servers, until this is dropped.
struct Servers(Child);

impl Servers {
    fn start(lab: &Lab) -> Result<Self> {
        let own = env::current_exe().context("cannot find this program's own path")?;
        let mut command = lab.command(Ns::Internet, own)?;
        let dir = lab.dir();
        command.arg("serve");
        command.arg("--certificate").arg(dir.join("bench.pem"));
        command.arg("--key").arg(dir.join("bench.key"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the servers")?;
        let output = child.stdout.take().context("servers without output")?;
        let servers = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == READY, "the servers do not start");
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the certificate of the servers and its key.
fn certificate(lab: &Lab) -> Result<PathBuf> {
    let line = format!(
        "openssl req -x509 -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=steer-bench \
         -addext subjectAltName=DNS:*.{OPEN},DNS:*.{BLOCKED} -addext basicConstraints=critical,CA:FALSE \
         -keyout bench.key -out bench.pem"
    );
    let mut command = Command::new("openssl");
    command
        .args(line.split_whitespace().skip(1))
        .current_dir(lab.dir());
    Ran::of(&mut command)?
        .stdout()
        .context("cannot make a certificate")?;
    Ok(lab.dir().join("bench.pem"))
}
