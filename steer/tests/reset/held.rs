//! Datagrams that were held go on, and their flows with them.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{MsgFlags, recv},
};
use steer::{
    datapath::{Datapath, Room},
    learn::{
        raw::RawSockets,
        reinject::{complete, of_process, on_bridge},
    },
};

use crate::{
    Lab, SERVERS,
    netns::{self, ip, sh},
    nft,
};

fn udp(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).context(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    Ok(socket)
}

fn heard(socket: &UdpSocket) -> Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut buffer = [0; 64];
    loop {
        return match socket.recv_from(&mut buffer) {
            Ok((size, from)) => Ok(Some((buffer[..size].to_vec(), from))),
            // A child of another test ended.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
}

impl Lab {
    /// A datagram of a container that was dropped where steer's program on the bridge would: the packet, as it came.
    fn held(&self, client: &UdpSocket, server: SocketAddr) -> Result<Vec<u8>> {
        nft(&[
            "add table inet hold",
            "add chain inet hold early { type filter hook prerouting priority -310 ; }",
            "add rule inet hold early iifname br0 udp dport 443 drop",
        ])?;
        client.send_to(b"initial", server)?;
        let sent_by = client.local_addr()?.port().to_be_bytes();
        let source_port = if server.is_ipv4() { 20..22 } else { 40..42 };
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut packet = vec![0; 2048];
        // Others of before may still be queued, and this one as it passed other interfaces.
        let size = loop {
            let size = recv(self.packets.as_raw_fd(), &mut packet, MsgFlags::empty())?;
            let seen = &packet[..size];
            let is_v4 = seen.first().is_some_and(|first| first >> 4 == 4);
            if is_v4 == server.is_ipv4()
                && seen.ends_with(b"initial")
                && seen[source_port.clone()] == sent_by
            {
                break size;
            }
            if Instant::now() > deadline {
                bail!("the datagram to {server} was not seen");
            }
        };
        packet.truncate(size);
        nft(&["delete table inet hold"])?;
        Ok(packet)
    }
}

/// The packet in a frame for the bridge.
fn frame(packet: &[u8]) -> Result<Vec<u8>> {
    let shown = ip("link show br0")?;
    let (_, rest) = shown.split_once("link/ether ").context("br0's address")?;
    let address = rest.split(' ').next().unwrap_or_default();
    let mut frame = Vec::new();
    for octet in address.split(':') {
        frame.push(u8::from_str_radix(octet, 16)?);
    }
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(if packet[0] >> 4 == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    });
    frame.extend(packet);
    Ok(frame)
}

#[test]
fn a_containers_datagram_goes_on_as_if_it_came_only_now() -> Result<()> {
    netns::run(async || {
        let lab = Lab::new()?;
        let mut datapath = Datapath::load(None, Room::default())?;
        let bridge = if_nametoindex("br0")?;
        for server in SERVERS {
            let server: SocketAddr = server.parse()?;
            let listener = lab.server.run(move || udp(server))?;
            let local = if server.is_ipv4() {
                "10.7.0.2:0"
            } else {
                "[fd00:7::2]:0"
            };
            let client = lab.container.run(move || udp(local.parse()?))?;
            let mut packet = frame(&lab.held(&client, server)?)?;
            assert_eq!(heard(&listener)?, None, "it was held");

            on_bridge(datapath.reenter()?, bridge, &mut packet)?;
            let (octets, from) = heard(&listener)?.context("it did not go on")?;
            assert_eq!(octets, b"initial");
            listener.send_to(b"answer", from)?;
            let answer = heard(&client)?.context("the answer did not come back")?;
            assert_eq!(answer, (b"answer".to_vec(), server));
            // The client goes on itself, by the same translation.
            client.send_to(b"more", server)?;
            assert_eq!(heard(&listener)?, Some((b"more".to_vec(), from)));

            // What a container may not do, it may not do by being held.
            let other = lab.container.run(move || udp(local.parse()?))?;
            let mut packet = frame(&lab.held(&other, server)?)?;
            sh("nft", "add rule inet test through iifname br0 drop")?;
            on_bridge(datapath.reenter()?, bridge, &mut packet)?;
            assert_eq!(heard(&listener)?, None, "FORWARD drops it");
            sh("nft", "flush chain inet test through")?;
        }
        let error = on_bridge(datapath.reenter()?, 9999, &mut [0; 64]).map_err(|e| e.to_string());
        assert!(
            error.is_err_and(|error| error.contains("9999")),
            "no such interface"
        );
        Ok(())
    })
}

#[test]
fn a_processs_datagram_goes_on_with_its_mark() -> Result<()> {
    netns::run(async || {
        let lab = Lab::new()?;
        nft(&[
            "add chain inet test out { type filter hook output priority 0 ; }",
            "add rule inet test out udp dport 443 meta mark != 0x1000 drop",
        ])?;
        let mut sockets = RawSockets::new();
        for (server, local) in SERVERS
            .into_iter()
            .zip(["203.0.113.1:0", "[2001:db8:1::1]:0"])
        {
            let server: SocketAddr = server.parse()?;
            let listener = lab.server.run(move || udp(server))?;
            let client = udp(local.parse()?)?;
            let mut packet = packet(client.local_addr()?, server, b"initial");
            of_process(&mut sockets, 0, &mut packet).ok();
            assert_eq!(heard(&listener)?, None, "without the mark");
            of_process(&mut sockets, 0x1000, &mut packet)?;
            let (octets, from) = heard(&listener)?.context("it did not go on")?;
            assert_eq!((octets, from), (b"initial".to_vec(), client.local_addr()?));
            listener.send_to(b"answer", from)?;
            assert_eq!(heard(&client)?, Some((b"answer".to_vec(), server)));
        }
        Ok(())
    })
}

/// A datagram whose checksum nobody has made yet.
fn packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = match (from.ip(), to.ip()) {
        (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) => {
            let size = 28 + payload.len() as u8;
            let head = [0x45, 0, 0, size, 0, 0, 0x40, 0, 64, 17, 0, 0];
            [&head[..], &from.octets(), &to.octets()].concat()
        }
        (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) => {
            let head = [0x60, 0, 0, 0, 0, 8 + payload.len() as u8, 17, 64];
            [&head[..], &from.octets(), &to.octets()].concat()
        }
        _ => unreachable!(),
    };
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend([0, 8 + payload.len() as u8, 0xab, 0xcd]);
    packet.extend(payload);
    packet
}

#[test]
fn a_segment_is_completed_to_the_end_of_its_packet() {
    let segment = [
        &[0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2][..],
        &[0xff, 0xff, 0xab, 0xcd, 0, 0],
    ]
    .concat();
    let v4 = [
        &[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0][..],
        &[192, 0, 2, 1, 192, 0, 2, 2],
        &segment,
        b"padding",
    ]
    .concat();
    let mut completed = v4.clone();
    assert!(complete(&mut completed));
    // Counted by hand: 0x9c40 + 0x01bb + 1 + 0x5002 + 0xffff, the addresses, 6 and 20, folded and turned over.
    let sum: u32 = [
        0x9c40, 0x01bb, 1, 0x5002, 0xffff, 0xc000, 0x0201, 0xc000, 0x0202, 6, 20,
    ]
    .iter()
    .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let wanted = !(((folded & 0xffff) + (folded >> 16)) as u16);
    assert_eq!(completed[36..38], wanted.to_be_bytes());
    completed[36..38].copy_from_slice(&v4[36..38]);
    assert_eq!(completed, v4, "nothing else is changed");
}

#[test]
fn only_whole_datagrams_are_completed() {
    let whole = packet(
        SocketAddr::from(([192, 0, 2, 1], 1)),
        SocketAddr::from(([192, 0, 2, 2], 443)),
        b"initial",
    );
    assert!(complete(&mut whole.clone()));
    for (what, at, octet) in [
        ("a fragment", 6, 0x20),
        ("a segment cut off", 9, 6),
        ("longer than it is", 25, 99),
    ] {
        let mut other = whole.clone();
        other[at] = octet;
        let before = other.clone();
        assert!(!complete(&mut other), "{what}");
        assert_eq!(other, before, "{what}");
    }
    assert!(!complete(&mut []));
    assert!(!complete(&mut whole[..30].to_vec()));
}
