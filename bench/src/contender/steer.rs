//! steer, with the daemon running.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use steer_tests::lab::{Ns, Steer};

use super::{Kept, Part, process, suffixes};
use crate::{
    load::server::{HTTP_PORT, TLS_PORT},
    stage::{BRIDGE, Stage},
};

/// A `steer run`.
pub struct Running(Steer);

impl Running {
    pub fn up(stage: &Stage) -> Result<Self> {
        let mut cgroups = vec![stage.cgroup()?];
        let dockerd = stage.lab.dockerd_cgroup();
        if dockerd.exists() {
            cgroups.push(dockerd);
        }
        let rules: Vec<_> = suffixes().map(|suffix| format!(".{suffix}")).collect();
        let mut config = String::new();
        let vpn = stage.lab.tunnel_interface();
        write!(
            config,
            "[vpn]\ninterface = \"{vpn}\"\n\
             [attach]\ncgroups = {cgroups:?}\nbridges = [\"{BRIDGE}\"]\ndocker = \"off\"\n\
             [rules]\npresets = []\nvpn = {rules:?}\n\
             [dns]\nresolve = false\n\
             [sni]\nports = [443, {TLS_PORT}]\nhttp_ports = [80, {HTTP_PORT}]\n"
        )?;
        Ok(Self(stage.lab.steer(&config, &[])?))
    }
}

impl Part for Running {
    fn memory(&self, stage: &Stage) -> Result<Vec<Kept>> {
        Ok(vec![
            Kept {
                whose: "processes",
                octets: process::resident(self.0.pid())?,
            },
            Kept {
                whose: "kernel",
                octets: maps(stage)?,
            },
        ])
    }

    fn down(self: Box<Self>, _stage: &Stage) -> Result<()> {
        self.0.terminate().map(drop)
    }
}

/// What the pinned maps take, as the kernel counts it.
fn maps(stage: &Stage) -> Result<u64> {
    #[derive(Deserialize)]
    struct Map {
        bytes_memlock: u64,
    }
    let mut octets = 0;
    let folder = stage.lab.steer_bpffs();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let file = entry?.path().display().to_string();
        let show = ["bpftool", "-j", "map", "show", "pinned", &file];
        // Programs, links and folders are pinned there, too.
        let shown = stage.lab.run(Ns::Box, &show)?;
        if let Ok(map) = serde_json::from_str::<Map>(&shown.stdout) {
            octets += map.bytes_memlock;
        }
    }
    Ok(octets)
}
