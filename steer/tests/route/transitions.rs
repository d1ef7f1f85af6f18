//! Whatever happens to a host, and at whatever step the kernel refuses: the routing is what the plan says, or what it was.
//!
//! `STEER_TRANSITIONS` says how many things happen, and `STEER_SEED` repeats those of a run that printed it
//! (`cargo xtask soak`).

use std::{
    collections::BTreeSet,
    env,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result};
use fastrand::Rng;
use steer::route::{
    DnsRule, Family, Forward, Hop, IfIndex, Interface, Mark, Numbers, OnDown, Plan, Priority,
    Protocol, Route, Routing, Rule, Selector, TableId, Target, Tunnel, UNREACHABLE_METRIC, Vpn,
    VpnId, Wanted, plan, sources, taken,
};
use tempfile::TempDir;

use crate::{
    host::{self, Host},
    netns::{self, ip, set_rp_filter, sh, snapshot, way},
};

const V4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);

/// The host, and what is wanted of it.
struct World {
    vpn: Option<Vpn>,
    sources: BTreeSet<IpAddr>,
    on_down: OnDown,
    networks: Vec<&'static str>,
    dns: Vec<DnsRule>,
    forwards: Vec<Forward>,
    /// What somebody has the VPN's routes be.
    redirects: bool,
}

impl World {
    async fn plan(&mut self) -> Result<Plan> {
        self.sources = sources(&self.sources, self.vpn.as_ref(), &BTreeSet::new());
        let index = self.vpn.as_ref().map_or(IfIndex(0), |vpn| vpn.index);
        let networks = self.networks.iter().map(|net| net.parse());
        Ok(plan(&Wanted {
            tunnels: vec![Tunnel {
                vpn: self.vpn.clone(),
                sources: self.sources.clone(),
                on_down: self.on_down,
            }],
            networks: networks.collect::<Result<_, _>>()?,
            dns: self.dns.clone(),
            forwards: self.forwards.clone(),
            taken: taken(&[index]).await?,
            // They come with their bridges.
            newest: IfIndex(u32::try_from(self.networks.len())?),
            numbers: Numbers::default(),
        }))
    }

    /// Something happens; what.
    fn happens(&mut self, rng: &mut Rng) -> Result<&'static str> {
        let vpn = self.vpn.as_mut().map(|vpn| (vpn.name.clone(), vpn));
        Ok(match (rng.u8(0..12), vpn) {
            (0, Some((name, _))) => {
                ip(&format!("link del {name}"))?;
                self.vpn = None;
                self.redirects = false;
                "the VPN goes"
            }
            (_, None) => {
                let name = ["vpn0", "vpn1"][usize::from(rng.bool())];
                self.vpn = Some(host::vpn(name, &[V4], &["fd00:8::2"])?);
                set_rp_filter(name, rng.u8(0..3))?;
                "a VPN comes"
            }
            (1 | 2, Some((name, vpn))) => {
                let state = if vpn.up { "down" } else { "up" };
                ip(&format!("link set {name} {state}"))?;
                vpn.up = !vpn.up;
                // IPv6 addresses, and routes, go with the link.
                vpn.v6.clear();
                self.redirects = false;
                "the VPN goes down, or up"
            }
            (3, Some((name, vpn))) => {
                let other = Ipv4Addr::new(10, 8, 0, rng.u8(3..20));
                ip(&format!("address del {}/24 dev {name}", vpn.v4[0]))?;
                ip(&format!("address add {other}/24 dev {name}"))?;
                vpn.v4 = vec![other];
                // Its routes went with the address.
                self.redirects = false;
                "another address"
            }
            (4 | 5, Some((name, vpn))) if vpn.up => {
                let verb = if self.redirects { "del" } else { "add" };
                for half in ["0.0.0.0/1", "128.0.0.0/1"] {
                    ip(&format!("route {verb} {half} dev {name}"))?;
                }
                self.redirects = !self.redirects;
                "the default route is taken, or given back"
            }
            (6, _) => {
                let gateway = rng.u8(2..250);
                ip(&format!("route replace default via 192.0.2.{gateway}"))?;
                "another uplink"
            }
            (7, _) => {
                let all = ["172.17.0.0/16", "172.18.0.0/16", "fd00:17::/64"];
                self.networks = all.into_iter().filter(|_| rng.bool()).collect();
                "other networks"
            }
            (8, _) => {
                self.dns = asked(rng)?;
                "other questions go elsewhere"
            }
            (9, _) => {
                self.forwards = answered(rng)?;
                "other ports are forwarded"
            }
            (10, _) => {
                self.on_down = match self.on_down {
                    OnDown::Block => OnDown::Direct,
                    OnDown::Direct => OnDown::Block,
                };
                "another choice of what down means"
            }
            _ => {
                let line = [
                    "rule del priority 7355",
                    "-6 rule del priority 7355",
                    "route flush table 7350",
                    "-6 route flush table 7350",
                ];
                // It may not be there.
                let _ = ip(line[rng.usize(..line.len())]);
                match rng.u8(0..4) {
                    0 => drop(sh("nft", "flush ruleset")?),
                    1 => docker()?,
                    2 => drop(sh("iptables", "-w -F DOCKER-USER")),
                    _ => {}
                }
                "somebody takes away, or Docker comes"
            }
        })
    }

    /// What the kernel does with what must take the VPN.
    fn check(&self) -> Result<()> {
        let up = self.vpn.as_ref().filter(|vpn| vpn.up);
        let expected = match (up, self.on_down) {
            (Some(vpn), _) => vpn.name.as_str(),
            (None, OnDown::Block) => "refused",
            (None, OnDown::Direct) => "up0",
        };
        assert_eq!(way(host::MARKED)?, expected);
        assert_eq!(way("198.51.100.7 mark 0x2000")?, "up0");
        Ok(())
    }
}

fn some<'a>(all: &[&'a str], rng: &mut Rng) -> Vec<&'a str> {
    all.iter().copied().filter(|_| rng.bool()).collect()
}

fn asked(rng: &mut Rng) -> Result<Vec<DnsRule>> {
    let mut rules = Vec::new();
    for bridge in some(&["docker0", "br-0123456789ab"], rng) {
        for source in some(&["", "172.18.0.2", "172.18.0.3", "fd00:17::2"], rng) {
            let source = (!source.is_empty()).then(|| source.parse()).transpose()?;
            let within = some(&["172.18.0.0/16", "172.18.7.0/24", "fd00:17::/64"], rng);
            let servers = some(&["10.8.0.53", "fd00:8::53", "10.8.0.54"], rng);
            rules.push(DnsRule {
                bridge: bridge.into(),
                source,
                within: within
                    .iter()
                    .map(|net| net.parse())
                    .collect::<Result<_, _>>()?,
                servers: servers
                    .iter()
                    .map(|it| it.parse())
                    .collect::<Result<_, _>>()?,
                vpn: VpnId(0),
            });
        }
    }
    Ok(rules)
}

fn answered(rng: &mut Rng) -> Result<Vec<Forward>> {
    let mut forwards = Vec::new();
    for to in some(&["172.18.0.2", "fd00:17::2"], rng) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            forwards.push(Forward {
                protocol,
                port: rng.u16(1..),
                to: to.parse()?,
                to_port: rng.u16(1..),
                bridge: "docker0".into(),
                vpn: VpnId(0),
            });
        }
    }
    Ok(forwards)
}

/// Chains as Docker makes them, and then some rule of its user's.
fn docker() -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        for rule in [
            "-w -N DOCKER-USER",
            "-w -A DOCKER-USER -s 192.0.2.77 -j DROP",
            "-w -A DOCKER-USER -s fd00:77::7 -j DROP",
            "-w -A DOCKER-USER -j RETURN",
            "-w -I FORWARD -j DOCKER-USER",
        ] {
            let _ = sh(program, rule);
        }
    }
    Ok(())
}

/// The same plan with something that no kernel takes, at any place among its routes or rules.
fn impossible(plan: &Plan, rng: &mut Rng) -> Plan {
    let mut plan = plan.clone();
    if rng.bool() {
        let at = rng.usize(..=plan.rules.len());
        let rule = Rule {
            family: Family::V6,
            priority: Priority(7369),
            selector: Selector::Mark(Mark::DEFAULT),
            table: TableId(0),
            passes_over: None,
        };
        plan.rules.insert(at, rule);
    } else {
        let at = rng.usize(..=plan.routes.len());
        let route = Route {
            family: Family::V6,
            table: Numbers::default().table,
            metric: UNREACHABLE_METRIC - 1,
            // IPv6 routes have no routers of IPv4.
            target: Target::Hop(Hop {
                interface: Interface {
                    name: "lo".into(),
                    index: IfIndex(1),
                },
                gateway: Some(Ipv4Addr::LOCALHOST.into()),
                onlink: false,
                source: None,
            }),
        };
        plan.routes.insert(at, route);
    }
    plan
}

/// What routing can change, in an order of its own; the record of it is there from the first step on. The kernel's own
/// routes for multicast come and go some time after their link did.
fn lines(run_dir: &TempDir) -> Result<String> {
    let text = snapshot(run_dir.path())?;
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| !line.ends_with(".json") && !line.starts_with("multicast ff00::/8"))
        .collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

async fn steps(seed: u64, count: u32) -> Result<()> {
    let host = Host::new()?;
    let mut world = World {
        vpn: Some(host.vpn.clone()),
        sources: BTreeSet::new(),
        on_down: OnDown::Block,
        networks: Vec::new(),
        dns: Vec::new(),
        forwards: Vec::new(),
        redirects: false,
    };
    let mut rng = Rng::with_seed(seed);
    let mut routing = Routing::open(host.run_dir(), Numbers::default()).await?;
    let mut refused = 0;
    for step in 0..count {
        let what = world.happens(&mut rng)?;
        let context = || format!("step {step}: {what}, STEER_SEED={seed}");
        let plan = world.plan().await.with_context(context)?;
        if rng.bool() {
            let before = lines(&host.run_dir)?;
            let failed = routing.apply(&impossible(&plan, &mut rng)).await;
            assert!(failed.is_err(), "{}: nothing was refused", context());
            netns::assert_same(&before, &lines(&host.run_dir)?);
            refused += 1;
        }
        routing.apply(&plan).await.with_context(context)?;
        world.check().with_context(context)?;
        let again = routing.apply(&plan).await.with_context(context)?;
        assert_eq!(again, [], "{}: not all was done", context());
    }
    routing.remove().await?;
    let after = lines(&host.run_dir)?;
    assert!(
        !after.contains("735") && !after.contains("steer") && !after.contains("proto 173"),
        "{after}"
    );
    println!("{count} transitions, {refused} of them refused at some step before they were made");
    Ok(())
}

#[test]
fn whatever_happens_routing_is_what_is_planned_or_what_it_was() -> Result<()> {
    let number = |name, default| env::var(name).map_or(Ok(default), |value| value.parse::<u64>());
    let seed = number("STEER_SEED", fastrand::u64(..))?;
    let count = number("STEER_TRANSITIONS", 25)?;
    println!("STEER_SEED={seed} STEER_TRANSITIONS={count}");
    netns::run(async move || steps(seed, u32::try_from(count)?).await)
}
