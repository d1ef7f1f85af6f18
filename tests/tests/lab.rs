//! The lab's own judges: each must tell a right path from a wrong one, or no other test means
//! anything. Hand-made routes do here what steer would do.

use anyhow::Result;
use steer_tests::lab::{
    DockerVersion, FILLING, HostSnapshot, IMAGE, Lab, Network, Ns, Tunnel,
    plan::{Path, Range},
};

/// Sends ranges through the tunnel, as steer would send the names that lie there.
fn through_the_tunnel(lab: &Lab, ranges: &[Range]) -> Result<()> {
    let dev = lab.tunnel_interface();
    let mut script = format!("echo 2 > /proc/sys/net/ipv4/conf/{dev}/rp_filter\n");
    for range in ranges {
        script += &format!("ip route add {} dev {dev}\n", range.v4());
        script += &format!("ip -6 route add {} dev {dev}\n", range.v6());
    }
    script += &format!(
        "nft 'add table inet byhand
              add chain inet byhand post {{ type nat hook postrouting priority srcnat; }}
              add rule inet byhand post oifname {dev} masquerade'"
    );
    lab.run(Ns::Box, &["sh", "-ec", &script])?
        .stdout()
        .map(drop)
}

#[test]
fn a_pull_is_refused_directly_and_works_on_two_paths() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    let refused = lab.pull(IMAGE)?;
    assert!(
        !refused.ok(),
        "the geo-block let a direct pull through: {}",
        refused.said()
    );
    let seen = lab.seen()?;
    assert!(
        !seen.is_empty(),
        "the registry saw no request: {}",
        refused.said()
    );
    assert!(
        seen.iter()
            .all(|seen| seen.path == Path::Direct && seen.status == 403),
        "{seen:#?}"
    );

    through_the_tunnel(&lab, &[Range::Refusing])?;
    let tunnel = lab.tunnel_bytes()?.down;
    let pulled = lab.pull(IMAGE)?;
    assert!(pulled.ok(), "{}", pulled.said());
    let seen = lab.seen()?.split_off(seen.len());
    for seen in &seen {
        let right = if seen.layer { Path::Direct } else { Path::Vpn };
        assert_eq!(seen.path, right, "{seen:?}");
    }
    let layers: u64 = seen
        .iter()
        .filter(|seen| seen.layer)
        .map(|seen| seen.bytes)
        .sum();
    assert!(layers > FILLING, "the layer host sent {layers} bytes only");
    let tunnel = lab.tunnel_bytes()?.down - tunnel;
    assert!(
        tunnel < FILLING / 10,
        "{tunnel} bytes came through the tunnel: layers, too"
    );

    through_the_tunnel(&lab, &[Range::Open])?;
    let tunnel = lab.tunnel_bytes()?.down;
    assert!(lab.pull(IMAGE)?.ok());
    assert!(
        lab.seen()?
            .iter()
            .any(|seen| seen.layer && seen.path == Path::Vpn)
    );
    assert!(
        lab.tunnel_bytes()?.down - tunnel > FILLING,
        "the tunnel's count misses the layers"
    );
    Ok(())
}

#[test]
fn a_container_is_reset_directly_and_served_through_the_tunnel() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    let ask = |name: &str| -> Result<Vec<String>> {
        let url = format!("https://{name}/");
        let networks = [Network::DefaultBridge, Network::UserDefined];
        networks
            .map(|network| Ok(lab.container(network, &["curl", "-sSm5", &url])?.said()))
            .into_iter()
            .collect()
    };
    for (name, client) in [
        ("v4.direct.example", "10.20.0.1"),
        ("v6.direct.example", "fd00:20::1"),
    ] {
        for said in ask(name)? {
            assert!(said.ends_with(client), "{name}: {said}");
        }
    }
    let blocked = lab.blocked_by_isp()?;
    for said in [ask("v4.blocked.example")?, ask("v6.blocked.example")?].concat() {
        assert!(said.contains("(7)"), "the provider did not reset: {said}");
    }
    assert!(
        lab.blocked_by_isp()? >= blocked + 4,
        "the provider does not count what it resets"
    );

    through_the_tunnel(&lab, &[Range::Blocked])?;
    for (name, client) in [
        ("v4.blocked.example", "10.40.0.1"),
        ("v6.blocked.example", "fd00:40::1"),
    ] {
        for said in ask(name)? {
            assert!(said.ends_with(client), "{name}: {said}");
        }
    }
    Ok(())
}

#[test]
fn a_snapshot_is_the_same_until_something_changes() -> Result<()> {
    let lab = Lab::builder().tunnel(Tunnel::WireGuardGo).up()?;
    let before = HostSnapshot::take(&lab)?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab)?), "");
    for (change, back, trace) in [
        (
            "ip rule add fwmark 1 lookup 77",
            "ip rule del fwmark 1 lookup 77",
            "fwmark 0x1",
        ),
        (
            "ip -6 route add unreachable default table 77",
            "ip -6 route flush table 77",
            "table 77",
        ),
        (
            "nft add table inet trace",
            "nft delete table inet trace",
            "table inet trace",
        ),
        (
            "tc qdisc add dev eth0 clsact",
            "tc qdisc del dev eth0 clsact",
            "clsact",
        ),
        (
            "echo 0 >/proc/sys/net/ipv4/conf/wg0/rp_filter",
            "echo 1 >/proc/sys/net/ipv4/conf/wg0/rp_filter",
            "wg0/rp_filter:0",
        ),
    ] {
        lab.run(Ns::Box, &["sh", "-ec", change])?.stdout()?;
        let diff = before.diff(&HostSnapshot::take(&lab)?);
        assert!(
            diff.contains(trace),
            "after `{change}` the snapshot shows: {diff}"
        );
        lab.run(Ns::Box, &["sh", "-ec", back])?.stdout()?;
        assert_eq!(
            before.diff(&HostSnapshot::take(&lab)?),
            "",
            "after `{back}`"
        );
    }
    let pin = lab.bpffs().join("trace");
    std::fs::create_dir(&pin)?;
    assert!(
        before
            .diff(&HostSnapshot::take(&lab)?)
            .contains("bpf/trace")
    );
    Ok(())
}

#[test]
fn nothing_is_left_of_a_lab() -> Result<()> {
    let lab = Lab::builder().up()?;
    let (name, dir, cgroup) = (
        lab.name().to_owned(),
        lab.dir().to_owned(),
        lab.cgroup().to_owned(),
    );
    assert!(dir.exists() && cgroup.exists() && lab.netns(Ns::Box).exists());
    drop(lab);
    assert!(
        !dir.exists() && !cgroup.exists(),
        "{name} left files or cgroups"
    );
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    assert!(!mounts.contains(&name), "{name} left mounts: {mounts}");
    for entry in std::fs::read_dir("/run/netns")? {
        let netns = entry?.file_name().to_string_lossy().into_owned();
        assert!(!netns.starts_with(&format!("{name}-")), "{netns} is left");
    }
    Ok(())
}
