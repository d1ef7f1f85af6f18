//! Clients in the box: in a cgroup, or behind a bridge as a container is.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    Lab, Ns,
    exec::{Place, within},
    topology::{ip, nft, no_dad},
};
use crate::client::{Ask, Told};

/// A running client. Dropping it ends it.
pub struct Client {
    child: Child,
    asks: Option<ChildStdin>,
    tells: BufReader<ChildStdout>,
}

impl Client {
    /// Has it do something, and waits for what comes of it.
    pub fn ask(&mut self, ask: &Ask) -> Result<Told> {
        let asks = self.asks.as_mut().context("the client is ending")?;
        writeln!(asks, "{}", serde_json::to_string(ask)?).context("the client is gone")?;
        let mut line = String::new();
        self.tells.read_line(&mut line)?;
        let told: Result<Told, String> =
            serde_json::from_str(&line).context("the client ended instead of answering")?;
        told.map_err(|error| anyhow!(error))
    }

    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a client in the lab")?;
        let asks = child.stdin.take();
        let tells = BufReader::new(child.stdout.take().context("a client without output")?);
        Ok(Self { child, asks, tells })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.asks.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bridge in the box with a namespace behind it: what Docker makes for a container, without
/// Docker.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The bridge's name.
    pub bridge: String,
    netns: PathBuf,
}

impl Lab {
    /// Starts a client in a cgroup of the box.
    pub fn client_in(&self, cgroup: &Path) -> Result<Client> {
        Client::start(self.command_in(cgroup, client_binary()?)?)
    }

    /// Starts a client in a guest. Its cgroup is of its own, as a container's is.
    pub fn client_behind(&self, guest: &Guest) -> Result<Client> {
        Client::start(self.command_behind(guest, client_binary()?)?)
    }

    /// A command that will run in a guest, with the box's `/etc/resolv.conf`.
    pub fn command_behind(&self, guest: &Guest, program: impl AsRef<OsStr>) -> Result<Command> {
        let place = Place {
            netns: guest.netns.clone(),
            cgroup: self.box_cgroup(&format!("guest-{}", guest.bridge))?,
            ..self.place(Ns::Box, &self.cgroup)
        };
        place.command(program)
    }

    /// Makes a bridge `name` and a guest behind it, both families, masqueraded as Docker does.
    /// `number` tells its networks from those of other guests.
    pub fn guest(&self, name: &str, number: u8) -> Result<Guest> {
        let netns = format!("{}-{name}", self.name());
        let (v4, v6) = (format!("172.30.{number}"), format!("fd00:30:{number}:"));
        ip(Command::new("ip"), &format!("netns add {netns}"))?;
        let file = Path::new("/run/netns").join(&netns);
        within(&file, no_dad)??;
        let near = format!(
            "link add {name} type bridge
             link add veth-{name} type veth peer name eth0 netns {netns}
             link set veth-{name} master {name} up
             link set {name} up
             addr add {v4}.1/24 dev {name}
             addr add {v6}:1/64 dev {name} nodad\n"
        );
        ip(self.command(Ns::Box, "ip")?, &near)
            .with_context(|| format!("cannot make the bridge {name}"))?;
        let far = format!(
            "link set lo up
             link set eth0 up
             addr add {v4}.2/24 dev eth0
             addr add {v6}:2/64 dev eth0 nodad
             route add default via {v4}.1
             route add ::/0 via {v6}:1\n"
        );
        let mut inside = Command::new("ip");
        inside.args(["-n", &netns]);
        ip(inside, &far).with_context(|| format!("cannot make the guest behind {name}"))?;
        let masquerade = format!(
            "table inet guest-{name} {{
                 chain post {{
                     type nat hook postrouting priority srcnat
                     ip saddr {v4}.0/24 oifname != {name} masquerade
                     ip6 saddr {v6}:/64 oifname != {name} masquerade
                 }}
             }}"
        );
        nft(self.command(Ns::Box, "nft")?, &masquerade)?;
        Ok(Guest {
            bridge: name.to_owned(),
            netns: file,
        })
    }
}

/// The program `lab-client`, which cargo builds beside this one.
fn client_binary() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    let mut beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("lab-client"));
    match beside.find(|file| fs::exists(file).unwrap_or_default()) {
        Some(file) => Ok(file),
        None => bail!(
            "no lab-client beside {}: build it by `cargo build -p steer-tests`",
            own.display()
        ),
    }
}
