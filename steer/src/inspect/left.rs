//! What can be told of a run that was killed: its programs go on.

use super::{Error, Snapshot};
use crate::{
    config::Settings,
    datapath::{Pins, View},
    engine::Rulebook,
    host::{Bridge, cgroup::Hierarchy, docker, link, vpn},
    origin::Sourced,
};

/// A killed run as it is pinned, by the rules of the configuration: flags that it was given are lost.
///
/// # Errors
/// When nothing is pinned, or it may not be read.
pub async fn left(settings: Settings) -> Result<(Snapshot, View), Error> {
    let pins = Pins::new(&settings.bpffs);
    let view = View::open(&pins)?.ok_or_else(|| Error::Nothing {
        folder: settings.bpffs.clone(),
    })?;
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
    let bridges = here.map(|link| Bridge {
        index: link.index,
        name: link.name.clone(),
        network: networks
            .iter()
            .find(|network| network.interface == link.name)
            .and_then(|network| network.name.clone()),
    });
    let mut cgroups = Hierarchy::read()?.present(&settings.cgroups);
    cgroups.retain(|cgroup| targets.cgroups.contains(&cgroup.id));
    let vpn = links
        .iter()
        .find(|link| link.index.0 == view.config().vpn_ifindex)
        .map(vpn::of);
    let snapshot = Snapshot {
        run: None,
        bridges: bridges.collect(),
        cgroups,
        vpn,
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
