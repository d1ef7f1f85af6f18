//! A Docker host, an Internet with a geo-block and a VPN, in network namespaces.
//!
//! ```text
//! box --- isp --- internet    box: the Docker host, dockerd in a cgroup of its own
//!          |          |       isp: masquerades, resets TCP to the blocked ranges
//!          +-- vpn ---+       vpn: the far end of the tunnel, masquerades
//! ```
//!
//! Every part is real: dockerd, a registry behind nginx with TLS, dnsmasq, OpenVPN or
//! WireGuard. A server's own log is the judge of the path that a request took. Two labs can
//! be up at once, and a lab is removed with the process that made it, however that ends.

mod acts;
mod bpf;
mod capture;
mod clients;
mod docker;
mod exec;
mod firewalld;
mod hub;
mod image;
mod keeper;
mod mapper;
pub mod plan;
mod resolver;
mod screen;
mod servers;
mod sid;
mod snapshot;
mod steer;
mod systemd;
mod tls;
mod topology;
mod tunnel;
mod web;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

pub use acts::{Act, Demo, DemoOptions, Row, demo, grouped};
pub use bpf::Hook;
pub use capture::Capture;
pub use clients::{Client, Guest};
pub use docker::{DockerVersion, Network};
pub use exec::Ran;
pub use firewalld::Firewalld;
pub use hub::Seen;
pub use image::{FILLING, IMAGE};
pub use keeper::down;
pub use mapper::Mapper;
pub use resolver::{Answer, Question, Resolver};
pub use screen::Screen;
pub use servers::{Contact, Servers};
pub use sid::{fetch_sid_docker, fetch_sid_web, sid_cache};
pub use snapshot::HostSnapshot;
pub use steer::Steer;
pub use systemd::Systemd;
pub use topology::Ns;
pub use tunnel::{Tunnel, TunnelBytes};
pub use web::{Curl, Request, Web};

use docker::Docker;
use exec::{Daemon, Place};
use keeper::Keeper;

use crate::pace::patience;

/// Which kinds of address the lab's resolver gives, and by which it is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// A and AAAA.
    #[default]
    Both,
    /// A alone.
    V4,
    /// AAAA alone, from a resolver that is reached over IPv6.
    V6,
}

impl Families {
    fn v4(self) -> bool {
        self != Self::V6
    }

    fn v6(self) -> bool {
        self != Self::V4
    }
}

/// Where the resolver is that the box's `/etc/resolv.conf` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolverPlace {
    /// In the Internet.
    #[default]
    Internet,
    /// On the box's own loopback, forwarding to the Internet's; only in a lab with Docker.
    Loopback,
}

/// What a lab is to have; [`up`](Builder::up) builds it.
#[derive(Default)]
pub struct Builder<'a> {
    docker: Option<DockerVersion>,
    tunnel: Option<Tunnel>,
    takes_default: bool,
    families: Families,
    resolver: ResolverPlace,
    steer: Option<PathBuf>,
    filling: Option<u64>,
    progress: Option<&'a mut dyn FnMut(&str)>,
}

impl<'a> Builder<'a> {
    /// Adds Docker, and a Docker Hub for it. Without, the lab is light: namespaces and a tunnel.
    pub fn docker(mut self, version: DockerVersion) -> Self {
        self.docker = Some(version);
        self
    }

    /// Chooses the tunnel, which otherwise `STEER_LAB_TUNNEL` does.
    pub fn tunnel(mut self, tunnel: Tunnel) -> Self {
        self.tunnel = Some(tunnel);
        self
    }

    /// Has the tunnel take the box's default route: by OpenVPN's `redirect-gateway def1 ipv6`, by wg-quick's rules.
    pub fn tunnel_takes_default(mut self) -> Self {
        self.takes_default = true;
        self
    }

    /// Limits the addresses that the lab's resolver gives.
    pub fn families(mut self, families: Families) -> Self {
        self.families = families;
        self
    }

    /// Places the box's resolver.
    pub fn resolver(mut self, place: ResolverPlace) -> Self {
        self.resolver = place;
        self
    }

    /// Names the steer binary that the lab is to run; by default the one that cargo built.
    pub fn steer(mut self, binary: &Path) -> Self {
        self.steer = Some(binary.to_owned());
        self
    }

    /// Sizes the part of [`IMAGE`] that does not compress, by default [`FILLING`] octets.
    pub fn filling(mut self, octets: u64) -> Self {
        self.filling = Some(octets);
        self
    }

    /// Has each step told as it begins.
    pub fn progress(mut self, tell: &'a mut dyn FnMut(&str)) -> Self {
        self.progress = Some(tell);
        self
    }

    /// Builds the lab. What was built is removed again when a step fails.
    pub fn up(mut self) -> Result<Lab> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab needs root to make network namespaces: run it by sudo, or by `cargo xtask`"
        );
        let mut tell = |line: &str| {
            if let Some(progress) = &mut self.progress {
                progress(line);
            }
        };
        if self.docker == Some(DockerVersion::Sid) {
            fetch_sid_docker(&sid_cache(), &mut tell)?;
        }
        let tunnel = self.tunnel.map_or_else(Tunnel::chosen, Ok)?;
        tell("network namespaces: box, isp, internet, vpn");
        let mut lab = Lab::bare(tunnel)?;
        lab.steer = self.steer;
        lab.takes_default = self.takes_default;
        let nameserver = hub::nameserver(self.families, self.resolver);
        fs::write(
            lab.dir.join("resolv.conf"),
            format!("nameserver {nameserver}\n"),
        )?;
        lab.build_topology()
            .context("cannot build the lab's network")?;
        tell(&format!(
            "the tunnel {} ({})",
            tunnel.interface(),
            tunnel.name()
        ));
        lab.tunnel_ends = tunnel::start(&lab).context("the tunnel does not come up")?;
        if let Some(version) = self.docker {
            tell("the registry, its token service, the layer host, the resolver");
            let daemons = hub::start(&lab, self.families, self.resolver)?;
            lab.daemons.extend(daemons);
            tell(&format!("an image to pull: {IMAGE}"));
            image::publish(&lab, self.filling.unwrap_or(FILLING))?;
            tell("dockerd");
            lab.docker = Some(Docker::start(&lab, version)?);
        }
        Ok(lab)
    }
}

/// A lab that is up. Dropping it removes it.
pub struct Lab {
    name: String,
    dir: PathBuf,
    cgroup: PathBuf,
    tunnel: Tunnel,
    takes_default: bool,
    steer: Option<PathBuf>,
    docker: Option<Docker>,
    docker_environment: Vec<(String, String)>,
    tunnel_ends: Vec<Daemon>,
    daemons: Vec<Daemon>,
    // Last: it removes what the others ran in.
    keeper: Keeper,
}

impl Lab {
    /// Begins a lab.
    pub fn builder<'a>() -> Builder<'a> {
        Builder::default()
    }

    /// What the names of its namespaces and cgroups begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own folder, removed with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its cgroup, above all others of the lab.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A BPF file system of its own.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// The network namespace `ns`, a file that can be opened for setns.
    pub fn netns(&self, ns: Ns) -> PathBuf {
        Path::new("/run/netns").join(format!("{}-{}", self.name, ns.suffix()))
    }

    /// Makes a cgroup in the box, if it is not there, and returns its folder.
    pub fn box_cgroup(&self, name: &str) -> Result<PathBuf> {
        let dir = self.cgroup.join(name);
        fs::create_dir_all(&dir)
            .with_context(|| format!("cannot make the cgroup {}", dir.display()))?;
        Ok(dir)
    }

    /// A command that will run in the namespace `ns`, in a cgroup that nothing steers.
    pub fn command(&self, ns: Ns, program: impl AsRef<OsStr>) -> Result<Command> {
        self.place(ns, &self.box_cgroup("shell")?).command(program)
    }

    /// A command that will run in the box, in the cgroup that [`box_cgroup`](Lab::box_cgroup)
    /// returned.
    pub fn command_in(&self, cgroup: &Path, program: impl AsRef<OsStr>) -> Result<Command> {
        self.place(Ns::Box, cgroup).command(program)
    }

    /// Runs a command in the namespace `ns`.
    pub fn run(&self, ns: Ns, line: &[&str]) -> Result<Ran> {
        let (program, args) = line.split_first().context("there is no command to run")?;
        Ran::of(self.command(ns, program)?.args(args))
    }

    /// Runs a line of the shell in the namespace `ns`, to its first failure, and returns what it prints.
    pub fn shell(&self, ns: Ns, line: &str) -> Result<String> {
        self.run(ns, &["sh", "-ec", line])?.stdout()
    }

    /// Runs `work` on a thread of its own in the namespace `ns`. Sockets that it opens stay there.
    pub fn within<T: Send>(&self, ns: Ns, work: impl FnOnce() -> T + Send) -> Result<T> {
        exec::within(&self.netns(ns), work)
    }

    /// The requests that the lab's HTTP servers have answered, oldest first.
    pub fn seen(&self) -> Result<Vec<Seen>> {
        // nginx logs a request after the client has had its answer.
        thread::sleep(patience(Duration::from_millis(100)));
        hub::seen(&self.dir)
    }

    /// Bytes that went through the tunnel since it came up.
    pub fn tunnel_bytes(&self) -> Result<TunnelBytes> {
        tunnel::bytes(self)
    }

    /// Ends the tunnel: its interfaces vanish.
    pub fn tunnel_down(&mut self) -> Result<()> {
        self.tunnel_ends.clear();
        tunnel::stop(self)
    }

    /// Makes the tunnel anew.
    pub fn tunnel_up(&mut self) -> Result<()> {
        self.tunnel_ends = tunnel::start(self)?;
        Ok(())
    }

    /// Adds a second tunnel, whose far end leaves by addresses of its own, and returns its interface in the box. It stays
    /// until the lab is removed.
    pub fn second_tunnel(&mut self) -> Result<&'static str> {
        let ends = tunnel::start_second(self).context("the second tunnel does not come up")?;
        self.daemons.extend(ends);
        Ok(tunnel::SECOND.interface)
    }

    /// Which tunnel it has.
    pub fn tunnel(&self) -> Tunnel {
        self.tunnel
    }

    /// The tunnel's interface in the box.
    pub fn tunnel_interface(&self) -> &'static str {
        self.tunnel.interface()
    }

    /// Packets from the box that the ISP reset (TCP) or dropped (UDP) for where they went.
    pub fn blocked_by_isp(&self) -> Result<u64> {
        let text = self.run(Ns::Isp, &["nft", "list", "counters"])?.stdout()?;
        let counts = text
            .split("packets ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next());
        counts
            .map(|count| count.parse::<u64>().context("cannot read nft's counters"))
            .sum()
    }

    /// Lets the lab outlive this process, and tells how to enter it.
    pub fn keep(self) -> Result<String> {
        let Self {
            name,
            dir,
            docker,
            tunnel_ends,
            daemons,
            keeper,
            ..
        } = self;
        fs::write(dir.join("kept"), "")?;
        std::mem::forget((docker, tunnel_ends, daemons));
        keeper.keep()?;
        let enter = dir.join("enter");
        let dir = dir.display();
        fs::write(
            &enter,
            format!(
                "# A shell, or the command given, in the box of this lab.\n\
                 exec nsenter --net=/run/netns/{name}-box unshare -m bash -c '\n\
                 mount --bind {dir}/resolv.conf /etc/resolv.conf\n\
                 export DOCKER_HOST=unix://{dir}/docker.sock CURL_CA_BUNDLE={dir}/ca.pem\n\
                 exec \"${{@:-bash}}\"' box \"$@\"\n"
            ),
        )?;
        Ok(format!("bash {}", enter.display()))
    }

    fn bare(tunnel: Tunnel) -> Result<Self> {
        let (name, dir) = keeper::new_lab()?;
        let cgroup2 = cgroup2()?;
        let keeper = Keeper::watch(&name, &dir, &cgroup2)?;
        let cgroup = cgroup2.join(&name);
        Ok(Self {
            name,
            dir,
            cgroup,
            tunnel,
            takes_default: false,
            steer: None,
            docker: None,
            docker_environment: Vec::new(),
            tunnel_ends: Vec::new(),
            daemons: Vec::new(),
            keeper,
        })
    }

    fn build_topology(&self) -> Result<()> {
        fs::create_dir_all(self.bpffs())?;
        let kind = Some("bpf");
        mount(kind, &self.bpffs(), kind, MsFlags::empty(), None::<&str>).with_context(|| {
            format!(
                "cannot mount a BPF file system at {}",
                self.bpffs().display()
            )
        })?;
        topology::build(self)
    }

    fn server(&self, ns: Ns, program: &str) -> Result<Command> {
        self.place(ns, &self.box_cgroup("servers")?)
            .command(program)
    }

    fn place(&self, ns: Ns, cgroup: &Path) -> Place {
        Place {
            netns: self.netns(ns),
            cgroup: cgroup.to_owned(),
            over: vec![(self.dir.join("resolv.conf"), "/etc/resolv.conf")],
            certificates: Some(self.dir.join("ca.pem")).filter(|file| file.exists()),
        }
    }
}

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or below it on a hybrid layout.
pub fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let place = fields.next()?;
            (fields.next()? == "cgroup2").then_some(place)
        })
        .next();
    mount.map(PathBuf::from).context(
        "cgroup2 is not mounted: mount it by `mount -t cgroup2 none /sys/fs/cgroup/unified`",
    )
}
