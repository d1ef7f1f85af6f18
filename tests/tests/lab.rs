//! The lab's own judges: each must tell a right path from a wrong one, or no other test means
//! anything. Hand-made rules do here what steer would do.

use anyhow::Result;
use steer_tests::lab::{DockerVersion, FILLING, IMAGE, Lab, Network, Ns, plan::Path};

/// Sends a range through the tunnel, as steer would send the names that lie there.
fn through_the_tunnel(lab: &Lab, ranges: &[&str]) -> Result<()> {
    let dev = lab.tunnel_interface();
    let mut script = format!("echo 2 > /proc/sys/net/ipv4/conf/{dev}/rp_filter\n");
    for range in ranges {
        let family = if range.contains(':') { "-6" } else { "-4" };
        script += &format!("ip {family} route add {range} dev {dev}\n");
    }
    script += &format!(
        "nft 'add table inet byhand'
         nft 'add chain inet byhand post {{ type nat hook postrouting priority srcnat; }}'
         nft 'add rule inet byhand post oifname {dev} masquerade'"
    );
    lab.run(Ns::Box, &["sh", "-ec", &script])?.stdout()?;
    Ok(())
}

#[test]
fn a_pull_is_refused_directly_and_works_on_two_paths() -> Result<()> {
    let mut tell = |line: &str| eprintln!("{line}");
    let lab = Lab::builder()
        .docker(DockerVersion::Installed)
        .progress(&mut tell)
        .up()?;
    let refused = lab.pull(IMAGE)?;
    eprintln!("{}", refused.said());
    assert!(
        !refused.ok(),
        "the geo-block let a direct pull through: {}",
        refused.said()
    );
    assert!(
        lab.seen()?
            .iter()
            .all(|seen| seen.path == Path::Direct && seen.status == 403)
    );

    through_the_tunnel(&lab, &["192.0.2.0/24", "2001:db8:403::/64"])?;
    let before = lab.seen()?.len();
    let through = lab.tunnel_bytes()?;
    let pulled = lab.pull(IMAGE)?;
    assert!(pulled.ok(), "{}", pulled.said());
    for seen in &lab.seen()?[before..] {
        eprintln!("{seen:?}");
        let right = if seen.layer { Path::Direct } else { Path::Vpn };
        assert_eq!(seen.path, right, "{seen:?}");
    }
    let down = lab.tunnel_bytes()?.down - through.down;
    assert!(
        down < FILLING / 10,
        "{down} bytes came through the tunnel: a layer was among them"
    );
    eprintln!("{down} down the tunnel");

    for network in [Network::DefaultBridge, Network::UserDefined] {
        for name in [
            "v4.direct.example",
            "v6.direct.example",
            "v4.blocked.example",
            "v6.blocked.example",
        ] {
            let url = format!("https://{name}/");
            let ran = lab.container(network, &["curl", "-sSm3", &url])?;
            eprintln!("{network:?} {url}: {:?} {}", ran.code, ran.said());
        }
    }
    through_the_tunnel(&lab, &["203.0.113.0/24", "2001:db8:b10c::/64"])?;
    for network in [Network::DefaultBridge, Network::UserDefined] {
        for name in ["v4.blocked.example", "v6.blocked.example"] {
            let url = format!("https://{name}/");
            let ran = lab.container(network, &["curl", "-sSm3", &url])?;
            eprintln!("{network:?} {url}: {:?} {}", ran.code, ran.said());
        }
    }
    eprintln!("blocked by isp: {}", lab.blocked_by_isp()?);
    Ok(())
}
