//! A `docker pull`: the registry and its token service by the VPN, the layers direct.

use std::time::Instant;

use anyhow::{Context as _, Result};
use steer_tests::lab::IMAGE;

use super::Scene;
use crate::{
    load::busy,
    options::Options,
    report::model::{Better, Measure},
    stage::Who,
};

/// The group.
pub const NAME: &str = "pull";

/// How many octets the image has.
pub fn size(options: &Options) -> u64 {
    if options.quick { 16 << 20 } else { 1 << 30 }
}

pub fn measure(scene: &mut Scene) -> Result<()> {
    let proxy = scene.standing.proxy(Who::Host);
    if let Some(proxy) = proxy {
        let url = format!("http://{proxy}");
        let environment = [("HTTP_PROXY", url.as_str()), ("HTTPS_PROXY", &url)];
        scene.stage.lab.restart_docker_with(&environment)?;
    }
    let lab = &scene.stage.lab;
    lab.remove_images()?;
    let begin = Instant::now();
    let before = busy()?;
    lab.docker(&["pull", IMAGE])?
        .stdout()
        .context("the image cannot be pulled")?;
    let (seconds, busy) = (begin.elapsed().as_secs_f64(), busy()? - before);
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
