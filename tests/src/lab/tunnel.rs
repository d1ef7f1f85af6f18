//! The tunnel between the box and the VPN's far end: real, and both families inside.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{
    Lab, Ns,
    exec::{Daemon, Ran, script},
    tls::Certificates,
};

/// Which tunnel joins the box and the VPN's far end. Both carry IPv4 and IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnel {
    /// OpenVPN with certificates of the lab's own CA; `tun0` in the box.
    #[default]
    OpenVpn,
    /// wireguard-go; `wg0` in the box.
    WireGuardGo,
}

impl Tunnel {
    /// The name of its interface, at both ends.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::OpenVpn => "tun0",
            Self::WireGuardGo => "wg0",
        }
    }
}

const FAR_END: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);

/// What went through the tunnel, counted by the interface at its far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelBytes {
    /// From the box to the world.
    pub up: u64,
    /// From the world to the box.
    pub down: u64,
}

pub(super) fn start(lab: &Lab, tunnel: Tunnel) -> Result<Vec<Daemon>> {
    let mut daemons = match tunnel {
        Tunnel::OpenVpn => openvpn(lab)?,
        Tunnel::WireGuardGo => wireguard_go(lab)?,
    };
    let last = daemons.last_mut().context("a tunnel has two ends")?;
    last.wait(Duration::from_secs(30), || {
        // Nothing listens there, so an answer is a refusal; without a tunnel there is none.
        let far = SocketAddr::from((FAR_END, 9));
        let limit = Duration::from_millis(500);
        let tried = lab.within(Ns::Box, move || TcpStream::connect_timeout(&far, limit));
        tried.is_ok_and(|tried| tried.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused))
    })?;
    Ok(daemons)
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
    far.wait_said(Duration::from_secs(10), "link local (bound)")?;
    let near = end(
        Ns::Box,
        "openvpn-box",
        "--tls-client --remote 10.30.0.2 --connect-retry 1
         --ifconfig 10.8.0.2 10.8.0.1 --ifconfig-ipv6 fd00:8::2/64 fd00:8::1",
    )?;
    Ok(vec![far, near])
}

fn wireguard_go(lab: &Lab) -> Result<Vec<Daemon>> {
    // Its control socket has a fixed place, which the two ends and other labs would share: each
    // end gets a folder of its own over it, and is configured from within.
    let end = |ns: Ns, name, port: u16, own: &str| {
        let folder = lab.dir.join(format!("wireguard-{}", ns.suffix()));
        std::fs::create_dir_all(&folder)?;
        let mut command = lab.server(ns, "sh")?;
        let folder = folder.display();
        command.arg("-ec").arg(format!(
            "mkdir -p /run/wireguard; mount --bind {folder} /run/wireguard
             wireguard-go -f wg0 & until wg show wg0 >/dev/null 2>&1; do sleep 0.05; done
             wg set wg0 listen-port {port} private-key {key} {own}
             ip link set wg0 up; wait",
            key = private_key(&lab.dir, ns).display(),
        ));
        Daemon::start(name, command, &lab.dir)
    };
    for ns in [Ns::Vpn, Ns::Box] {
        let (private, public) = (private_key(&lab.dir, ns), public_key(&lab.dir, ns));
        let line = format!(
            "umask 077; wg genkey >{0}; wg pubkey <{0} >{1}",
            private.display(),
            public.display()
        );
        script(std::process::Command::new("sh"), &line)?;
    }
    let key = |ns| -> Result<String> {
        Ok(std::fs::read_to_string(public_key(&lab.dir, ns))?
            .trim()
            .to_owned())
    };
    Ok(vec![
        end(
            Ns::Vpn,
            "wireguard-vpn",
            51820,
            &format!(
                "peer {} allowed-ips 10.8.0.2/32,fd00:8::2/128
                 ip addr add 10.8.0.1/24 dev wg0
                 ip addr add fd00:8::1/64 dev wg0 nodad",
                key(Ns::Box)?
            ),
        )?,
        end(
            Ns::Box,
            "wireguard-box",
            51821,
            &format!(
                "peer {} endpoint 10.30.0.2:51820 persistent-keepalive 20 allowed-ips 0.0.0.0/0,::/0
                 ip addr add 10.8.0.2/24 dev wg0
                 ip addr add fd00:8::2/64 dev wg0 nodad",
                key(Ns::Vpn)?
            ),
        )?,
    ])
}

fn private_key(dir: &Path, ns: Ns) -> std::path::PathBuf {
    dir.join(format!("wireguard-{}.key", ns.suffix()))
}

fn public_key(dir: &Path, ns: Ns) -> std::path::PathBuf {
    dir.join(format!("wireguard-{}.pub", ns.suffix()))
}
