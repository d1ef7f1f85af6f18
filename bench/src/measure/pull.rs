//! A `docker pull`: the registry and its token service by the VPN, the layers direct.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use steer_tests::lab::{IMAGE, plan::Path};

use super::Scene;
use crate::{
    load::busy,
    options::Options,
    report::model::{Better, Measure},
    stage::Who,
};

/// The group.
pub const NAME: &str = "pull";

/// What dockerd is told a proxy by.
const PROXIES: [&str; 2] = ["HTTP_PROXY", "HTTPS_PROXY"];

/// How many octets the image has.
pub fn size(options: &Options) -> u64 {
    if options.quick { 16 << 20 } else { 1 << 30 }
}

pub fn measure(scene: &mut Scene) -> Result<()> {
    let proxy = scene.standing.proxy(Who::Host);
    let url = proxy.map(|proxy| format!("http://{proxy}"));
    let pairs = url
        .iter()
        .flat_map(|url| PROXIES.map(|name| (name, url.as_str())));
    let environment: Vec<_> = pairs.collect();
    // dockerd reads its environment at its start, and the name servers of resolv.conf again within seconds.
    if scene.standing.changes_names() || proxy.is_some() {
        scene.stage.lab.restart_docker_with(&environment)?;
    }
    let lab = &scene.stage.lab;
    lab.remove_images()?;
    let earlier = lab.seen()?.len();
    let begin = Instant::now();
    let before = busy()?;
    lab.docker(&["pull", IMAGE])?
        .stdout()
        .context("the image cannot be pulled")?;
    let (seconds, busy) = (begin.elapsed().as_secs_f64(), busy()? - before);
    let seen = lab.seen()?;
    let mut layers = seen[earlier..].iter().filter(|seen| seen.layer);
    ensure!(
        layers.all(|seen| seen.path == Path::Direct),
        "layers came by the VPN"
    );
    if proxy.is_some() {
        scene.stage.lab.restart_docker_with(&[])?;
    }
    for (what, title, unit, value) in [
        ("pull", "docker pull", "s", seconds),
        ("pull-cpu", "docker pull, processors", "CPU s", busy),
    ] {
        let measure = Measure {
            group: NAME,
            what: what.to_owned(),
            title: format!("{title}, {} MiB", size(scene.options) >> 20),
            unit,
            better: Better::Lower,
        };
        scene.sample(&measure, value);
    }
    Ok(())
}
