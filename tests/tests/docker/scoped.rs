//! What users are told of scopes: by a run that goes on, and of one that was killed.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use steer_tests::{
    lab::{DockerVersion, Lab, plan::RESOLVER_V4},
    pace::patience,
};

fn asked(lab: &Lab, words: &[&str]) -> Result<Value> {
    let ran = lab.ask_steer(&[words, &["--json"]].concat())?;
    serde_json::from_str(&ran.stdout).with_context(|| ran.said())
}

/// Prints what a user sees, for `--nocapture`.
fn show(lab: &Lab, words: &[&str]) -> Result<()> {
    println!(
        "$ steer {}\n{}",
        words.join(" "),
        lab.ask_steer(words)?.said()
    );
    Ok(())
}

#[test]
fn scopes_are_told_by_a_run_and_of_one_that_was_killed() -> Result<()> {
    let lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    lab.load_image()?;
    lab.docker(&["network", "create", "under"])?.stdout()?;
    for (name, network) in [("torrent", "under"), ("web", "lab"), ("shut", "lab")] {
        lab.idle_container(name, network)?;
    }
    let config = format!(
        "[rules]\ndirect = [\"v4.direct.example\"]\n
        [[scope]]\nnetwork = \"under\"\ndns = \"{RESOLVER_V4}\"\nforward = [\"4666/tcp -> torrent\", \"80/tcp -> gone\"]\n
        [[scope]]\ncontainer = \"shut\"\ndefault = \"block\"\n"
    );
    let steer = lab.steer(&config, &["--no-resolve", "--no-presets"])?;
    let file = lab.dir().join("asked.toml");
    fs::write(&file, &config)?;
    let file = file.display().to_string();

    let told = |when: &str, words: &[&str]| -> Result<()> {
        show(&lab, &[&["status"], words].concat())?;
        let status = asked(&lab, &[&["status"], words].concat())?;
        let under = &status["scopes"][0];
        ensure!(
            under["scope"] == "network under"
                && under["containers"] == json!(["torrent"])
                && under["networks"] == json!(["under"])
                && under["forwards"][0]["container"] == "torrent"
                && under["forwards"][1]["why_not"].is_string(),
            "{when}: {status:#}"
        );
        ensure!(
            status["scopes"][1]["containers"] == json!(["shut"]),
            "{when}: {status:#}"
        );
        for (from, to, path, because) in [
            ("torrent", "unnamed.example", "vpn", "scope"),
            ("torrent", "v4.direct.example", "direct", "rule"),
            ("torrent", "198.51.100.99", "vpn", "scope"),
            ("torrent", "172.17.0.1", "direct", "stays"),
            ("torrent", "169.254.169.254", "blocked", "isolated"),
            ("shut", "unnamed.example", "blocked", "isolated"),
            ("web", "unnamed.example", "direct", "no-rule"),
        ] {
            let question = [&["explain", "--from", "container", from, to], words].concat();
            show(&lab, &question)?;
            let told = asked(&lab, &question)?;
            ensure!(
                told["path"] == path && told["because"] == because,
                "{when}, {from} to {to}: {told:#}"
            );
        }
        Ok(())
    };
    told("a run goes on", &[])?;
    // Who sends from a link-local address alone, as each with IPv6 does at its start, is no trouble.
    lab.idle_container("fresh", "lab")?;
    thread::sleep(patience(Duration::from_secs(4)));
    let status = asked(&lab, &["status"])?;
    ensure!(
        status["state"] == "steering" && status["waiting"] == json!([]),
        "{status:#}"
    );
    let get =
        "curl -sm5 -o /dev/null https://v4.blocked.example/; ping -c 2 -W 1 198.51.100.11; sleep 1";
    lab.docker(&["exec", "-d", "torrent", "sh", "-c", get])?
        .stdout()?;
    thread::sleep(patience(Duration::from_secs(2)));
    show(&lab, &["flows", "--once"])?;
    let flows = asked(&lab, &["flows", "--once", "--who", "torrent"])?;
    let flows = flows["flows"].as_array().context("no flows")?;
    ensure!(
        !flows.is_empty() && flows.iter().all(|flow| flow["path"] == "vpn"),
        "{flows:#?}"
    );
    let ids = ["scopes", "scope-resolvers"];
    let script = ids.map(|id| format!("steer doctor -v --config {file} --only {id} || true"));
    let doctor = lab.session(&script.join("\n"))?;
    println!("{}", doctor.said());
    // Lines are folded, so only words that lie close together are looked for.
    for word in ["BROKEN", "gone:80", "198.51.100.53 answers through tun0"] {
        ensure!(doctor.said().contains(word), "{word}: {}", doctor.said());
    }

    println!("{}", steer.output());
    steer.kill()?;
    told("it was killed", &["--config", &file])?;
    // Who comes now waits, and is told of.
    lab.idle_container("late", "lab")?;
    lab.docker(&[
        "exec",
        "late",
        "sh",
        "-c",
        "nc -w 1 198.51.100.11 80 </dev/null || true",
    ])?;
    show(&lab, &["status", "--config", &file])?;
    let status = asked(&lab, &["status", "--config", &file])?;
    let waits = status["waiting"].as_array().context("nobody waits")?;
    ensure!(
        waits
            .iter()
            .any(|it| it["network"] == "lab" && it["address"].is_string()),
        "{status:#}"
    );
    let question = [
        "explain",
        "--from",
        "container",
        "late",
        "v4.direct.example",
        "--config",
        &file,
    ];
    show(&lab, &question)?;
    ensure!(asked(&lab, &question)?["because"] == "waits");
    Ok(())
}
