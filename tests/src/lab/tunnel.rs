//! The tunnel between the box and the VPN's far end: real, and both families inside.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    Lab, Ns,
    exec::{Daemon, Ran, script, until},
    plan::{SECOND_VPN_V4, SECOND_VPN_V6},
    tls::Certificates,
};
use crate::pace::patience;

/// Which tunnel joins the box and the VPN's far end. Both carry IPv4 and IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// OpenVPN with certificates of the lab's own CA; `tun0` in the box.
    #[default]
    OpenVpn,
    /// wireguard-go; `wg0` in the box.
    WireGuardGo,
    /// The kernel's own WireGuard; `wg0` in the box.
    WireGuard,
}

/// Names the tunnel of labs that are not told which.
const CHOICE: &str = "STEER_LAB_TUNNEL";

impl Tunnel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenVpn, Self::WireGuardGo, Self::WireGuard];

    /// What [`chosen`](Self::chosen) calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenVpn => "openvpn",
            Self::WireGuardGo => "wireguard-go",
            Self::WireGuard => "wireguard",
        }
    }

    /// The one that `STEER_LAB_TUNNEL` names, else the default.
    pub fn chosen() -> Result<Self> {
        let Some(wanted) = std::env::var_os(CHOICE) else {
            return Ok(Self::default());
        };
        let known = Self::ALL.into_iter().find(|one| wanted == one.name());
        known.with_context(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{CHOICE} is {}: it can be one of {names}", wanted.display())
        })
    }

    /// The kernel's WireGuard where this kernel has it, else wireguard-go. Needs root.
    pub fn best_wireguard() -> Self {
        // In a namespace that ends with the command. The kernel loads its module by itself.
        let mut probe = Command::new("unshare");
        probe.args(["-n", "ip", "link", "add", "wg0", "type", "wireguard"]);
        if Ran::of(&mut probe).is_ok_and(|ran| ran.ok()) {
            Self::WireGuard
        } else {
            Self::WireGuardGo
        }
    }

    /// The name of its interface, at both ends.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::OpenVpn => "tun0",
            Self::WireGuardGo | Self::WireGuard => "wg0",
        }
    }
}

/// What tells a tunnel from another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// WireGuard's interface.
    pub(super) interface: &'static str,
    /// WireGuard's processes, at the far end and in the box.
    daemons: [&'static str; 2],
    /// Of the networks within it: 10.8.0.0/24 and fd00:8::/64.
    net: u8,
    /// Where WireGuard's far end listens; the near end has the next.
    port: u16,
}

/// Those of the lab's own.
const OWN: Numbers = Numbers {
    interface: "wg0",
    daemons: ["wireguard-vpn", "wireguard-box"],
    net: 8,
    port: 51820,
};
/// Those of [`Lab::second_tunnel`].
pub(super) const SECOND: Numbers = Numbers {
    interface: "wg1",
    daemons: ["second-wireguard-vpn", "second-wireguard-box"],
    net: 9,
    port: 51830,
};

impl Numbers {
    fn far_end(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 0, 1)
    }
}

/// What went through the tunnel, counted by the interface at its far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelBytes {
    /// From the box to the world.
    pub up: u64,
    /// From the world to the box.
    pub down: u64,
}

/// Brings the tunnel up and returns the processes of its ends; the kernel's has none.
pub(super) fn start(lab: &Lab) -> Result<Vec<Daemon>> {
    let mut daemons = match lab.tunnel {
        Tunnel::OpenVpn => openvpn(lab)?,
        Tunnel::WireGuardGo => wireguard_go(lab, OWN)?,
        Tunnel::WireGuard => wireguard(lab, OWN)?,
    };
    wait_for(lab, OWN, &mut daemons)?;
    Ok(daemons)
}

/// Brings up a second one beside it, of WireGuard, whose far end leaves by addresses of its own.
pub(super) fn start_second(lab: &Lab) -> Result<Vec<Daemon>> {
    let Numbers { net, .. } = SECOND;
    // A deprecated address is nobody's source but theirs.
    let exit = format!(
        "ip address add {SECOND_VPN_V4}/24 dev net
         ip -6 address add {SECOND_VPN_V6}/64 dev net nodad preferred_lft 0
         nft insert rule inet vpn postrouting oifname net ip saddr 10.{net}.0.0/24 snat ip to {SECOND_VPN_V4}
         nft insert rule inet vpn postrouting oifname net ip6 saddr fd00:{net}::/64 snat ip6 to {SECOND_VPN_V6}"
    );
    lab.shell(Ns::Vpn, &exit)?;
    let mut daemons = match Tunnel::best_wireguard() {
        Tunnel::WireGuard => wireguard(lab, SECOND)?,
        _ => wireguard_go(lab, SECOND)?,
    };
    wait_for(lab, SECOND, &mut daemons)?;
    Ok(daemons)
}

/// Waits until its far end answers.
fn wait_for(lab: &Lab, numbers: Numbers, daemons: &mut [Daemon]) -> Result<()> {
    // Nothing listens there, so an answer is a refusal; without a tunnel there is none.
    let far_end = numbers.far_end();
    let far = SocketAddr::from((far_end, 9));
    let limit = patience(Duration::from_millis(500));
    let answers = || {
        let tried = lab.within(Ns::Box, move || TcpStream::connect_timeout(&far, limit));
        tried.is_ok_and(|tried| tried.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused))
    };
    let limit = patience(Duration::from_secs(30));
    match daemons.last_mut() {
        Some(last) => last.wait(limit, answers),
        None => {
            ensure!(
                until(limit, answers),
                "{far_end} does not answer through it"
            );
            Ok(())
        }
    }
}

/// Takes down what ends with no process.
pub(super) fn stop(lab: &Lab) -> Result<()> {
    if lab.takes_default && lab.tunnel != Tunnel::OpenVpn {
        script(
            lab.command(Ns::Box, "sh")?,
            &format!("wg-quick down {}", quick(lab)),
        )?;
    }
    if lab.tunnel == Tunnel::WireGuard {
        let ends: &[Ns] = if lab.takes_default {
            &[Ns::Vpn]
        } else {
            &[Ns::Vpn, Ns::Box]
        };
        for ns in ends {
            lab.run(*ns, &["ip", "link", "del", lab.tunnel.interface()])?
                .stdout()?;
        }
    }
    Ok(())
}

/// The file that wg-quick reads, whose name is the interface's.
fn quick(lab: &Lab) -> String {
    lab.dir.join("wg0.conf").display().to_string()
}

pub(super) fn bytes(lab: &Lab) -> Result<TunnelBytes> {
    #[derive(Deserialize)]
    struct Link {
        stats64: Stats,
    }
    #[derive(Deserialize)]
    struct Stats {
        rx: Bytes,
        tx: Bytes,
    }
    #[derive(Deserialize)]
    struct Bytes {
        bytes: u64,
    }
    let mut ip = lab.command(Ns::Vpn, "ip")?;
    let text = Ran::of(ip.args(["-s", "-j", "link", "show", lab.tunnel.interface()]))?.stdout()?;
    let [link]: [Link; 1] = serde_json::from_str(&text).context("cannot read what ip printed")?;
    Ok(TunnelBytes {
        up: link.stats64.rx.bytes,
        down: link.stats64.tx.bytes,
    })
}

fn openvpn(lab: &Lab) -> Result<Vec<Daemon>> {
    let certificates = Certificates::make(&lab.dir)?;
    let end = |ns, name, own: &str| {
        let mut command = lab.server(ns, "openvpn")?;
        command.args([
            "--dev", "tun0", "--proto", "udp", "--port", "1194", "--verb", "3",
        ]);
        command
            .arg("--ca")
            .arg(&certificates.ca)
            .arg("--cert")
            .arg(&certificates.cert);
        command.arg("--key").arg(&certificates.key);
        command.args(own.split_whitespace());
        Daemon::start(name, command, &lab.dir)
    };
    let mut far = end(
        Ns::Vpn,
        "openvpn-vpn",
        "--tls-server --dh none --local 10.30.0.2
         --ifconfig 10.8.0.1 10.8.0.2 --ifconfig-ipv6 fd00:8::1/64 fd00:8::2",
    )?;
    // A client whose first packet meets nobody tries again seconds later.
    far.wait_said(patience(Duration::from_secs(10)), "link local (bound)")?;
    let redirect = if lab.takes_default {
        "--redirect-gateway def1 ipv6"
    } else {
        ""
    };
    let near = end(
        Ns::Box,
        "openvpn-box",
        &format!(
            "--tls-client --remote 10.30.0.2 --connect-retry 1 {redirect}
             --ifconfig 10.8.0.2 10.8.0.1 --ifconfig-ipv6 fd00:8::2/64 fd00:8::1"
        ),
    )?;
    Ok(vec![far, near])
}

fn wireguard(lab: &Lab, numbers: Numbers) -> Result<Vec<Daemon>> {
    let wg = numbers.interface;
    for (ns, settings) in wireguard_ends(lab, numbers)? {
        let text = if is_quick(lab, numbers) && ns == Ns::Box {
            settings
        } else {
            format!("ip link add {wg} type wireguard\n{settings}")
        };
        script(lab.command(ns, "sh")?, &text)
            .context("cannot make the kernel's WireGuard: wireguard-go needs no module")?;
    }
    Ok(Vec::new())
}

/// Whether wg-quick makes the near end.
fn is_quick(lab: &Lab, numbers: Numbers) -> bool {
    lab.takes_default && numbers.net == OWN.net
}

fn wireguard_go(lab: &Lab, numbers: Numbers) -> Result<Vec<Daemon>> {
    let wg = numbers.interface;
    // Its control socket has a fixed place, which the two ends and other labs would share: each
    // end gets a folder of its own over it, and is configured from within.
    let end = |(ns, settings): (Ns, String)| {
        let folder = lab.dir.join(format!("{wg}-{}", ns.suffix()));
        std::fs::create_dir_all(&folder)?;
        let mut command = lab.server(ns, "sh")?;
        let folder = folder.display();
        let serve = if is_quick(lab, numbers) && ns == Ns::Box {
            // It starts the program by itself.
            format!(
                "export WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go; {settings}; exec sleep infinity"
            )
        } else {
            format!(
                "wireguard-go -f {wg} & until wg show {wg} >/dev/null 2>&1; do sleep 0.05; done
                 {settings}; wait"
            )
        };
        command.arg("-ec").arg(format!(
            "mkdir -p /run/wireguard; mount --bind {folder} /run/wireguard
             {serve}"
        ));
        let [far, near] = numbers.daemons;
        let name = if ns == Ns::Vpn { far } else { near };
        Daemon::start(name, command, &lab.dir)
    };
    wireguard_ends(lab, numbers)?.into_iter().map(end).collect()
}

/// The settings of both ends, as commands; the box's, which begins to talk, is the last.
fn wireguard_ends(lab: &Lab, numbers: Numbers) -> Result<[(Ns, String); 2]> {
    let dir = lab.dir.display();
    let Numbers {
        interface: wg,
        net,
        port,
        ..
    } = numbers;
    let near_port = port + 1;
    let make = format!(
        "umask 077; cd {dir}
         for end in vpn box; do wg genkey >{wg}-$end.key; wg pubkey <{wg}-$end.key; done"
    );
    let public = Ran::of(Command::new("sh").args(["-ec", &make]))?.stdout()?;
    let (vpn, near) = public.trim().split_once('\n').context("wg made no keys")?;
    if is_quick(lab, numbers) {
        let key = std::fs::read_to_string(lab.dir.join(format!("{wg}-box.key")))?;
        std::fs::write(
            quick(lab),
            format!(
                "[Interface]\nPrivateKey = {key}Address = 10.{net}.0.2/24, fd00:{net}::2/64\nListenPort = {near_port}\n\
                 [Peer]\nPublicKey = {vpn}\nEndpoint = 10.30.0.2:{port}\nPersistentKeepalive = 20\n\
                 AllowedIPs = 0.0.0.0/0, ::/0\n"
            ),
        )?;
    }
    let address = |end: u8| {
        format!(
            "printf '%s\\n' 'link set {wg} up' 'addr add 10.{net}.0.{end}/24 dev {wg}' \\
                 'addr add fd00:{net}::{end}/64 dev {wg} nodad' | ip -batch -"
        )
    };
    Ok([
        (
            Ns::Vpn,
            format!(
                "wg set {wg} listen-port {port} private-key {dir}/{wg}-vpn.key \
                     peer {near} allowed-ips 10.{net}.0.2/32,fd00:{net}::2/128
                 {}",
                address(1)
            ),
        ),
        (
            Ns::Box,
            if is_quick(lab, numbers) {
                format!("wg-quick up {}", quick(lab))
            } else {
                format!(
                    "wg set {wg} listen-port {near_port} private-key {dir}/{wg}-box.key \
                     peer {vpn} endpoint 10.30.0.2:{port} persistent-keepalive 20 \
                     allowed-ips 0.0.0.0/0,::/0
                 {}",
                    address(2)
                )
            },
        ),
    ])
}
