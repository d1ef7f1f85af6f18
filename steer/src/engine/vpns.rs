//! The VPNs, as the host has them and as the programs are told of them.

use std::{collections::BTreeSet, net::IpAddr};

use steer_common::types::{self, Path, Piece, VPNS, Verdict};

use super::{Engine, Error, service};
use crate::{
    config::{Settings, VpnChoice, VpnSettings},
    host::{HostError, Link, vpn},
    origin::Sourced,
    route::{self, OnDown, Tunnel, Vpn, VpnId},
};

/// A VPN, and what is known of it.
#[derive(Debug)]
pub(super) struct FollowedVpn {
    choice: Sourced<VpnChoice>,
    on_down: OnDown,
    /// As it was seen last.
    pub(super) seen: Option<Vpn>,
    /// Its addresses, or those that it had last.
    pub(super) sources: BTreeSet<IpAddr>,
}

impl FollowedVpn {
    pub(super) fn new(settings: &VpnSettings) -> Self {
        Self {
            choice: settings.interface.clone(),
            on_down: settings.on_down.value,
            seen: None,
            sources: BTreeSet::new(),
        }
    }

    /// Its interface among those that are there.
    pub(super) fn choose(&self, links: &[Link]) -> Result<Option<Vpn>, HostError> {
        vpn::choose(&self.choice, links).map(vpn::Choice::found)
    }

    /// Takes in what it is like now.
    pub(super) fn see(&mut self, vpn: Option<Vpn>, links: &[Link]) {
        if let Some(vpn) = &vpn {
            // From now on by its name: another device that comes up does not take over.
            self.choice.value = VpnChoice::Named(vpn.name.clone());
        }
        let others = vpn::of_others(vpn.as_ref(), links);
        self.sources = route::sources(&self.sources, vpn.as_ref(), &others);
        self.seen = vpn;
    }

    /// What is asked of the routing for it.
    pub(super) fn tunnel(&self) -> Tunnel {
        Tunnel {
            vpn: self.seen.clone(),
            sources: self.sources.clone(),
            on_down: self.on_down,
        }
    }

    /// Whether its flows can be sent to it.
    pub(super) fn is_up(&self) -> bool {
        self.seen.as_ref().is_some_and(|vpn| vpn.up)
    }

    /// Whether they go direct meanwhile.
    pub(super) fn is_open(&self) -> bool {
        !self.is_up() && self.on_down == OnDown::Direct
    }

    fn told(&self, mark: u32) -> types::Vpn {
        let up = self.seen.as_ref().filter(|vpn| vpn.up);
        types::Vpn {
            ifindex: self.seen.as_ref().map_or(0, |vpn| vpn.index.0),
            v4: up
                .and_then(|vpn| vpn.v4.first())
                .map_or([0; 4], |address| address.octets()),
            v6: up
                .and_then(|vpn| vpn.v6.first())
                .map_or([0; 16], |address| address.octets()),
            mark,
            open: u32::from(self.is_open()),
        }
    }
}

/// As the programs have them before anything is known of the host.
pub(super) fn nowhere(settings: &Settings) -> [types::Vpn; VPNS] {
    let unseen: Vec<_> = settings.vpns.iter().map(FollowedVpn::new).collect();
    let mut told = told(&unseen, settings);
    // Whether they are down is not known either.
    told.iter_mut().for_each(|vpn| vpn.open = 0);
    told
}

/// As the programs have them.
pub(super) fn told(vpns: &[FollowedVpn], settings: &Settings) -> [types::Vpn; VPNS] {
    let mut told = [types::Vpn::default(); VPNS];
    for (place, (to, vpn)) in told.iter_mut().zip(vpns).enumerate() {
        if let Some(mark) = settings.routing.mark.of(VpnId(place)) {
            *to = vpn.told(mark.value());
        }
    }
    told
}

impl Engine {
    /// All of them, as they were seen last.
    pub(super) fn seen_vpns(&self) -> Vec<Option<Vpn>> {
        self.vpns.iter().map(|vpn| vpn.seen.clone()).collect()
    }

    /// Tells the programs what the VPNs are like now, and the user what has changed.
    pub(super) fn tell_vpns(&mut self, links: &[Link]) -> Result<(), Error> {
        let vpns = told(&self.vpns, &self.settings);
        let newest = links.iter().map(|link| link.index.0).max();
        let newest = newest.unwrap_or_default().max(self.config.newest);
        let before = self.config.vpns;
        if (vpns, newest) == (before, self.config.newest) {
            return Ok(());
        }
        (self.config.vpns, self.config.newest) = (vpns, newest);
        self.datapath.configure(&self.config)?;
        if vpns == before {
            return Ok(());
        }
        if !self.started {
            return Ok(());
        }
        for (place, vpn) in self.vpns.iter().enumerate() {
            if vpns[place] != before[place] {
                let name = self.settings.vpn_name(VpnId(place));
                self.report.vpn(name, vpn.seen.as_ref(), vpn.on_down);
            }
        }
        let down = self.vpns.iter().position(|vpn| !vpn.is_up());
        let name = |place| self.settings.vpn_name(VpnId(place));
        service::vpn(down.map(|place| (name(place), self.vpns[place].is_open())));
        Ok(())
    }

    /// The VPN that a verdict means for the flow of a piece.
    pub(super) fn vpn_of(&self, piece: &Piece, verdict: Verdict) -> Path {
        let of_container = || {
            let scope = self.scope_of_flow(&piece.flow)?;
            self.settings.scopes.get(scope)?.vpn
        };
        let of_scope = if piece.process == 0 {
            of_container().map_or(Path::DIRECT, VpnId::path)
        } else {
            piece.vpn
        };
        self.config.meant(verdict, of_scope)
    }
}
