//! Packets of flows, each kind again and again.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;
use steer_common::types::{ScopeEntry, ScopeKey};

use super::{take, turns};
use crate::{
    kernel::{
        BRIDGE, Clock, DEVICE, Kernel, Timed,
        frame::{ACK, Ends, SYN, ethernet},
    },
    options::Options,
    report::model::Recorder,
};

/// Octets of the payload of datagrams.
const DATAGRAM: [u8; 64] = [0x41; 64];
/// Of segments that carry something: none that a connection begins with.
const SEGMENT: [u8; 1000] = [0xa5; 1000];

/// A client and two servers, of which the second is known to be for the VPN.
struct Family {
    name: &'static str,
    client: IpAddr,
    direct: IpAddr,
    steered: IpAddr,
}

impl Family {
    fn both() -> [Self; 2] {
        let v6 = |last| IpAddr::from([0x2001, 0xdb8, 0xb10c, 0, 0, 0, 0, last]);
        [
            Self {
                name: "IPv4",
                client: [172, 17, 0, 2].into(),
                direct: [203, 0, 113, 7].into(),
                steered: [203, 0, 113, 8].into(),
            },
            Self {
                name: "IPv6",
                client: [0xfd00, 0, 0, 0, 0, 0, 0, 2].into(),
                direct: v6(7),
                steered: v6(8),
            },
        ]
    }

    /// A flow from this port to 443.
    fn flow(&self, port: u16, to: IpAddr) -> Ends {
        Ends {
            near: self.client,
            near_port: port,
            far: to,
            far_port: 443,
        }
    }
}

/// Measures them, under several configurations.
pub fn measure(kernel: &mut Kernel, options: &Options, recorder: &mut Recorder) -> Result<()> {
    let device = if_nametoindex(DEVICE).context("the interface of the benchmark is gone")?;
    prepare(kernel)?;
    kernel.homes(2)?;
    let mut clock = Clock::new()?;
    all(kernel, &mut clock, device)?;
    take(recorder, &clock.run(kernel, turns(options))?);

    kernel.homes(8)?;
    some(kernel, "8 home networks", device, options, recorder)?;
    kernel.homes(60)?;
    some(kernel, "60 home networks", device, options, recorder)?;
    kernel.homes(2)?;

    kernel.configured(|config| config.watched = u64::MAX)?;
    some(kernel, "steer top looks on", device, options, recorder)?;
    kernel.configured(|config| config.watched = 0)?;

    scopes(kernel, true)?;
    some(kernel, "with scopes", device, options, recorder)?;
    scopes(kernel, false)?;

    kernel.has_networks()?;
    some(kernel, "a rule for a network", device, options, recorder)?;
    kernel.configured(|config| config.nets = 0)
}

/// Flows of both families to the second server: from port 9 over TCP, from port 10 over UDP.
fn prepare(kernel: &mut Kernel) -> Result<()> {
    let families = Family::both();
    kernel.knows(families.iter().map(|family| family.steered))?;
    kernel.holds(families.iter().map(|family| family.flow(9, family.steered)))?;
    Ok(())
}

fn all(kernel: &Kernel, clock: &mut Clock, device: u32) -> Result<()> {
    let mut add = |what: &str, program: &str, frame: Vec<u8>, interface: u32| {
        let timed = Timed::Same {
            frame,
            interface,
            // What is told of flows that begin has room for so many.
            repeat: if what.contains("SYN to") {
                8_000
            } else {
                20_000
            },
        };
        clock.add(kernel, what, program, timed)
    };
    let not_ip = ethernet(0x0806, &[0; 28]);
    add("from a container: not IP", "bridge_ingress", not_ip, 0)?;
    for family in Family::both() {
        let name = family.name;
        let (held, left) = (
            family.flow(9, family.steered),
            family.flow(9, family.direct),
        );
        let datagrams = |to| family.flow(10, to).udp(&DATAGRAM);
        let mut from = |what: &str, frame| {
            add(
                &format!("from a container: {what}, {name}"),
                "bridge_ingress",
                frame,
                0,
            )
        };
        from("TCP, of a flow on the VPN (hit)", held.tcp(ACK, &[]))?;
        from("TCP, of no flow (miss)", left.tcp(ACK, &[]))?;
        from("TCP with 1,000 octets, hit", held.tcp(ACK, &SEGMENT))?;
        from("TCP with 1,000 octets, miss", left.tcp(ACK, &SEGMENT))?;
        from("SYN, unmatched", left.tcp(SYN, &[]))?;
        from("SYN to an address of the VPN", held.tcp(SYN, &[]))?;
        from("UDP, direct", datagrams(family.direct))?;
        from("UDP, by the VPN", datagrams(family.steered))?;
        let mut to = |what: &str, frame| {
            add(
                &format!("to a container: {what}, {name}"),
                "bridge_egress",
                frame,
                0,
            )
        };
        to("TCP", left.turned().tcp(ACK, &[]))?;
        to("TCP with 1,000 octets", left.turned().tcp(ACK, &SEGMENT))?;
        to("UDP", left.turned().udp(&DATAGRAM))?;
        for (whose, program, ends) in [
            ("from a process", "cgroup_egress", left),
            ("to a process", "cgroup_ingress", left.turned()),
        ] {
            let what = format!("{whose}: TCP, {name}");
            add(&what, program, ends.tcp(ACK, &[]), device)?;
            let what = format!("{whose}: UDP, {name}");
            add(&what, program, ends.udp(&DATAGRAM), device)?;
        }
    }
    Ok(())
}

/// The commonest kinds, under a configuration.
fn some(
    kernel: &mut Kernel,
    under: &str,
    device: u32,
    options: &Options,
    recorder: &mut Recorder,
) -> Result<()> {
    let [family, _] = Family::both();
    let (held, left) = (
        family.flow(9, family.steered),
        family.flow(9, family.direct),
    );
    let mut clock = Clock::new()?;
    for (what, program, frame, interface) in [
        (
            "from a container: TCP, hit",
            "bridge_ingress",
            held.tcp(ACK, &[]),
            0,
        ),
        (
            "from a container: TCP, miss",
            "bridge_ingress",
            left.tcp(ACK, &[]),
            0,
        ),
        (
            "from a container: SYN, unmatched",
            "bridge_ingress",
            left.tcp(SYN, &[]),
            0,
        ),
        (
            "to a container: TCP",
            "bridge_egress",
            left.turned().tcp(ACK, &[]),
            0,
        ),
        (
            "from a process: TCP",
            "cgroup_egress",
            left.tcp(ACK, &[]),
            device,
        ),
        (
            "to a process: TCP",
            "cgroup_ingress",
            left.turned().tcp(ACK, &[]),
            device,
        ),
    ] {
        let timed = Timed::Same {
            frame,
            interface,
            repeat: 20_000,
        };
        clock.add(kernel, &format!("{what}, {under}"), program, timed)?;
    }
    take(recorder, &clock.run(kernel, turns(options))?);
    Ok(())
}

/// Puts the clients in a scope that leaves them alone, or none; those are in force.
fn scopes(kernel: &mut Kernel, there: bool) -> Result<()> {
    let entry = |default| ScopeEntry {
        default,
        scope: 1,
        ..ScopeEntry::NONE
    };
    let key = |address: IpAddr| ScopeKey {
        bridge: BRIDGE,
        zero: 0,
        address: address.into(),
    };
    let whole = ScopeKey {
        bridge: BRIDGE,
        ..ScopeKey::default()
    };
    let mut now = steer::datapath::Scopes::from([(whole, entry(ScopeEntry::EACH))]);
    for family in Family::both() {
        now.insert(key(family.client), entry(ScopeEntry::FREE));
    }
    let none = steer::datapath::Scopes::new();
    let (before, now) = if there { (&none, &now) } else { (&now, &none) };
    kernel.datapath().set_scopes(before, now)?;
    kernel.configured(|config| {
        config.scopes = u32::from(there);
        config.processes = u32::from(there);
    })
}
