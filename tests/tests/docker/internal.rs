//! Networks that Docker makes with `--internal`: why nobody gets their containers out by a VPN without changing them, so that it
//! is noticed when Docker changes it; and what serves in their place.

use anyhow::{Result, ensure};
use steer_tests::lab::{DockerVersion, Lab, plan::Path};

use crate::scopes::{QUIET, isolated};

/// What a container on an internal network has of it.
struct ShutIn {
    version: DockerVersion,
    has_default_route: bool,
    /// What Docker's own resolver says of a name outside.
    resolver_says: &'static str,
    curl_says: &'static str,
}

const URL: &str = "https://v4.direct.example/";

fn within(lab: &Lab, network: &str, command: &[&str]) -> Result<String> {
    let ran = lab.container_with(&["--network", network], command)?;
    println!("{network}, {command:?}: {}", ran.said());
    Ok(ran.said())
}

impl ShutIn {
    fn is_as_documented(&self) -> Result<()> {
        let lab = Lab::builder().docker(self.version).up()?;
        lab.load_image()?;
        let create = ["network", "create"];
        lab.docker(&[&create[..], &["--internal", "shut"]].concat())?
            .stdout()?;
        let bare = "com.docker.network.bridge.enable_ip_masquerade=false";
        lab.docker(&[&create[..], &["-o", bare, "bare"]].concat())?
            .stdout()?;
        lab.idle_container("other", "shut")?;
        let capture = lab.capture("port 53 or port 80 or port 443")?;
        self.is_shut_in(&lab)?;
        let release = "on_stop = \"release\"\n";
        let scopes = ["shut", "bare"].map(|it| isolated(&format!("network = \"{it}\"")) + release);
        let steer = lab.steer(&scopes.concat(), &QUIET)?;
        self.is_shut_in(&lab)?;
        // Nothing translates these but steer, and that by the VPN alone.
        let said = within(&lab, "bare", &["curl", "-sSm10", URL])?;
        let seen = lab.seen()?;
        ensure!(
            seen.len() == 1 && seen[0].path == Path::Vpn,
            "{said}: {seen:?}"
        );
        let direct = capture.seen()?;
        ensure!(direct.is_empty(), "asked or sent outside: {direct}");
        steer.terminate()?;
        let said = within(&lab, "bare", &["curl", "-sSm3", "http://198.51.100.11/"])?;
        ensure!(said.contains("timed out"), "{said}");
        let direct = capture.seen()?;
        ensure!(!direct.is_empty(), "the capture sees nothing");
        lab.docker(&["rm", "-f", "other"])?.stdout().map(drop)
    }

    fn is_shut_in(&self, lab: &Lab) -> Result<()> {
        let routes = within(lab, "shut", &["ip", "route"])?;
        ensure!(
            routes.contains("default via") == self.has_default_route,
            "{routes}"
        );
        for (name, says) in [
            ("v4.direct.example", self.resolver_says),
            ("other", "Name:\tother"),
        ] {
            let said = within(lab, "shut", &["busybox", "nslookup", name])?;
            ensure!(said.contains(says), "{name}: {said}");
        }
        let said = within(lab, "shut", &["curl", "-sSm3", "http://198.51.100.11/"])?;
        ensure!(said.contains(self.curl_says), "{said}");
        Ok(())
    }
}

#[test]
fn nothing_of_an_internal_network_gets_out() -> Result<()> {
    let installed = ShutIn {
        version: DockerVersion::Installed,
        has_default_route: true,
        // It asks from within the container, and Docker drops that on its way out.
        resolver_says: "timed out",
        curl_says: "timed out",
    };
    installed.is_as_documented()
}

#[test]
fn nothing_of_an_internal_network_of_sid_gets_out() -> Result<()> {
    let sid = ShutIn {
        version: DockerVersion::Sid,
        has_default_route: false,
        // It asks nobody.
        resolver_says: "SERVFAIL",
        curl_says: "Failed to connect",
    };
    sid.is_as_documented()
}
