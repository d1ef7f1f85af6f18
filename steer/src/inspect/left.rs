//! What can be told of a run that was killed: its programs go on.

use std::path::Path;

use super::{Error, Scoped, Snapshot, scopes};
use crate::{
    config::Settings,
    datapath::{Pins, View},
    engine::Rulebook,
    host::{Bridge, Cgroup, cgroup::Hierarchy, docker, inventory::inventory, link, process, vpn},
    instance::Name,
    origin::Sourced,
    route::VpnId,
};

/// What a killed run left pinned.
///
/// # Errors
/// When nothing is pinned, it may not be read, or a run goes on with it.
pub fn is_left(bpffs: &Path) -> Result<View, Error> {
    let view = View::open(&Pins::new(bpffs))?;
    let view = view.ok_or_else(|| Error::Nothing {
        folder: bpffs.to_owned(),
    })?;
    match Name::holder() {
        Some(who) => Err(Error::Elsewhere { who }),
        None => Ok(view),
    }
}

/// A killed run as it is pinned, by the rules of the configuration: flags that it was given are lost.
///
/// # Errors
/// When nothing is pinned, or it may not be read.
pub async fn left(settings: Settings) -> Result<(Snapshot, View), Error> {
    let pins = Pins::new(&settings.bpffs);
    let view = is_left(&settings.bpffs)?;
    let key = view.config().key;
    let rulebook = Rulebook::new(settings.rules.clone(), Some(key)).map_err(Box::new)?;
    let targets = pins.attached()?;
    let links = link::list().await?;
    let docker = Sourced::default_value(settings.docker.value.clone());
    let networks = docker::networks(&docker, &links, &mut Vec::new()).await;
    let networks = networks.unwrap_or_default();
    let here = links
        .iter()
        .filter(|link| targets.bridges.contains(&link.index.0));
    let bridges: Vec<_> = here
        .map(|link| Bridge {
            index: link.index,
            name: link.name.clone(),
            network: networks
                .iter()
                .find(|network| network.interface == link.name)
                .and_then(|network| network.name.clone()),
        })
        .collect();
    let scoped = scoped(&settings, &view, &bridges).await?;
    // By what is pinned: which cgroups were wanted may have been a flag.
    let cgroups = process::cgroups_below(Hierarchy::read()?.mounts().to_vec());
    let cgroups = cgroups
        .into_iter()
        .filter(|(id, _)| targets.cgroups.contains(id))
        .map(|(id, path)| Cgroup {
            path,
            id,
            daemons: Vec::new(),
        })
        .collect();
    let vpns = (0..settings.vpns.len()).map(|place| {
        let vpn = view.config().vpn(VpnId(place).path());
        let link = links.iter().find(|link| link.index.0 == vpn.ifindex)?;
        Some(vpn::of(link))
    });
    let vpns = vpns.collect();
    let snapshot = Snapshot {
        run: None,
        bridges,
        cgroups,
        scoped,
        vpns,
        rulebook: rulebook.into(),
        troubles: vec![
            "no steer runs: the programs of one that was killed go on by themselves, with what they know and without \
             following the VPN; start it with steer run, or end it with steer cleanup"
                .to_owned(),
        ],
        notes: Vec::new(),
        settings,
    };
    Ok((snapshot, view))
}

/// What its programs know of scopes, with the names that Docker has for it.
async fn scoped(settings: &Settings, view: &View, bridges: &[Bridge]) -> Result<Scoped, Error> {
    if view.config().scopes == 0 {
        return Ok(Scoped::default());
    }
    let told = view.scopes()?.iter().collect();
    let inventory = match docker::socket(&settings.docker.value) {
        Some(socket) => inventory(&socket).await.ok(),
        None => None,
    };
    Ok(scopes::left(
        &settings.scopes,
        inventory.as_ref(),
        bridges,
        &told,
    ))
}
