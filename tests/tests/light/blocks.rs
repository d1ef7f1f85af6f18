//! What a rule blocks goes nowhere, and whoever begins it is told so at once.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use steer_tests::{
    client::Ask,
    fixture::{PORT, Shared, fresh, lookup, open, resolve, server},
    lab::{Client, HostSnapshot, plan::Path},
    pace::patience,
    quic::initial,
};

use crate::first_packet::request;

/// Steers with rules that block what is `block`, and with names read on the servers' port.
fn steered(lab: &mut Shared, block: &str, sni: &str) -> Result<()> {
    let config = lab.config();
    let config = config.replacen("vpn = [", &format!("block = [{block}]\nvpn = ["), 1);
    lab.start_with(&format!("{config}[sni]\n{sni}\n"))
}

fn quickly<T: std::fmt::Debug>(work: impl FnOnce() -> Result<T>) -> Result<()> {
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    ensure!(done.is_err(), "it was let through: {done:?}");
    let limit = patience(Duration::from_secs(1));
    ensure!(took < limit, "it failed after {took:?}: {done:?}");
    Ok(())
}

/// Whoever connects to a server, or sends to it, fails at once; what he sends unconnected is not answered.
fn is_refused(client: &mut Client, server: SocketAddr) -> Result<()> {
    quickly(|| open(client, server)).context("a connection")?;
    let connected = true;
    quickly(|| client.ask(&Ask::Datagram { server, connected })).context("a datagram")?;
    // A process is told that it may not send, a guest nothing.
    let connected = false;
    let _ = client.ask(&Ask::Send { server, connected });
    Ok(())
}

/// Fails if somebody came to one of these.
fn nobody_came(lab: &Shared, servers: &[SocketAddr]) {
    let mut seen = lab.contacts();
    seen.retain(|one| servers.contains(&one.server));
    assert!(seen.is_empty(), "these came through: {seen:?}");
}

#[test]
fn names_and_networks_are_blocked_and_their_neighbours_are_not() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let network = lab.numbers(1)?;
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("doh.txt");
    fs::write(&list, "# servers\nlisted.example\nlisted.fresh.example\n")?;
    let each = [false, true].map(|v6| format!("\"{}\"", fresh(network, v6)));
    let lists = format!(
        "\".doh.fresh.example\", {}]\nlists = [{{ path = \"{}\", verdict = \"block\" }}",
        each.join(", "),
        list.display()
    );
    steered(&mut lab, &lists, "ports = []\nhttp_ports = []")?;
    let mut blocked = Vec::new();
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(4)?;
            let context = format!("{who}, v6 {v6}");
            for (place, zone) in [(0, "doh.fresh"), (1, "listed"), (2, "listed.fresh")] {
                let number = number + place;
                resolve(client, lookup(number, zone, v6))?;
                is_refused(client, server(number, v6))
                    .with_context(|| format!("{context}, {zone}"))?;
                blocked.push(server(number, v6));
            }
            is_refused(client, server(network, v6)).with_context(|| context.clone())?;
            blocked.push(server(network, v6));
            for (zone, right) in [("plain", Path::Direct), ("fresh", Path::Vpn)] {
                resolve(client, lookup(number + 3, zone, v6))?;
                let (_, path) = open(client, server(number + 3, v6))?;
                assert_eq!(path, right, "{context}, {zone}");
            }
        }
    }
    nobody_came(&lab, &blocked);
    lab.wait_said("(rule doh.fresh.example, ")?;
    assert!(lab.counter("flow_blocked")? > 0);
    lab.stop()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

#[test]
fn a_blocked_name_loses_a_shared_address_and_is_stopped_by_its_first_octets() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let http = format!("ports = []\nhttp_ports = [{PORT}]");
    steered(&mut lab, "\".doh.example\"", &http)?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            for cut in [false, true] {
                let context = format!("{who}, v6 {v6}, cut {cut}");
                // Known by nothing but what the connection begins with.
                let number = lab.numbers(2)?;
                let name = format!("n{number}.doh.example");
                let (connection, _) = open(client, server(number, v6))?;
                let mut pieces = request(&name, cut);
                if cut {
                    // User space is behind the packet, so it ends a little later.
                    pieces.extend(vec![b"more".to_vec(); 5]);
                }
                let greeting = pieces.clone();
                client
                    .ask(&Ask::Greet { connection, pieces })
                    .expect_err("it went on");
                is_refused(client, server(number, v6)).with_context(|| context.clone())?;

                // Shared with a name of the VPN, which must work.
                let shared = number + 1;
                resolve(client, lookup(shared, "doh", v6))?;
                resolve(client, lookup(shared, "fresh", v6))?;
                lab.wait_said(&format!(
                    "contested {}: it is n{shared}.fresh.example's",
                    fresh(shared, v6)
                ))?;
                let (connection, path) = open(client, server(shared, v6))?;
                assert_eq!(path, Path::Vpn, "{context}");
                let pieces = greeting;
                client
                    .ask(&Ask::Greet { connection, pieces })
                    .expect_err("the blocked name itself went on");
                let (connection, path) = open(client, server(shared, v6))?;
                assert_eq!(path, Path::Vpn, "{context}");
                let pieces = request("n1.fresh.example", cut);
                client.ask(&Ask::Greet { connection, pieces })?;
            }
        }
    }
    lab.stop()?;
    lab.done()
}

#[test]
fn quic_of_a_blocked_name_goes_nowhere() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let quic = format!("ports = [{PORT}]\nhttp_ports = []");
    steered(&mut lab, "\".doh.example\"", &quic)?;
    let mut blocked = Vec::new();
    for (who, client) in &mut lab.clients()? {
        // Each that is blocked waits for its answer as long as a client does.
        for (v6, connected) in [(false, true), (true, false)] {
            let number = lab.numbers(2)?;
            let server = server(number, v6);
            blocked.push(server);
            let insists = |server, name: &str| -> Result<Ask> {
                Ok(Ask::Insist {
                    server,
                    connected,
                    octets: initial(name)?,
                })
            };
            client
                .ask(&insists(server, &format!("n{number}.doh.example"))?)
                .expect_err("it was answered");
            let other = steer_tests::fixture::server(number + 1, v6);
            client
                .ask(&insists(other, "n1.plain.example")?)
                .with_context(|| format!("{who}, v6 {v6}, connected {connected}"))?;
        }
    }
    nobody_came(&lab, &blocked);
    lab.stop()?;
    lab.done()
}

#[test]
fn a_block_is_added_while_steer_runs_and_lifted_again() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    steered(&mut lab, "", "ports = []\nhttp_ports = []")?;
    for (who, client) in &mut lab.clients()? {
        let number = lab.numbers(1)?;
        let server = server(number, false);
        resolve(client, lookup(number, "plain", false))?;
        let (connection, path) = open(client, server)?;
        assert_eq!(path, Path::Direct, "{who}");
        let address = fresh(number, false).to_string();
        lab.lab
            .ask_steer(&["rules", "add", "block", &address])?
            .stdout()?;
        let listed = lab
            .lab
            .ask_steer(&["rules", "list", "--verdict", "block"])?;
        assert!(listed.stdout()?.contains(&address));
        let tested = lab.lab.ask_steer(&["rules", "test", &address])?.stdout()?;
        assert!(tested.contains(": block, by "), "{tested}");
        let why = lab.lab.ask_steer(&["explain", &address])?.stdout()?;
        assert!(
            why.contains("blocked") && why.contains("says block"),
            "{why}"
        );
        is_refused(client, server).with_context(|| who.to_string())?;
        steer_tests::fixture::exchange(client, connection, 1_000)
            .with_context(|| format!("{who}: what began before goes on"))?;
        lab.lab.ask_steer(&["rules", "del", &address])?.stdout()?;
        let (_, path) = open(client, server)?;
        assert_eq!(path, Path::Direct, "{who}: lifted");
    }
    lab.stop()?;
    lab.done()
}
