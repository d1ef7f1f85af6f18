//! What is measured in the lab, of one contender after the other.

mod bulk;
mod connections;
mod cost;
mod datagrams;
mod dns;
mod handshakes;
mod latency;
mod memory;
mod pull;

use anyhow::{Context as _, Result};
use steer_tests::lab::Ns;

use crate::{
    contender::Standing,
    load::{Ask, Load, Told, occupied},
    options::Options,
    report::model::{Better, Measure, Recorder},
    stage::{Stage, Via, Who},
};

/// The groups of measurements that `--only` can choose.
pub const NAMES: &[&str] = &[
    bulk::NAME,
    datagrams::NAME,
    connections::NAME,
    handshakes::NAME,
    latency::NAME,
    dns::NAME,
    cost::NAME,
    memory::NAME,
    pull::NAME,
];

/// The part of the processors that others may have.
const QUIET: f64 = 0.05;

/// Names that loads go to, each with an address, so that ports are not used up.
const NAMES_OF_LOADS: u32 = 64;

/// Measures what is wanted of every contender, round by round, each round beginning with another one.
///
/// # Errors
/// When a contender cannot be set up, measured or taken down.
pub fn run(options: &Options, recorder: &mut Recorder) -> Result<()> {
    let image = options.wants(pull::NAME).then(|| pull::size(options));
    let mut stage = Stage::up(options, image)?;
    versions(&stage, options, recorder)?;
    let contenders = options.contenders();
    let count = contenders.len();
    let mut others: f64 = 0.0;
    for round in 0..options.rounds() {
        for place in 0..count {
            let contender = contenders[(round as usize + place) % count];
            eprintln!("  round {}: {}", round + 1, contender.name());
            others = others.max(occupied(options.looking())?);
            let standing = contender
                .up(&stage)
                .with_context(|| format!("{} cannot be set up", contender.name()))?;
            let mut scene = Scene {
                stage: &mut stage,
                standing: &standing,
                options,
                recorder,
            };
            scene.measure();
            standing.down(&stage)?;
        }
    }
    recorder.note(format!(
        "Before a contender was set up, others had {:.0} % of the processors at most{}",
        others * 100.0,
        if others > QUIET {
            ": the machine was not quiet, and the figures are by chance as much as by contender."
        } else {
            "."
        }
    ));
    Ok(())
}

/// Measures a group.
type Take = fn(&mut Scene) -> Result<()>;

/// One contender, about to be measured.
struct Scene<'a> {
    stage: &'a mut Stage,
    standing: &'a Standing,
    options: &'a Options,
    recorder: &'a mut Recorder,
}

impl Scene<'_> {
    /// Measures what is wanted; what fails is told, and the rest goes on.
    fn measure(&mut self) {
        let groups: [(&[&str], Take); 8] = [
            (&[bulk::NAME, cost::NAME], bulk::measure),
            (&[datagrams::NAME], datagrams::measure),
            (&[connections::NAME, cost::NAME], connections::measure),
            (&[handshakes::NAME], handshakes::measure),
            (&[latency::NAME], latency::measure),
            (&[dns::NAME], dns::measure),
            (&[memory::NAME], memory::measure),
            (&[pull::NAME], pull::measure),
        ];
        for (names, measure) in groups {
            if names.iter().any(|name| self.options.wants(name)) {
                let name = self.standing.contender.name();
                if let Err(error) = measure(self) {
                    let error = error.context(format!("{}, {name}", names[0]));
                    self.recorder.fail(&error);
                }
            }
        }
    }

    /// Puts a load on from everywhere, and hands on what came of it with where that was.
    fn everywhere(
        &mut self,
        load: Load,
        mut take: impl FnMut(&mut Self, &Place, &Told),
    ) -> Result<()> {
        for who in Who::ALL {
            for via in Via::ALL {
                let told = self.load(who, via, load)?;
                take(self, &Place { who, via }, &told);
            }
        }
        Ok(())
    }

    fn load(&mut self, who: Who, via: Via, load: Load) -> Result<Told> {
        let ask = Ask {
            zone: via.zone().to_owned(),
            names: NAMES_OF_LOADS,
            resolver: self.standing.resolver(who),
            proxy: self.standing.proxy(who),
            certificate: self.stage.certificate(),
            warming: self.options.warming(),
            measured: match load {
                Load::Latency { .. } => latency::measured(self.options),
                _ => self.options.measured(),
            },
            load,
        };
        self.stage.load(who, via, &ask)
    }

    /// Whether names are asked for by the client, and datagrams have a way.
    fn has_proxy(&self) -> bool {
        self.standing.proxy(Who::Host).is_some()
    }

    /// Takes a sample, if its group is wanted.
    fn sample(&mut self, measure: &Measure, value: f64) {
        if self.options.wants(measure.group) {
            let name = self.standing.contender.name();
            self.recorder.of_contender(measure, name, value);
        }
    }
}

/// Where a load came from and which way it went.
struct Place {
    who: Who,
    via: Via,
}

impl Place {
    /// A thing that is measured here.
    fn measure(
        &self,
        group: &'static str,
        what: &str,
        unit: &'static str,
        better: Better,
    ) -> Measure {
        let (who, via) = (self.who.name(), self.via.name());
        let id = what.replace([' ', ','], "-").replace("--", "-");
        Measure {
            group,
            what: format!("{id}.{who}.{}", via.to_lowercase()),
            title: format!("{what}, {who}, {via}"),
            unit,
            better,
        }
    }
}

/// Notes of what this is.
fn versions(stage: &Stage, options: &Options, recorder: &mut Recorder) -> Result<()> {
    let steer = options.steer.display().to_string();
    let asked = [
        ("steer", vec![steer.as_str(), "--version"]),
        ("dnsmasq", vec!["dnsmasq", "--version"]),
        ("nftables", vec!["nft", "--version"]),
        ("squid", vec!["squid", "--version"]),
        ("dockerd", vec!["dockerd", "--version"]),
        ("nginx", vec!["nginx", "-v"]),
    ];
    for (name, line) in asked {
        let said = stage.lab.run(Ns::Box, &line)?.said();
        let first = said.lines().next().unwrap_or_default().to_owned();
        recorder
            .versions
            .insert(name.to_owned(), first.trim().to_owned());
    }
    recorder
        .versions
        .insert("VPN".to_owned(), stage.tunnel().to_owned());
    Ok(())
}
