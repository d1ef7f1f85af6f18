//! A running steer is open to the kernel's own tools: maps print their fields by name, and the
//! programs are where `bpftool` looks for them.

use anyhow::Result;
use serde::Deserialize;
use steer_tests::fixture::{BRIDGE, Shared, lookup, open, resolve, server};

#[derive(Deserialize)]
struct Link {
    prog_id: Option<u32>,
}

#[derive(Deserialize)]
struct Program {
    id: u32,
}

#[test]
fn by_bpftool() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (_, client) in &mut lab.clients()? {
        let number = lab.numbers(1)?;
        resolve(client, lookup(number, "fresh", false))?;
        open(client, server(number, false))?;
    }
    let bpftool = |line: &str| -> Result<String> {
        let said = lab.in_box(&format!("bpftool {line}"))?;
        println!("# bpftool {line}\n{said}");
        Ok(said)
    };
    let bpffs = lab.lab.steer_bpffs();
    let bpffs = bpffs.display();
    for (map, fields) in [
        ("CONFIG", ["vpns", "mask", "default"]),
        ("RULES", ["key", "exact", "below"]),
        ("ADDRS", ["octets", "vpn_until", "vpn_rule"]),
        ("FLOWS", ["origin", "remote_port", "seen"]),
        ("STATS", ["flow_begun", "dns_learned", "flows_full"]),
        (
            "TRAFFIC",
            ["processes_direct", "containers_vpn", "bytes_in"],
        ),
    ] {
        let dump = bpftool(&format!("map dump pinned {bpffs}/{map}"))?;
        for field in fields {
            assert!(
                dump.contains(&format!("\"{field}\":")),
                "{map} shows no {field}: {dump}"
            );
        }
    }
    // Of cgroups it tells too little before Linux 6.0, and of tcx nothing before its version 7.3: every one tells of links,
    // and tc of filters.
    bpftool(&format!("cgroup tree {}", lab.lab.cgroup().display()))?;
    bpftool("net show")?;
    let links: Vec<Link> = serde_json::from_str(&bpftool("-j link show")?)?;
    let mut filters = String::new();
    for hook in ["ingress", "egress"] {
        filters += &lab.in_box(&format!("tc filter show dev {BRIDGE} {hook}"))?;
    }
    for program in [
        "sock_create",
        "connect4",
        "connect6",
        "sendmsg4",
        "sendmsg6",
        "cgroup_ingress",
        "cgroup_egress",
        "bridge_ingress",
        "bridge_egress",
    ] {
        let pinned = bpftool(&format!("-j prog show pinned {bpffs}/programs/{program}"))?;
        let id = serde_json::from_str::<Program>(&pinned)?.id;
        let linked = links.iter().any(|link| link.prog_id == Some(id));
        let filtered = filters.contains(&format!("{program} direct-action"));
        assert!(
            linked || filtered,
            "{program} with id {id} is on no link and no filter: {filters}"
        );
    }
    lab.done()
}

#[test]
fn it_runs_with_the_capabilities_that_it_needs() -> Result<()> {
    /// `CAP_DAC_READ_SEARCH`, `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_SYS_PTRACE`, `CAP_PERFMON`, `CAP_BPF`.
    const NEEDED: [u64; 6] = [2, 12, 13, 19, 38, 39];
    let lab = Shared::steered()?;
    let pid = lab.running()?.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    println!("{status}");
    let needed = NEEDED.iter().map(|number| 1 << number).sum::<u64>();
    for (field, value) in [
        ("CapInh", 0),
        ("CapPrm", needed),
        ("CapEff", needed),
        ("CapBnd", needed),
        ("CapAmb", 0),
    ] {
        assert!(
            status.contains(&format!("{field}:\t{value:016x}\n")),
            "{field}: {status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    lab.done()
}
