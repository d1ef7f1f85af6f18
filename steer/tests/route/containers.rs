//! Containers behind a bridge of the host, and servers at the VPN's far end.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use steer::route::{IfIndex, OnDown, Wanted};

use crate::{
    host::{Host, wishes},
    netns::{Namespace, ip, sh},
};

pub const BRIDGE: &str = "br-lab";
pub const NETWORKS: [&str; 2] = ["172.18.0.0/16", "fd00:18::/64"];
/// The host's addresses on the bridge.
pub const GATEWAYS: [&str; 2] = ["172.18.0.1", "fd00:18::1"];
/// What the host is to the VPN's far end.
pub const FAR: [&str; 2] = ["10.8.0.1", "fd00:8::1"];

const PATIENCE: Duration = Duration::from_secs(5);

/// The host with a bridge whose packets are marked for the VPN, and the VPN's far end, which has these addresses besides.
pub fn bridged(far_addresses: &[&str]) -> Result<(Host, Namespace)> {
    let mut host = Host::new()?;
    for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{family}"), "1")?;
    }
    ip(&format!("link add {BRIDGE} type bridge forward_delay 0"))?;
    ip(&format!("link set {BRIDGE} addrgenmode none"))?;
    ip(&format!("link set {BRIDGE} up"))?;
    for (address, length) in GATEWAYS.into_iter().zip([16, 64]) {
        ip(&format!(
            "address add {address}/{length} dev {BRIDGE} {}",
            nodad(address)
        ))?;
    }
    // By which it looks for its neighbours.
    ip(&format!("address add fe80::1/64 dev {BRIDGE} nodad"))?;
    sh("nft", "add table inet test")?;
    sh(
        "nft",
        "add chain inet test in { type filter hook prerouting priority -320 ; }",
    )?;
    sh(
        "nft",
        &format!("add rule inet test in iifname {BRIDGE} meta mark set 0x1000"),
    )?;
    let far = Namespace::new()?;
    far.take("vpn0-peer")?;
    let addresses: Vec<_> = far_addresses.iter().map(|&it| it.to_owned()).collect();
    far.run(move || {
        ip("link set vpn0-peer up")?;
        for (address, length) in FAR.into_iter().zip([24, 64]) {
            ip(&format!(
                "address add {address}/{length} dev vpn0-peer {}",
                nodad(address)
            ))?;
        }
        for address in addresses {
            ip(&format!(
                "address add {address} dev vpn0-peer {}",
                nodad(&address)
            ))?;
        }
        Ok(())
    })?;
    for route in ["", "-6"] {
        let default = if route.is_empty() { FAR[0] } else { FAR[1] };
        ip(&format!(
            "{route} route add default via {default} dev vpn0 metric 5000"
        ))?;
    }
    host.look_again()?;
    Ok((host, far))
}

/// A container on the bridge, the host's `number`th.
pub fn container(number: u8) -> Result<Namespace> {
    let container = Namespace::new()?;
    let (outer, inner) = (format!("veth{number}"), format!("inner{number}"));
    ip(&format!("link add {outer} type veth peer name {inner}"))?;
    ip(&format!(
        "link set {outer} addrgenmode none master {BRIDGE} up"
    ))?;
    container.take(&inner)?;
    container.run(move || {
        ip(&format!("link set {inner} addrgenmode none up"))?;
        for (address, length) in addresses(number).into_iter().zip([16, 64]) {
            ip(&format!(
                "address add {address}/{length} dev {inner} {}",
                nodad(&address)
            ))?;
        }
        ip(&format!("route add default via {}", GATEWAYS[0]))?;
        ip(&format!("-6 route add default via {}", GATEWAYS[1])).map(drop)
    })?;
    Ok(container)
}

/// Its addresses.
pub fn addresses(number: u8) -> [String; 2] {
    [format!("172.18.0.{number}"), format!("fd00:18::{number}")]
}

fn nodad(address: &str) -> &str {
    if address.contains(':') { "nodad" } else { "" }
}

/// What is wanted of the host, whose bridges have all been looked at.
pub fn wanted(host: &Host) -> Wanted {
    Wanted {
        newest: IfIndex(1 << 20),
        ..wishes(Some(host.vpn.clone()), OnDown::Block)
    }
}

/// Tells everybody who asks, over UDP and TCP, its own name and the address that the question came from. To be called in its
/// namespace.
pub fn serve(name: &'static str, at: &str) -> Result<()> {
    let at: SocketAddr = at.parse()?;
    let answer = move |from: SocketAddr| format!("{name} to {}", from.ip());
    let datagrams = UdpSocket::bind(at)?;
    thread::spawn(move || {
        while let Ok((_, from)) = datagrams.recv_from(&mut [0; 64]) {
            let _ = datagrams.send_to(answer(from).as_bytes(), from);
        }
    });
    let connections = TcpListener::bind(at)?;
    thread::spawn(move || {
        while let Ok((mut connection, from)) = connections.accept() {
            let _ = connection.write_all(answer(from).as_bytes());
        }
    });
    Ok(())
}

/// What a server answers over UDP; "refused" when nobody wants to, and "silence" when nobody says anything.
///
/// A socket that is connected has answers from whom it asked alone.
pub fn ask_udp(server: &str) -> Result<String> {
    let socket = UdpSocket::bind(any(server))?;
    socket.connect(server)?;
    ask_by(&socket)
}

/// As [`ask_udp`], by a socket that may have asked before.
pub fn ask_by(socket: &UdpSocket) -> Result<String> {
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut answer = [0; 64];
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        match socket.send(b"who?").and_then(|_| socket.recv(&mut answer)) {
            Ok(length) => return Ok(String::from_utf8(answer[..length].to_vec())?),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Ok("refused".into());
            }
            Err(_) => {}
        }
    }
    Ok("silence".into())
}

/// What a server answers over TCP.
pub fn ask_tcp(server: &str) -> Result<String> {
    let address: SocketAddr = server.parse()?;
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).context("no answer")?;
            Ok(answer)
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok("refused".into()),
        Err(_) => Ok("silence".into()),
    }
}

fn any(server: &str) -> &'static str {
    if server.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    }
}

/// With an address and a port.
pub fn at(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}
