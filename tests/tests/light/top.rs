//! What goes each path and to whom, while somebody watches.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use steer_tests::{
    client::Ask,
    fixture::{BRIDGE, Shared, exchange, lookup, open, resolve, server},
    lab::{Client, Screen},
    pace::{patience, times},
};

const WIDE: (u16, u16) = (140, 40);
const USUAL: (u16, u16) = (80, 24);

/// Connections of a client on both paths, and the name and the address that they are to.
fn both(lab: &mut Shared, client: &mut Client) -> Result<([usize; 2], [String; 2])> {
    let number = lab.numbers(2)?;
    resolve(client, lookup(number, "fresh", false))?;
    let (by_vpn, _) = open(client, server(number, false))?;
    let (direct, _) = open(client, server(number + 1, false))?;
    let name = format!("n{number}.fresh.example");
    let address = server(number + 1, false).ip().to_string();
    Ok(([by_vpn, direct], [name, address]))
}

fn top(lab: &Shared, words: &[&str], size: (u16, u16)) -> Result<Screen> {
    Screen::start(command(lab, words)?, size)
}

fn command(lab: &Shared, words: &[&str]) -> Result<Command> {
    let mut command = lab.lab.steer_asking(&[&["top"], words].concat())?;
    // Where the tests run says nothing of colours: only the terminal does.
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(variable);
    }
    command.env("TERM", "xterm-256color");
    Ok(command)
}

#[test]
fn names_and_rates_are_seen_and_the_terminal_is_given_back() -> Result<()> {
    let mut lab = Shared::steered()?;
    let vpn = format!("vpn {} up", lab.lab.tunnel_interface());
    for (who, client) in &mut lab.clients()? {
        let (connections, [name, address]) = both(&mut lab, client)?;
        let mut screen = top(&lab, &["--interval", "0.3"], WIDE)?;
        let mut work = || {
            let mut exchanges = connections.iter();
            exchanges.try_for_each(|it| exchange(client, *it, 50_000))
        };
        screen.wait_seen(&vpn, || Ok(()))?;
        screen.wait_seen(&name, &mut work)?;
        screen.wait_seen(&address, &mut work)?;
        screen.wait_seen("B/s in, ", &mut work)?;
        println!("{who}:\n{}", screen.seen());
        let seen = screen.seen();
        let row = |text: &str| {
            let row = seen.lines().find(|line| line.contains(text));
            row.map(str::to_owned).context(text.to_owned())
        };
        let bridge = if *who == "a guest" {
            BRIDGE
        } else {
            "processes"
        };
        for (text, path) in [(&name, " vpn "), (&address, " direct ")] {
            let row = row(text)?;
            ensure!(row.contains(path) && row.contains(bridge), "{who}: {row}");
        }
        ensure!(!screen.is_plain()?, "it has not taken the terminal over");
        screen.press(&format!("/{name}\re"))?;
        screen.wait_seen(&format!("{name} takes the VPN"), || Ok(()))?;
        println!("{}", screen.seen());
        screen.press("\x1b")?;
        screen.wait_seen("filter: n", || Ok(()))?;
        screen.press("q")?;
        let status = screen.wait_restored()?;
        ensure!(status.success(), "{status}");
        let mut small = top(&lab, &["--interval", "0.3"], USUAL)?;
        small.wait_seen(&name, &mut work)?;
        small.wait_seen("B/s in, ", &mut work)?;
        println!("{who}:\n{}", small.seen());
        small.press("q")?;
        small.wait_restored()?;
        client.ask(&Ask::Close)?;
    }
    lab.done()
}

#[test]
fn a_signal_gives_the_terminal_back() -> Result<()> {
    /// What colours begin with.
    const COLOUR: &str = "\x1b[38;5;";
    let lab = Shared::steered()?;
    for (signal, (variable, value), is_coloured) in [
        (Signal::SIGTERM, ("TERM", "xterm"), true),
        (Signal::SIGHUP, ("TERM", "dumb"), false),
        (Signal::SIGINT, ("NO_COLOR", "1"), false),
    ] {
        let mut command = command(&lab, &[])?;
        command.env(variable, value);
        let mut screen = Screen::start(command, USUAL)?;
        screen.wait_seen("runs for", || Ok(()))?;
        ensure!(
            screen.written().contains(COLOUR) == is_coloured,
            "{variable}={value}: {:?}",
            screen.written()
        );
        screen.signal(signal)?;
        let status = screen.wait_restored()?;
        ensure!(status.success(), "{signal}: {status}");
    }
    lab.done()
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_is_told() -> Result<()> {
    let lab = Shared::steered()?;
    let mut command = command(&lab, &[])?;
    command.env("STEER_FAULT", "top");
    let mut screen = Screen::start(command, USUAL)?;
    let status = screen.wait_restored()?;
    ensure!(!status.success(), "{status}");
    let written = screen.written();
    let (_, after) = written.rsplit_once("\x1b[?1049l").context("no way back")?;
    ensure!(after.contains("as STEER_FAULT says"), "{written:?}");
    lab.done()
}

#[test]
fn while_steer_is_away_it_says_so_and_goes_on_when_it_is_back() -> Result<()> {
    let mut lab = Shared::steered()?;
    let mut screen = top(&lab, &["--interval", "0.3"], USUAL)?;
    screen.wait_seen("runs for", || Ok(()))?;
    lab.stop()?;
    screen.wait_seen("no steer runs here", || Ok(()))?;
    lab.start()?;
    screen.wait_seen("stopped: nothing", || {
        ensure!(!screen.written().is_empty(), "nothing is drawn");
        Ok(())
    })?;
    let gone = |screen: &Screen| !screen.seen().contains("no steer runs here");
    for _ in 0..100 {
        if gone(&screen) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(gone(&screen), "{}", screen.seen());
    screen.press("\x03")?;
    ensure!(screen.wait_restored()?.success(), "Ctrl-C is a failure");
    lab.done()
}

#[test]
fn a_sample_tells_what_went_between() -> Result<()> {
    /// As long as it may be.
    const LONG: Duration = Duration::from_secs(10);
    let many = u64::from(times(30)) * 10_000;
    let interval = patience(Duration::from_secs(2)).min(LONG).as_secs();
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        let (connections, [name, address]) = both(&mut lab, client)?;
        let mut asking =
            lab.lab
                .steer_asking(&["top", "--json", "--interval", &interval.to_string()])?;
        let asking = asking.stdout(std::process::Stdio::piped()).spawn()?;
        // It has taken its first sample by then.
        thread::sleep(patience(Duration::from_millis(500)));
        for connection in connections {
            exchange(client, connection, usize::try_from(many)?)?;
        }
        let told = asking.wait_with_output()?;
        let told: Value = serde_json::from_slice(&told.stdout)?;
        let rows = told["rows"].as_array().context("no rows")?;
        for (label, path) in [(&name, "vpn"), (&address, "direct")] {
            let row = rows.iter().find(|row| row["label"] == *label.as_str());
            let row = row.with_context(|| format!("{who}: no {label} in {told:#}"))?;
            ensure!(row["path"] == path, "{who}: {row}");
            for way in ["bytes_in", "bytes_out"] {
                let bytes = row["count"][way].as_u64().unwrap_or_default();
                // A slow machine sends some of it again.
                ensure!((many..2 * many).contains(&bytes), "{who}: {way} {row}");
            }
        }
        println!("{who}: {told:#}");
        client.ask(&Ask::Close)?;
    }
    let text = lab.lab.ask_steer(&["top", "--once"])?.stdout()?;
    println!("{text}");
    ensure!(text.contains("by vpn"), "{text}");
    lab.done()
}
