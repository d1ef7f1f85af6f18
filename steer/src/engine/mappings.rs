//! Ports that the VPNs' gateways assign: asked for while the VPN is up, and forwarded.

use std::time::{Duration, Instant};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

use super::{Engine, Error};
use crate::{
    config::{At, Forward, Settings},
    host::Link,
    inspect::Assigned,
    natpmp::{Gateway, Granted, Keeper, News, by_network},
    route::{self, VpnId},
    scope::ScopeId,
};

/// The first of the ports that gateways are to send to: beyond those that Linux begins flows from
/// (`ip_local_port_range`).
const FIRST: u16 = 61_000;

/// A port that is written down goes before any that is assigned.
pub(super) const WRITTEN: u8 = 0;

/// All of them.
#[derive(Debug)]
pub(super) struct Mappings {
    of: Vec<OfVpn>,
    sender: UnboundedSender<(VpnId, u32, News)>,
    news: UnboundedReceiver<(VpnId, u32, News)>,
    /// Tells the news of a gateway from that of the one before.
    turn: u32,
}

/// Those of a VPN.
#[derive(Debug)]
struct OfVpn {
    vpn: VpnId,
    mappings: Vec<Mapping>,
    /// The gateway that is asked, while the VPN is up.
    asked: Option<(Gateway, JoinHandle<()>)>,
    turn: u32,
}

/// A forwarded port that is to be assigned.
#[derive(Debug)]
struct Mapping {
    scope: ScopeId,
    forward: Forward,
    internal: u16,
    granted: Option<Granted>,
    /// When that ends.
    until: Instant,
    trouble: Option<String>,
}

impl Mappings {
    pub(super) fn new(settings: &Settings) -> Self {
        let (sender, news) = unbounded_channel();
        let vpns = (0..settings.vpns.len()).map(VpnId);
        let of = vpns.map(|vpn| OfVpn {
            vpn,
            mappings: wanted(settings, vpn),
            asked: None,
            turn: 0,
        });
        Self {
            of: of.filter(|it| !it.mappings.is_empty()).collect(),
            sender,
            news,
            turn: 0,
        }
    }

    /// Waits until a gateway has said something, or nothing. May be dropped and called again without loss.
    pub(super) async fn next(&mut self) -> (VpnId, u32, News) {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// The ports of the VPN's address that lead to a forwarded one, once it is assigned: the one that the gateway was asked to send
    /// to, and the one that it gave, for some send to that. Before them, who goes first where two have one port.
    pub(super) fn ports(&self, scope: ScopeId, forward: &Forward) -> Option<[(u8, u16); 2]> {
        let mapping = self.find(scope, forward)?;
        let external = mapping.granted?.external;
        Some([(WRITTEN + 1, mapping.internal), (WRITTEN + 2, external)])
    }

    /// What is known of each, for whoever asks.
    pub(super) fn seen(&self) -> Vec<Assigned> {
        let all = self.of.iter().flat_map(|it| &it.mappings);
        all.map(|it| Assigned {
            scope: it.scope,
            forward: it.forward.clone(),
            port: it.granted.map(|granted| granted.external),
            trouble: it.trouble.clone(),
        })
        .collect()
    }

    /// What is wrong, a sentence each.
    pub(super) fn troubles(&self) -> Vec<String> {
        let all = self.of.iter().flat_map(|it| &it.mappings);
        let mut troubles: Vec<_> = all.filter_map(|it| it.trouble.clone()).collect();
        troubles.sort();
        troubles.dedup();
        troubles
    }

    fn find(&self, scope: ScopeId, forward: &Forward) -> Option<&Mapping> {
        let all = self.of.iter().flat_map(|it| &it.mappings);
        let mut found = all.filter(|it| it.scope == scope && it.forward == *forward);
        found.next()
    }

    /// Gives the ports back.
    pub(super) async fn give_back(self) {
        for of in self.of {
            let Some((gateway, task)) = of.asked else {
                continue;
            };
            task.abort();
            let granted = of.mappings.iter().filter(|it| it.granted.is_some());
            let granted: Vec<_> = granted.map(Mapping::key).collect();
            gateway.give_back(&granted).await;
        }
    }
}

impl Mapping {
    fn key(&self) -> (route::Protocol, u16) {
        (self.forward.protocol.into(), self.internal)
    }
}

impl OfVpn {
    /// Asks this gateway from now on, or none; nothing of what another has assigned holds.
    fn ask(
        &mut self,
        gateway: Option<Gateway>,
        turn: u32,
        sender: &UnboundedSender<(VpnId, u32, News)>,
    ) {
        if let Some((_, task)) = self.asked.take() {
            task.abort();
        }
        for mapping in &mut self.mappings {
            mapping.granted = None;
            mapping.trouble = None;
        }
        self.turn = turn;
        let Some(gateway) = gateway else {
            return;
        };
        let keys: Vec<_> = self.mappings.iter().map(Mapping::key).collect();
        let (vpn, sender) = (self.vpn, sender.clone());
        let (told, mut news) = unbounded_channel();
        let task = tokio::spawn(async move {
            let keeping = Keeper::new(gateway, &keys).keep(told);
            let telling = async {
                while let Some(news) = news.recv().await {
                    let _ = sender.send((vpn, turn, news));
                }
            };
            tokio::join!(keeping, telling);
        });
        self.asked = Some((gateway, task));
    }
}

impl Engine {
    /// Has the gateways of the VPNs asked that are up, by the addresses that those have now.
    pub(super) fn follow_mappings(&mut self, links: &[Link]) {
        for of in &mut self.mappings.of {
            let vpn = &self.vpns[of.vpn.0];
            let up = vpn.seen.as_ref().filter(|vpn| vpn.up);
            let link = up.and_then(|up| links.iter().find(|link| link.index == up.index));
            let gateway = up.and_then(|up| {
                let from = *up.v4.first()?;
                let set = self.settings.vpns[of.vpn.0].gateway;
                let address = set.or_else(|| by_network(link?, from))?;
                let mark = self.settings.routing.mark.of(of.vpn)?.value();
                Some(Gateway {
                    address,
                    from,
                    mark,
                })
            });
            let asked = of.asked.as_ref().map(|(gateway, _)| *gateway);
            if asked != gateway {
                self.mappings.turn += 1;
                of.ask(gateway, self.mappings.turn, &self.mappings.sender);
            }
        }
    }

    /// Takes in what a gateway said, and has ports forwarded by it.
    pub(super) async fn take_mapping(
        &mut self,
        (vpn, turn, (place, told)): (VpnId, u32, News),
    ) -> Result<(), Error> {
        let mut all = self.mappings.of.iter_mut();
        let found = all.find(|it| it.vpn == vpn && it.turn == turn);
        let Some(mapping) = found.and_then(|it| it.mappings.get_mut(place)) else {
            return Ok(());
        };
        let granted = match told {
            Ok(granted) => granted,
            Err(why) => {
                if mapping.trouble.as_ref() != Some(&why) {
                    let forward = &mapping.forward;
                    self.report.note(&format!("{forward}: {why}; asking again"));
                    mapping.trouble = Some(why);
                }
                if mapping.until > Instant::now() || mapping.granted.take().is_none() {
                    return Ok(());
                }
                return self.forward_anew().await;
            }
        };
        mapping.trouble = None;
        mapping.until = Instant::now() + Duration::from_secs(granted.lifetime.into());
        let before = mapping.granted.replace(granted);
        if before.is_some_and(|before| before.external == granted.external) {
            return Ok(());
        }
        self.report.note(&format!(
            "{}: the VPN's gateway assigns the port {}",
            mapping.forward, granted.external
        ));
        self.forward_anew().await
    }

    async fn forward_anew(&mut self) -> Result<(), Error> {
        let links = self.links.clone();
        self.follow_vpns(&self.seen_vpns(), &links).await
    }
}

/// The forwarded ports of a VPN that are to be assigned. Those of one container's port have one to send to, for both protocols.
fn wanted(settings: &Settings, vpn: VpnId) -> Vec<Mapping> {
    let scopes = settings.scopes.iter().enumerate();
    let scopes = scopes.filter(|(_, scope)| scope.vpn.unwrap_or(settings.default_vpn) == vpn);
    let forwards = scopes.flat_map(|(place, scope)| {
        let forwards = scope.forward.iter().filter(|it| it.at == At::NatPmp);
        forwards.map(move |forward| (ScopeId(place), forward))
    });
    let mut targets: Vec<(&str, u16)> = Vec::new();
    let mapping = |(scope, forward)| {
        let forward: &Forward = forward;
        let target = (forward.container.as_str(), forward.to);
        let known = targets.iter().position(|it| *it == target);
        let place = known.unwrap_or_else(|| {
            targets.push(target);
            targets.len() - 1
        });
        Mapping {
            scope,
            forward: forward.clone(),
            internal: FIRST.saturating_add(u16::try_from(place).unwrap_or(u16::MAX)),
            granted: None,
            until: Instant::now(),
            trouble: None,
        }
    };
    forwards.map(mapping).collect()
}
