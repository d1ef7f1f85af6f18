//! Connections to addresses that no answer of the DNS told of: their first packets tell their names.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use steer_tests::{
    client::{Ask, Told},
    fixture::{PORT, Shared, open, server},
    lab::{Client, plan::Path},
    quic::initial,
};

/// A request for a name, whole or cut within it.
pub fn request(name: &str, cut: bool) -> Vec<Vec<u8>> {
    let octets = format!("GET / HTTP/1.1\r\nAccept: */*\r\nHost: {name}\r\n\r\n").into_bytes();
    if cut {
        let (first, second) = octets.split_at(octets.len() - name.len());
        vec![first.to_vec(), second.to_vec()]
    } else {
        vec![octets]
    }
}

/// Sends the pieces on a connection: whether they came back.
pub fn greet(client: &mut Client, connection: usize, pieces: Vec<Vec<u8>>) -> Result<bool> {
    match client.ask(&Ask::Greet { connection, pieces }) {
        Ok(Told::Done) => Ok(true),
        Err(error) => {
            let why = format!("{error:#}");
            ensure!(
                why.contains("reset") || why.contains("abort"),
                "the connection did not end at once: {why}"
            );
            Ok(false)
        }
        Ok(other) => anyhow::bail!("told {other:?}"),
    }
}

/// The configuration that has names read of HTTP.
pub fn http(lab: &Shared, late: &str) -> String {
    let config = lab.config();
    format!("{config}[sni]\nports = []\nhttp_ports = [{PORT}]\nlate = \"{late}\"\n")
}

/// The one that has them read of QUIC.
pub fn quic(lab: &Shared) -> String {
    let config = lab.config();
    format!("{config}[sni]\nports = [{PORT}]\nhttp_ports = []\n")
}

fn steered(late: &str) -> Result<Shared> {
    let mut lab = Shared::unsteered()?;
    lab.start_with(&http(&lab, late))?;
    Ok(lab)
}

fn steered_quic() -> Result<Shared> {
    let mut lab = Shared::unsteered()?;
    lab.start_with(&quic(&lab))?;
    Ok(lab)
}

/// The path by which the server saw these octets, which are sent until it answers.
fn insist(client: &mut Client, server: SocketAddr, connected: bool, octets: &[u8]) -> Result<Path> {
    let ask = Ask::Insist {
        server,
        connected,
        octets: octets.to_vec(),
    };
    match client.ask(&ask)? {
        Told::Seen(seen) => Ok(Path::of(seen.ip())),
        other => anyhow::bail!("told {other:?}"),
    }
}

#[test]
fn a_late_connection_ends_at_once_and_its_next_try_takes_the_vpn() -> Result<()> {
    let mut lab = steered("reset")?;
    late_connections_end(&mut lab)?;
    lab.stop()?;
    lab.done()
}

pub fn late_connections_end(lab: &mut Shared) -> Result<()> {
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            for cut in [false, true] {
                let number = lab.numbers(1)?;
                let address = server(number, v6);
                let context = format!("{who}, v6 {v6}, cut {cut}");
                let name = format!("n{number}.fresh.example");
                let (connection, path) = open(client, address)?;
                assert_eq!(path, Path::Direct, "{context}");
                let mut pieces = request(&name, cut);
                if cut {
                    // User space is behind the packet, so it ends a little later.
                    pieces.extend(vec![b"more".to_vec(); 5]);
                }
                let answered = greet(client, connection, pieces)?;
                assert!(!answered, "{context}: it went on");
                let (connection, path) = open(client, address)?;
                assert_eq!(path, Path::Vpn, "{context}: the next try");
                assert!(greet(client, connection, request(&name, cut))?, "{context}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_connection_of_another_name_or_none_goes_on() -> Result<()> {
    let mut lab = steered("reset")?;
    for (who, client) in &mut lab.clients()? {
        for pieces in [
            request("n1.plain.example", false),
            request("n1.plain.example", true),
            vec![b"SSH-2.0-client\r\n".to_vec()],
        ] {
            let address = server(lab.numbers(1)?, false);
            let (connection, path) = open(client, address)?;
            assert_eq!(path, Path::Direct, "{who}");
            assert!(greet(client, connection, pieces)?, "{who}");
            assert_eq!(open(client, address)?.1, Path::Direct, "{who}");
        }
    }
    lab.stop()?;
    lab.done()
}

#[test]
fn a_late_connection_may_go_on_and_later_ones_take_the_vpn() -> Result<()> {
    let mut lab = steered("learn")?;
    for (who, client) in &mut lab.clients()? {
        for cut in [false, true] {
            let number = lab.numbers(1)?;
            let address = server(number, false);
            let name = format!("n{number}.fresh.example");
            let (connection, path) = open(client, address)?;
            assert_eq!(path, Path::Direct, "{who}");
            assert!(greet(client, connection, request(&name, cut))?, "{who}");
            // What comes in pieces is put together behind them.
            lab.wait_said(&name)?;
            assert_eq!(open(client, address)?.1, Path::Vpn, "{who}, cut {cut}");
            assert!(greet(client, connection, vec![b"more".to_vec()])?, "{who}");
        }
    }
    lab.stop()?;
    lab.done()
}

#[test]
fn quic_takes_the_path_of_its_name_from_its_first_packet() -> Result<()> {
    let mut lab = steered_quic()?;
    quic_takes_its_path(&mut lab)?;
    lab.stop()?;
    lab.done()
}

pub fn quic_takes_its_path(lab: &mut Shared) -> Result<()> {
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            for connected in [false, true] {
                for (zone, right) in [("fresh", Path::Vpn), ("plain", Path::Direct)] {
                    let number = lab.numbers(1)?;
                    let address = server(number, v6);
                    let octets = initial(&format!("n{number}.{zone}.example"))?;
                    let context = format!("{who}, v6 {v6}, connected {connected}, {zone}");
                    let path = insist(client, address, connected, &octets)?;
                    assert_eq!(path, right, "{context}");
                    let mut seen = lab.contacts();
                    seen.retain(|one| one.server == address && one.path() != right);
                    assert!(seen.is_empty(), "{context}: some came otherwise: {seen:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn quic_that_no_name_can_be_read_of_goes_on() -> Result<()> {
    let mut lab = steered_quic()?;
    let mut broken = initial("n1.fresh.example")?;
    broken[600] ^= 1;
    for (who, client) in &mut lab.clients()? {
        for connected in [false, true] {
            let address = server(lab.numbers(1)?, false);
            let path = insist(client, address, connected, &broken)?;
            assert_eq!(path, Path::Direct, "{who}, connected {connected}");
        }
    }
    lab.stop()?;
    lab.done()
}

#[test]
fn quic_goes_on_when_steer_was_killed() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let steer = lab.lab.steer(&quic(&lab), &[])?;
    let mut clients = lab.clients()?;
    let plain = initial("n1.plain.example")?;
    steer.kill()?;
    for (who, client) in &mut clients {
        let address = server(lab.numbers(1)?, false);
        let path = insist(client, address, false, &plain)?;
        assert_eq!(path, Path::Direct, "{who}");
    }
    lab.lab.steer_cleanup()?.stdout()?;
    lab.done()
}
