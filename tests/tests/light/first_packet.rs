//! Connections to addresses that no answer of the DNS told of: their first packets tell their names.

use anyhow::{Result, ensure};
use steer_tests::{
    client::{Ask, Told},
    fixture::{PORT, Shared, open, server},
    lab::{Client, plan::Path},
};

/// A request for a name, whole or cut within it.
fn request(name: &str, cut: bool) -> Vec<Vec<u8>> {
    let octets = format!("GET / HTTP/1.1\r\nAccept: */*\r\nHost: {name}\r\n\r\n").into_bytes();
    if cut {
        let (first, second) = octets.split_at(octets.len() - name.len());
        vec![first.to_vec(), second.to_vec()]
    } else {
        vec![octets]
    }
}

/// Sends the pieces on a connection: whether they came back.
fn greet(client: &mut Client, connection: usize, pieces: Vec<Vec<u8>>) -> Result<bool> {
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

fn steered(late: &str) -> Result<Shared> {
    let mut lab = Shared::unsteered()?;
    let config = format!(
        "{}[sni]\nports = []\nhttp_ports = [{PORT}]\nlate = \"{late}\"\n",
        lab.config()
    );
    lab.start_with(&config)?;
    Ok(lab)
}

#[test]
fn a_late_connection_ends_at_once_and_its_next_try_takes_the_vpn() -> Result<()> {
    let mut lab = steered("reset")?;
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
    lab.stop()?;
    lab.done()
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
            assert_eq!(open(client, address)?.1, Path::Vpn, "{who}, cut {cut}");
            assert!(greet(client, connection, vec![b"more".to_vec()])?, "{who}");
        }
    }
    lab.stop()?;
    lab.done()
}
