//! Two VPNs with different exits, by scopes, by rules and by the labels of a Compose file; by the servers' log.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use steer_tests::lab::{
    DockerVersion, IMAGE, Lab, Seen,
    plan::{Path, RESOLVER_V4},
};

use super::scopes::{QUIET, as_now, snapshot};

/// Both VPNs, and scopes that containers are put into by their labels.
fn vpns(first: &str, second: &str) -> String {
    format!(
        "[[vpn]]\nname = \"us\"\ninterface = \"{first}\"\n
         [[vpn]]\nname = \"de\"\ninterface = \"{second}\"\n"
    )
}

fn scope(selector: &str, rest: &str) -> String {
    format!("[[scope]]\n{selector}\ndns = \"{RESOLVER_V4}\"\non_stop = \"release\"\n{rest}\n")
}

/// What a container asks for, by a path of its own, so that the log tells whose it was.
fn url(host: &str, who: &str) -> String {
    format!("https://{host}/{who}")
}

fn curl(url: &str) -> Vec<&str> {
    vec!["curl", "-sSm10", "-o", "/dev/null", url]
}

/// The one request for that path.
fn one<'a>(seen: &'a [Seen], who: &str) -> Result<&'a Seen> {
    let path = format!(" /{who}");
    let mut of = seen.iter().filter(|it| it.request.ends_with(&path));
    let found = of
        .next()
        .with_context(|| format!("nobody asked for {who}: {seen:#?}"))?;
    ensure!(of.next().is_none(), "{who} asked twice: {seen:#?}");
    Ok(found)
}

#[test]
fn two_vpns_three_scopes_and_a_rule() -> Result<()> {
    let mut lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    let second = lab.second_tunnel()?;
    lab.load_image()?;
    const NETWORKS: [&str; 3] = ["american", "german", "plain"];
    for (number, network) in NETWORKS.into_iter().enumerate() {
        let subnet = format!("fd00:e{number}::/64");
        let make = ["network", "create", "--ipv6", "--subnet", &subnet, network];
        lab.docker(&make)?.stdout()?;
    }
    let before = snapshot(&lab, &NETWORKS)?;
    let config = vpns(lab.tunnel_interface(), second)
        + "[rules]\nvpn = [{ rule = \".blocked.example\", vpn = \"de\" }, \"v6.direct.example\"]\n"
        + &scope("network = \"american\"", "")
        + &scope("network = \"german\"", "vpn = \"de\"")
        + &scope(
            "container = \"free*\"",
            "vpn = \"de\"\ndefault = \"direct\"",
        );
    let steer = lab.steer(&config, &QUIET)?;

    let (us, de) = (Path::Vpn, Path::SecondVpn);
    for (name, network, host, path) in [
        // What no rule speaks of goes by the VPN of the scope, the default one if it does not say which.
        ("american4", "american", "v4.direct.example", us),
        ("german4", "german", "v4.direct.example", de),
        ("free4", "plain", "v4.direct.example", Path::Direct),
        ("nobody4", "plain", "v4.direct.example", Path::Direct),
        // A rule that does not say which VPN means the scope's.
        ("american6", "american", "v6.direct.example", us),
        ("german6", "german", "v6.direct.example", de),
        ("free6", "plain", "v6.direct.example", de),
        ("nobody6", "plain", "v6.direct.example", us),
        // One that says which goes before the scope's.
        ("american-rule4", "american", "v4.blocked.example", de),
        ("german-rule6", "german", "v6.blocked.example", de),
        ("free-rule4", "plain", "v4.blocked.example", de),
        ("nobody-rule6", "plain", "v6.blocked.example", de),
    ] {
        let how = ["--network", network, "--name", name];
        let ran = lab.container_with(&how, &curl(&url(host, name)))?;
        ensure!(ran.ok(), "{name}: {}\n{}", ran.said(), steer.output());
        let seen = lab.seen()?;
        let request = one(&seen, name)?;
        println!("{name:<15} {host:<19} was asked for by {}", request.client);
        ensure!(
            request.path == path,
            "{name}: {request:#?}\n{}",
            steer.output()
        );
    }

    let add = ["rules", "add", "vpn", "v4.direct.example", "--by"];
    let said = lab.ask_steer(&[&add[..], &["fr"]].concat())?.said();
    ensure!(
        said.contains("there is no VPN \"fr\"; there are us, de"),
        "{said}"
    );
    lab.ask_steer(&[&add[..], &["de"]].concat())?.stdout()?;
    for (name, network) in [("american-added", "american"), ("nobody-added", "plain")] {
        let how = ["--network", network];
        let ran = lab.container_with(&how, &curl(&url("v4.direct.example", name)))?;
        ensure!(ran.ok(), "{name}: {}\n{}", ran.said(), steer.output());
        let seen = lab.seen()?;
        let request = one(&seen, name)?;
        ensure!(request.path == de, "{name}: {request:#?}");
    }

    let told = lab.ask_steer(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&told.stdout).with_context(|| told.said())?;
    let vpns = status["vpns"].as_array().context("no VPNs are told")?;
    let names: Vec<_> = vpns.iter().map(|it| (&it["name"], &it["up"])).collect();
    ensure!(
        names.len() == 2 && vpns.iter().all(|it| it["up"] == true) && vpns[0]["default"] == true,
        "{status:#}"
    );
    ensure!(
        status["scopes"][0]["vpn"] == "us" && status["scopes"][1]["vpn"] == "de",
        "{status:#}"
    );
    for (words, line) in [
        (vec!["explain", "v4.blocked.example"], "takes the VPN de"),
        (vec!["explain", "v6.direct.example"], "takes the VPN us"),
        (vec!["rules", "test", "v4.blocked.example"], "vpn de"),
    ] {
        let said = lab.ask_steer(&words)?.said();
        println!("$ steer {}\n{said}", words.join(" "));
        ensure!(said.contains(line), "{said}");
    }
    println!("{}", lab.ask_steer(&["status"])?.said());
    let said = steer.terminate()?;
    println!("{said}");
    for line in [
        "scope network german 198.51.100.11 port 443 tcp → vpn de",
        "203.0.113.11 → vpn de (rule",
    ] {
        ensure!(said.contains(line), "{line}");
    }
    let left = before.diff(&as_now(&lab)?);
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// What a user writes who wants nothing but labels.
fn compose_file() -> String {
    let mut file = "services:\n".to_owned();
    for (service, label) in [
        ("plain", ""),
        ("far", "steer.path: vpn"),
        ("other", "steer.path: de"),
        ("shut", "steer.path: none"),
    ] {
        let url = url("v4.direct.example", service);
        file += &format!(
            "  {service}:\n    image: {IMAGE}\n    labels: {{{label}}}\n    command: curl -sSm10 -o /dev/null {url}\n"
        );
    }
    file
}

fn a_compose_file_with_labels_only(version: DockerVersion) -> Result<()> {
    let mut lab = Lab::builder().docker(version).up()?;
    let second = lab.second_tunnel()?;
    lab.load_image()?;
    let config = vpns(lab.tunnel_interface(), second)
        + &scope("label = \"steer.path=vpn\"", "")
        + &scope("label = \"steer.path=de\"", "vpn = \"de\"")
        + "[[scope]]\nlabel = \"steer.path=none\"\ndefault = \"block\"\n";
    let steer = lab.steer(&config, &QUIET)?;
    let folder = lab.dir().join("media");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("compose.yaml"), compose_file())?;
    let compose = |args: &[&str]| lab.compose(&folder, "media", args);
    let ran = compose(&["up", "--no-build", "--pull", "never"])?;
    println!("{}\n{}", compose_file(), ran.said());
    let seen = lab.seen()?;
    for (service, path) in [
        ("plain", Path::Direct),
        ("far", Path::Vpn),
        ("other", Path::SecondVpn),
    ] {
        let request = one(&seen, service)?;
        println!("{service:<6} came from {}", request.client);
        ensure!(request.path == path, "{request:#?}\n{}", steer.output());
    }
    ensure!(seen.len() == 3, "{seen:#?}");
    compose(&["down"])?.stdout()?;
    steer.terminate().map(drop)
}

#[test]
fn a_compose_file_has_labels_only() -> Result<()> {
    a_compose_file_with_labels_only(DockerVersion::Installed)
}

#[test]
fn a_compose_file_has_labels_only_with_docker_of_sid() -> Result<()> {
    a_compose_file_with_labels_only(DockerVersion::Sid)
}
