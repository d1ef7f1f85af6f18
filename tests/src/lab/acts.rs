//! The three acts that `cargo xtask lab` shows, and the table they end with.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    path::PathBuf,
};

use anyhow::{Context, Result};

use super::{
    DockerVersion, FILLING, IMAGE, Lab, Network, Seen, Tunnel,
    plan::{HOSTS, LAYER_HOST, Path},
};

/// What [`demo`] is to build and show.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The steer binary to show.
    pub steer: PathBuf,
    /// Which Docker pulls.
    pub docker: DockerVersion,
    /// Which tunnel is the VPN.
    pub tunnel: Tunnel,
    /// Leave the lab up, steer running in it, instead of removing it.
    pub keep: bool,
}

/// One act: what was tried, what came of it, and whether that was to be so.
#[derive(Clone, Debug)]
pub struct Act {
    /// The act's headline.
    pub title: String,
    /// The commands and what they printed, a line each.
    pub lines: Vec<String>,
    /// Whether it went as it must.
    pub passed: bool,
}

/// A host of the final table, as the servers saw it while steer ran.
#[derive(Clone, Debug)]
pub struct Row {
    /// The host's name.
    pub host: String,
    /// The client addresses its server saw.
    pub clients: Vec<IpAddr>,
    /// Bytes sent to the box's own address.
    pub direct: u64,
    /// Bytes sent to the VPN's address.
    pub vpn: u64,
}

impl Row {
    /// Whether every byte took the path that this host is to have.
    pub fn right(&self) -> bool {
        let open = self.host == LAYER_HOST || self.host.ends_with("direct.example");
        let (right, wrong) = if open {
            (self.direct, self.vpn)
        } else {
            (self.vpn, self.direct)
        };
        right > 0 && wrong == 0 && self.clients.iter().all(|c| Path::of(*c) != Path::Other)
    }
}

/// Everything [`demo`] saw.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The three acts.
    pub acts: Vec<Act>,
    /// The table, a row a host.
    pub rows: Vec<Row>,
    /// Bytes that came down the tunnel while steer ran, by the count of its far end.
    pub tunnel: u64,
    /// How to enter the lab, when it was kept.
    pub enter: Option<String>,
}

impl Demo {
    /// Whether every act went as it must and no byte took a wrong path.
    pub fn passed(&self) -> bool {
        self.acts.iter().all(|act| act.passed)
            && self.rows.iter().all(Row::right)
            && self.rows.iter().any(|row| row.host == LAYER_HOST)
            && self.tunnel < FILLING / 10
    }

    /// The table as text, ready to print; the acts were shown while they ran.
    pub fn render(&self) -> String {
        let width = self
            .rows
            .iter()
            .map(|row| row.host.len())
            .max()
            .unwrap_or(0);
        let mut text = format!(
            "{:width$}  {:24}  {:>12}  {:>12}\n",
            "host", "path seen by the server", "bytes direct", "bytes by VPN"
        );
        for row in &self.rows {
            let seen: BTreeSet<_> = row
                .clients
                .iter()
                .map(|client| path_name(*client))
                .collect();
            let mut seen = seen.into_iter().collect::<Vec<_>>().join(", ");
            if !row.right() {
                seen += " WRONG";
            }
            let _ = writeln!(
                text,
                "{:width$}  {seen:24}  {:>12}  {:>12}",
                row.host,
                grouped(row.direct),
                grouped(row.vpn)
            );
        }
        let layers: u64 = self
            .rows
            .iter()
            .filter(|row| row.host == LAYER_HOST)
            .map(|row| row.vpn)
            .sum();
        let _ = writeln!(
            text,
            "\n{} bytes came down the tunnel in all; of layers: {}.",
            grouped(self.tunnel),
            grouped(layers)
        );
        text
    }
}

/// Builds the lab and plays the three acts; `progress` gets a line as each step begins and
/// each act's lines as they come.
pub fn demo(options: &DemoOptions, progress: &mut dyn FnMut(&str)) -> Result<Demo> {
    let lab = Lab::builder()
        .docker(options.docker)
        .tunnel(options.tunnel)
        .steer(&options.steer)
        .progress(progress)
        .up()?;
    let mut acts = Vec::new();

    let version = lab.docker_version()?;
    let mut act = Stage::new(
        format!("Act 1: Docker {version} pulls without steer"),
        progress,
    );
    let pull = lab.pull(IMAGE)?;
    act.ran(&format!("docker pull {IMAGE}"), &pull.said());
    acts.push(act.end(
        !pull.ok(),
        "refused, as the geo-block wants it",
        "the geo-block is broken",
    ));

    let before = lab.seen()?.len();
    let tunnel = lab.tunnel_bytes()?;
    let mut act = Stage::new("Act 2: the same pull with steer".to_owned(), progress);
    let steer = lab.steer("", &["--vpn-domain", ".blocked.example"])?;
    let started = steer.output();
    act.ran("steer run --vpn-domain .blocked.example", &started);
    let pull = lab.pull(IMAGE)?;
    act.ran(&format!("docker pull {IMAGE}"), &pull.said());
    act.ran(
        "what steer printed meanwhile",
        &steer.output()[started.len()..],
    );
    acts.push(act.end(pull.ok(), "pulled", "the pull failed"));

    let title = "Act 3: a container asks by itself".to_owned();
    let mut act = Stage::new(title, progress);
    let mut right = pull.ok();
    if !right {
        // Without a pulled image there is nothing to run: what was built here serves as well.
        lab.load_image()?;
    }
    for network in [Network::DefaultBridge, Network::UserDefined] {
        for (name, wanted) in [
            ("blocked.example", Path::Vpn),
            ("direct.example", Path::Direct),
        ] {
            let url = format!("https://{name}/");
            let ran = lab.container(network, &["curl", "-sSm5", &url])?;
            act.ran(
                &format!("docker run --network {} … curl {url}", network.name()),
                &ran.said(),
            );
            let client = ran
                .said()
                .rsplit(' ')
                .next()
                .and_then(|word| word.parse().ok());
            right &= client.is_some_and(|client| Path::of(client) == wanted);
        }
    }
    acts.push(act.end(right, "each by its path", "a request took the wrong path"));

    let rows = rows(&lab.seen()?[before..]);
    let tunnel = lab.tunnel_bytes()?.down - tunnel.down;
    let enter = if options.keep {
        steer.keep();
        Some(lab.keep()?)
    } else {
        steer.terminate().context("steer's end")?;
        None
    };
    Ok(Demo {
        acts,
        rows,
        tunnel,
        enter,
    })
}

/// An act that is being played.
struct Stage<'a> {
    title: String,
    lines: Vec<String>,
    progress: &'a mut dyn FnMut(&str),
}

impl<'a> Stage<'a> {
    fn new(title: String, progress: &'a mut dyn FnMut(&str)) -> Self {
        progress(&title);
        Self {
            title,
            lines: Vec::new(),
            progress,
        }
    }

    fn ran(&mut self, command: &str, said: &str) {
        self.tell(format!("  $ {command}"));
        for line in said.lines() {
            self.tell(format!("    {line}"));
        }
    }

    fn end(mut self, passed: bool, good: &str, bad: &str) -> Act {
        self.tell(format!("  {}", if passed { good } else { bad }));
        Act {
            title: self.title,
            lines: self.lines,
            passed,
        }
    }

    fn tell(&mut self, line: String) {
        (self.progress)(&line);
        self.lines.push(line);
    }
}

fn rows(seen: &[Seen]) -> Vec<Row> {
    let mut hosts: BTreeMap<&str, Row> = BTreeMap::new();
    for seen in seen {
        let row = hosts.entry(&seen.host).or_insert_with(|| Row {
            host: seen.host.clone(),
            clients: Vec::new(),
            direct: 0,
            vpn: 0,
        });
        if !row.clients.contains(&seen.client) {
            row.clients.push(seen.client);
        }
        match seen.path {
            Path::Direct => row.direct += seen.bytes,
            Path::Vpn | Path::SecondVpn => row.vpn += seen.bytes,
            Path::Other => {}
        }
    }
    // In the order of the plan: Docker Hub first.
    let place = |name: &str| HOSTS.iter().position(|host| host.name == name);
    let mut rows: Vec<_> = hosts.into_values().collect();
    rows.sort_by_key(|row| place(&row.host));
    rows
}

fn path_name(client: IpAddr) -> String {
    match Path::of(client) {
        Path::Direct => format!("direct ({client})"),
        Path::Vpn => format!("VPN ({client})"),
        Path::SecondVpn => format!("second VPN ({client})"),
        Path::Other => format!("unknown ({client})"),
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
