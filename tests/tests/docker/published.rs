//! Published ports answer who asked before, and who asks by the VPN besides.

use anyhow::Result;
use steer_tests::lab::{
    DockerVersion, IMAGE, Lab, Network, Ns,
    plan::{TUNNEL_V4, VPN_V4},
};

/// Which of them are answered: from the provider's side, over both families, from another network and from the container
/// itself, by the host's address.
fn answered(lab: &Lab) -> Result<[bool; 4]> {
    let [v4, v6] = ["10.10.0.2", "[fd00:10::2]"].map(url);
    let elsewhere = ["curl", "-sSm3", "-o", "/dev/null", &v4];
    let inside = [&["exec", "web"], &elsewhere[..]].concat();
    Ok([
        asks(lab, Ns::Isp, &v4)?,
        asks(lab, Ns::Isp, &v6)?,
        lab.container(Network::UserDefined, &elsewhere)?.ok(),
        lab.docker(&inside)?.ok(),
    ])
}

fn url(host: &str) -> String {
    format!("http://{host}:8080/ca.pem")
}

fn asks(lab: &Lab, ns: Ns, url: &str) -> Result<bool> {
    let ran = lab.run(ns, &["curl", "-sSm3", "-o", "/dev/null", url])?;
    Ok(ran.ok())
}

#[test]
fn published_ports_answer_whoever_asked_before_and_who_asks_by_the_vpn() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    let server = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];
    let run = ["run", "-d", "--name", "web", "-p", "8080:80", IMAGE];
    lab.docker(&[&run[..], &server].concat())?.stdout()?;
    // Whoever comes by the VPN keeps his address, which the way back by the uplink is for.
    let forwarding = format!(
        "nft add table ip forwarding
         nft add chain ip forwarding in '{{ type nat hook prerouting priority dstnat; }}'
         nft add rule ip forwarding in ip daddr {VPN_V4} tcp dport 8080 dnat to {TUNNEL_V4}"
    );
    lab.shell(Ns::Vpn, &forwarding)?;
    let by_vpn = url(&VPN_V4.to_string());
    let unsteered = answered(&lab)?;
    assert_eq!(unsteered[..2], [true, true]);

    let steer = lab.steer("", &["--no-resolve"])?;
    assert_eq!(
        answered(&lab)?,
        unsteered,
        "steer said:\n{}",
        steer.output()
    );
    assert!(
        asks(&lab, Ns::Internet, &by_vpn)?,
        "by the VPN; steer said:\n{}",
        steer.output()
    );
    steer.terminate().map(drop)
}
