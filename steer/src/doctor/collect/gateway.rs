//! One question through the VPN to each gateway that is to assign ports.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

use crate::{
    doctor::facts::{Assigner, Looked},
    natpmp::{PORT, WHO, who_answers},
};

/// How long it may take, each time.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: usize = 2;

/// Asks for its own address, so that it assigns nothing, and waits for two seconds at most.
pub(super) async fn ask(interface: &str, gateway: Ipv4Addr) -> Looked<(Ipv4Addr, Assigner)> {
    match exchange(interface, gateway).await {
        Ok(said) => Ok((gateway, said)),
        Err(error) => Err(format!("{gateway} cannot be asked by {interface}: {error}")),
    }
}

async fn exchange(interface: &str, gateway: Ipv4Addr) -> io::Result<Assigner> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    // Without a route there the kernel takes it for one on the link.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.connect(SocketAddr::from((gateway, PORT))).await?;
    for _ in 0..TRIES {
        socket.send(&WHO).await?;
        let mut answer = [0; 64];
        match timeout(PATIENCE, socket.recv(&mut answer)).await {
            Ok(Ok(size)) => match who_answers(&answer[..size]) {
                Some(Ok(())) => return Ok(Assigner::Answers),
                Some(Err(why)) => return Ok(Assigner::Refuses(why)),
                None => {}
            },
            Err(_) => {}
            // Nobody listens there, as its ICMP says.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => break,
            Ok(Err(error)) => return Err(error),
        }
    }
    Ok(Assigner::Silent)
}
