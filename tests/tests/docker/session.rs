//! A terminal session as a new user has it: from a look at a fresh host to a pull that works, and to why it does.
//! `--nocapture` shows it whole.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use steer_tests::lab::{DockerVersion, IMAGE, Lab, plan::LAYER_HOST};

/// Prints each command before what it prints, as a terminal does.
const BEGIN: &str = r#"
type() { echo "\$ $*"; "$@" 2>&1 || echo "(exit status $?)"; echo; }
"#;

#[test]
fn a_new_user_gets_from_a_fresh_host_to_a_pull_that_works() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    let script = format!(
        r#"{BEGIN}
        type docker pull {IMAGE}
        type steer status
        type steer doctor
        type steer init --yes
        type steer check
        echo "\$ steer run &"
        steer run > /run/said 2>&1 &
        for n in $(seq 200); do grep -q "^ready" /run/said && break; sleep 0.1; done
        cat /run/said; echo
        type docker pull {IMAGE}
        for host in registry-1.docker.io auth.docker.io {LAYER_HOST} example.com; do
            type steer explain $host
        done
        type steer explain --from process $(cat "$DOCKERD_PID") --to registry-1.docker.io:443
        type steer status
        type steer flows --once
        type steer log -n 8 --no-follow
        type steer rules test cdn.example.com
        type steer doctor
        echo "\$ kill %1"; kill $!; wait $!; tail -n 1 /run/said
        type steer status
        "#
    );
    let pid = lab.dir().join("docker.pid");
    let script = format!("DOCKERD_PID={}\n{script}", pid.display());
    let session = lab.session(&script)?;
    println!("{}{}", session.stdout, session.stderr);
    let told = &session.stdout;
    let after = |command: &str, count: usize| {
        let line = format!("$ {command}\n");
        let found = told.split(&line).nth(count).unwrap_or_default();
        found.split("\n$ ").next().unwrap_or_default().to_owned()
    };
    let pull = format!("docker pull {IMAGE}");
    assert!(after(&pull, 1).contains("exit status"), "{told}");
    assert!(!after(&pull, 2).contains("exit status"), "{told}");
    assert!(
        after("steer status", 1).contains("no steer runs here"),
        "{told}"
    );
    assert!(
        after("steer status", 2).starts_with("state     steering"),
        "{told}"
    );
    assert!(
        after("steer status", 3).contains("(exit status 4)"),
        "{told}"
    );
    for (host, path) in [
        ("registry-1.docker.io", "takes the VPN"),
        ("auth.docker.io", "takes the VPN"),
        (LAYER_HOST, "goes direct"),
        ("example.com", "goes direct"),
    ] {
        let said = after(&format!("steer explain {host}"), 1);
        assert!(
            said.starts_with(&format!("{host} {path}")),
            "{host}: {told}"
        );
    }
    for (look, count) in [("before", 1), ("while steer runs", 2)] {
        let said = after("steer doctor", count);
        assert!(
            !said.contains("exit status") && !said.is_empty(),
            "{look}: {said}"
        );
    }
    assert!(told.contains("the host is as it was before"), "{told}");
    Ok(())
}

#[test]
fn whoever_would_connect_is_known_by_the_network_it_uses() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    lab.idle_container("web", "lab")?;
    lab.idle_container("beside", "container:web")?;
    lab.idle_container("on-host", "host")?;
    let steer = lab.steer("", &["--no-resolve"])?;
    let pid = lab
        .docker(&["inspect", "-f", "{{.State.Pid}}", "web"])?
        .stdout()?;
    for (from, steered, why) in [
        (["container", "web"], true, "which steer is attached to"),
        (["container", "beside"], true, "which steer is attached to"),
        (["process", pid.trim()], true, "which steer is attached to"),
        (
            ["container", "on-host"],
            false,
            "is none of those that steer is attached to",
        ),
    ] {
        let words = [
            "explain",
            "registry-1.docker.io",
            "--from",
            from[0],
            from[1],
            "--json",
        ];
        let ran = lab.ask_steer(&words)?;
        let told: Value = serde_json::from_str(&ran.stdout).with_context(|| ran.said())?;
        let path = if steered { "vpn" } else { "direct" };
        assert_eq!(
            (&told["from"]["steered"], &told["path"]),
            (&json!(steered), &json!(path)),
            "{told:#}"
        );
        let said = told["from"]["why"].as_str().unwrap_or_default();
        assert!(said.contains(why), "{from:?}: {told:#}");
    }
    let ran = lab.ask_steer(&["explain", "x.example", "--from", "container", "wbe"])?;
    assert!(ran.stderr.contains("did you mean web?"), "{}", ran.said());
    steer.terminate()?;
    Ok(())
}
