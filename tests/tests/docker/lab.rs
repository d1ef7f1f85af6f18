//! The lab's own judges: each must tell a right path from a wrong one, or no other test means
//! anything. Hand-made routes do here what steer would do.

use anyhow::Result;
use steer_tests::lab::{
    DockerVersion, FILLING, Families, IMAGE, Lab, Network, Ns,
    plan::{Path, Range},
};

use crate::pull::{is_refused, takes_two_paths};

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
    lab.shell(Ns::Box, &script).map(drop)
}

#[test]
fn a_pull_is_refused_directly_and_works_on_two_paths() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    is_refused(&lab)?;
    through_the_tunnel(&lab, &[Range::Refusing])?;
    takes_two_paths(&lab, Families::Both, String::new)?;

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
