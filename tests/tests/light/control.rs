//! A run that is asked and told over its control socket, and what of that can be told of one that was killed.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steer_tests::{
    fixture::{Fixture, Shared, exchange, fresh, lookup, open, resolve, server},
    lab::{Ns, plan::Path},
    pace::patience,
};

/// What steer prints as JSON, whatever its exit status.
fn asked(lab: &Fixture, words: &[&str]) -> Result<Value> {
    let ran = lab.lab.ask_steer(&[words, &["--json"]].concat())?;
    serde_json::from_str(&ran.stdout).with_context(|| ran.said())
}

/// The path and the reason that `steer explain` gives.
fn explained(lab: &Fixture, words: &[&str]) -> Result<(String, String)> {
    let told = asked(lab, &[&["explain"], words].concat())?;
    let word = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    Ok((word("path"), word("because")))
}

/// Prints what a user sees, for `--nocapture`.
fn show(lab: &Fixture, words: &[&str]) -> Result<()> {
    let told = lab
        .lab
        .ask_steer(&[&["explain"], words].concat())?
        .stdout()?;
    println!("$ steer explain {}\n{told}", words.join(" "));
    Ok(())
}

/// A request as curl writes it, and the answer's status and body.
fn request(lab: &Fixture, line: &str, body: &str) -> Result<(u16, Value)> {
    let mut socket = UnixStream::connect(lab.lab.dir().join("run/control.sock"))?;
    let size = body.len();
    write!(
        socket,
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    // With its length, or in one chunk.
    let from = body.find(['{', '[']).context("no JSON")?;
    let to = body.rfind(['}', ']']).context("no JSON")?;
    Ok((status, serde_json::from_str(&body[from..=to])?))
}

#[test]
fn explain_gives_each_reason_whether_the_run_lives_or_was_killed() -> Result<()> {
    let lab = Fixture::up()?;
    let config = lab.config().replace(
        "vpn = [",
        "vpn = [\"198.51.100.0/24\", \"keyword:track\", \"*.below.example\", ",
    );
    let steer = lab.lab.steer(&config, &[])?;
    let file = steer.config()?.display().to_string();
    let [(_, mut process), (_, mut guest)] = lab.clients()?;
    resolve(&mut process, lookup(10, "fresh", false))?;
    resolve(&mut guest, lookup(11, "fresh", false))?;
    resolve(&mut guest, lookup(11, "layers.fresh", false))?;
    resolve(&mut process, lookup(12, "layers.fresh", false))?;
    let address = |number| fresh(number, false).to_string();
    let [learned, contested, direct, never] = [10, 11, 12, 13].map(address);
    let own = std::process::id().to_string();
    let table: Vec<(Vec<&str>, &str, &str)> = vec![
        (vec!["n77.fresh.example"], "vpn", "rule"),
        (vec!["a.b.below.example"], "vpn", "rule"),
        (vec!["exact7.fresh.example"], "direct", "rule"),
        (vec!["a.track.plain.example"], "vpn", "rule"),
        (vec!["n10.plain.example"], "direct", "no-rule"),
        (vec!["below.example"], "direct", "no-rule"),
        (vec!["https://n10.fresh.example/x"], "vpn", "learned"),
        (vec![&learned], "vpn", "learned"),
        (vec!["n12.layers.fresh.example"], "direct", "learned"),
        (vec![&direct], "direct", "learned"),
        (vec!["n11.layers.fresh.example"], "vpn", "contested"),
        (vec![&contested], "vpn", "contested"),
        (vec!["198.51.100.9:443"], "vpn", "network"),
        (vec![&never], "direct", "never-seen"),
        (vec!["2001:db8::9"], "direct", "never-seen"),
        (vec!["127.0.0.1"], "direct", "never-steered"),
        (
            vec![&learned, "--from", "process", &own],
            "direct",
            "not-steered",
        ),
    ];
    let told = |what: &str| -> Result<()> {
        for (words, path, because) in &table {
            show(&lab, words)?;
            let found = explained(&lab, words)?;
            let wanted = ((*path).to_owned(), (*because).to_owned());
            assert_eq!(found, wanted, "{what}: {words:?}");
        }
        Ok(())
    };
    told("alive")?;

    let all = asked(&lab, &["explain", &contested])?;
    let fact = &all["addresses"][0];
    let names: Vec<_> = [0, 1].map(|at| fact["names"][at]["name"].as_str()).into();
    assert_eq!(
        names,
        [Some("n11.layers.fresh.example"), Some("n11.fresh.example")]
    );
    assert_eq!(fact["names"][1]["asked_by"], "somebody on br-guest");
    assert_eq!(fact["names"][1]["rule"]["from"], format!("{file}:9"));
    let route = fact["route"].as_str().unwrap_or_default();
    let tunnel = lab.lab.tunnel_interface();
    assert!(
        route.contains(&format!("dev {tunnel}")) && route.ends_with("table 7350"),
        "{route}"
    );

    // The same over IPv6, whose table the kernel tells in its own way.
    resolve(&mut process, lookup(10, "fresh", true))?;
    let over_v6 = asked(&lab, &["explain", &fresh(10, true).to_string()])?;
    let route = over_v6["addresses"][0]["route"]
        .as_str()
        .unwrap_or_default();
    assert!(
        route.contains(&format!("dev {tunnel}")) && route.ends_with("table 7350"),
        "{route}"
    );

    // What a name had and has no more.
    let expired = fresh(14, false);
    let octets = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    let key: String = octets(expired).map(|octet| format!(" {octet}")).concat();
    let map = lab.lab.steer_bpffs().join("ADDRS");
    lab.in_box(&format!(
        "bpftool map update pinned {} key{key} value 1{}",
        map.display(),
        " 0".repeat(55)
    ))?;
    let expired = expired.to_string();
    assert_eq!(
        explained(&lab, &[&expired])?,
        ("direct".to_owned(), "expired".to_owned())
    );

    steer.kill()?;
    let ran = lab
        .lab
        .ask_steer(&["explain", &learned, "--config", &file])?;
    assert!(ran.stdout.contains("no steer runs"), "{}", ran.said());
    let of_file = |words: &[&str]| explained(&lab, &[words, &["--config", &file]].concat());
    for (words, path, because) in &table {
        show(&lab, &[words.as_slice(), &["--config", &file]].concat())?;
        // Words are looked for by a run alone.
        let (path, because) = match words[0] {
            "a.track.plain.example" => (&"direct", &"no-rule"),
            _ => (path, because),
        };
        let wanted = ((*path).to_owned(), (*because).to_owned());
        assert_eq!(of_file(words)?, wanted, "killed: {words:?}");
    }
    assert_eq!(of_file(&[&expired])?.1, "expired");

    // Without the file its rules are in force all the same; only where they stand is not known.
    let all = asked(&lab, &["explain", "a.b.below.example"])?;
    assert_eq!(
        (&all["path"], &all["rule"]["rule"]),
        (&json!("vpn"), &json!("below.example"))
    );

    lab.lab.steer_cleanup()?.stdout()?;
    let ran = lab.lab.ask_steer(&["explain", &learned])?;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no steer runs here"), "{}", ran.said());
    Ok(())
}

#[test]
fn status_says_in_words_and_by_its_exit_status_how_steer_is() -> Result<()> {
    let mut lab = Fixture::up()?;
    let status = |lab: &Fixture| lab.lab.ask_steer(&["status"]);
    assert_eq!(status(&lab)?.code, Some(4));
    let steer = lab.steer()?;
    let ran = status(&lab)?;
    assert_eq!(ran.code, Some(0), "{}", ran.said());
    assert!(
        ran.stdout.starts_with("state     steering, for "),
        "{}",
        ran.said()
    );
    let [(_, mut process), _] = lab.clients()?;
    resolve(&mut process, lookup(10, "fresh", false))?;
    open(&mut process, server(10, false))?;
    let told = asked(&lab, &["status"])?;
    assert_eq!(told["addresses"]["vpn"], 1);
    assert_eq!(told["steered"], 1);
    assert_eq!(told["pid"], steer.pid());
    assert_eq!(
        told["bridges"],
        json!([{ "interface": "br-guest", "network": null }])
    );

    lab.lab.tunnel_down()?;
    steer.wait_said("is down")?;
    let ran = status(&lab)?;
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stdout.contains("trouble"), "{}", ran.said());
    let found = explained(&lab, &["n10.fresh.example"])?;
    assert_eq!(found, ("blocked".to_owned(), "learned".to_owned()));
    lab.lab.tunnel_up()?;
    steer.wait_said("is up")?;
    assert_eq!(status(&lab)?.code, Some(0));

    steer.kill()?;
    let ran = status(&lab)?;
    assert_eq!(ran.code, Some(4), "{}", ran.said());
    assert!(
        ran.stdout.contains("its programs go on alone"),
        "{}",
        ran.said()
    );
    lab.lab.steer_cleanup()?.stdout()?;
    assert!(!lab.lab.dir().join("run").exists());
    Ok(())
}

#[test]
fn a_rule_added_for_a_while_holds_for_a_while_and_wins() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let steer = lab.steer()?;
    let [number, other] = [lab.numbers(1)?, lab.numbers(1)?];
    let [(_, mut process), _] = lab.clients()?;
    let mut path = |number, zone: &str| -> Result<Path> {
        resolve(&mut process, lookup(number, zone, false))?;
        Ok(open(&mut process, server(number, false))?.1)
    };
    assert_eq!(path(number, "plain")?, Path::Direct);
    let added = lab
        .lab
        .ask_steer(&["rules", "add", "vpn", ".plain.example"])?;
    assert!(
        added
            .stdout()
            .is_ok_and(|told| told.contains("until steer ends"))
    );
    assert_eq!(path(number, "plain")?, Path::Vpn);
    let told = asked(&lab, &["rules", "test", "x.plain.example"])?;
    assert_eq!(told["rule"]["from"], "steer rules add");
    // The other way, over a rule of the file.
    let seconds = patience(Duration::from_secs(3)).as_secs();
    let span = format!("{seconds}s");
    lab.lab
        .ask_steer(&["rules", "add", "direct", ".fresh.example", "--for", &span])?
        .stdout()?;
    assert_eq!(path(other, "fresh")?, Path::Direct);
    steer.wait_said("which is over")?;
    for _ in 0..100 {
        let told = asked(&lab, &["rules", "test", "x.fresh.example"])?;
        if told["verdict"] == "vpn" {
            break;
        }
        thread::sleep(patience(Duration::from_millis(50)));
    }
    assert_eq!(path(other, "fresh")?, Path::Vpn);
    lab.lab
        .ask_steer(&["rules", "del", ".plain.example"])?
        .stdout()?;
    assert_eq!(path(number, "plain")?, Path::Direct);

    for (words, why) in [
        (
            vec!["rules", "del", ".plain.example"],
            "there is no rule .plain.example",
        ),
        (
            vec!["rules", "del", "*.layers.fresh.example"],
            "was not added while steer runs",
        ),
        (vec!["rules", "add", "vpn", "a b"], "a b"),
        (vec!["rules", "add", "vnp", "x.example"], "vpn"),
        (
            vec!["rules", "add", "vpn", "x.example", "--for", "soon"],
            "is no span of time",
        ),
    ] {
        let ran = lab.lab.ask_steer(&words)?;
        assert_ne!(ran.code, Some(0), "{words:?}");
        assert!(ran.stderr.contains(why), "{words:?}: {}", ran.said());
    }
    // For good, in the file, whose other lines stay as they are.
    let before = fs::read_to_string(steer.config()?)?;
    lab.lab
        .ask_steer(&["rules", "add", "vpn", "*.saved.example", "--save"])?
        .stdout()?;
    let told = asked(&lab, &["rules", "test", "x.saved.example"])?;
    assert!(
        told["rule"]["from"]
            .as_str()
            .is_some_and(|from| from.ends_with(".toml:9")),
        "{told}"
    );
    lab.lab
        .ask_steer(&["rules", "del", "*.saved.example", "--save"])?
        .stdout()?;
    assert_eq!(fs::read_to_string(steer.config()?)?, before);

    // A file that cannot be read takes no rule in, and loses none.
    let file = steer.config()?.to_owned();
    let config = fs::read_to_string(&file)?;
    fs::write(&file, "[rules")?;
    let ran = lab
        .lab
        .ask_steer(&["rules", "add", "vpn", ".plain.example"])?;
    assert_eq!(ran.code, Some(1), "{}", ran.said());
    fs::write(&file, &config)?;
    lab.lab.ask_steer(&["reload"])?.stdout()?;
    let told = asked(&lab, &["rules", "test", "x.plain.example"])?;
    assert_eq!(told["verdict"], "none");
    steer.terminate()?;
    lab.done()
}

#[test]
fn flows_are_listed_with_their_paths_and_whose_they_are() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let steer = lab.steer()?;
    let [vpn, direct] = [lab.numbers(1)?, lab.numbers(1)?];
    let mut clients = lab.clients()?;
    for (_, client) in &mut clients {
        resolve(client, lookup(vpn, "fresh", false))?;
        let (connection, _) = open(client, server(vpn, false))?;
        exchange(client, connection, 1000)?;
        let (connection, _) = open(client, server(direct, false))?;
        exchange(client, connection, 1000)?;
    }
    let told = asked(&lab, &["flows"])?;
    let flows = told["flows"].as_array().context("no flows")?;
    let found = |path: &str, number, who: &str| {
        let to = server(number, false).to_string();
        flows.iter().any(|flow| {
            flow["path"] == path
                && flow["to"] == to.as_str()
                && flow["who"].as_str().is_some_and(|it| it.starts_with(who))
        })
    };
    for (path, number) in [("vpn", vpn), ("direct", direct)] {
        assert!(found(path, number, "br-guest"), "{path}: {told:#}");
        assert!(found(path, number, "lab-client["), "{path}: {told:#}");
    }
    let only = asked(&lab, &["flows", "--path", "vpn", "--who", "lab-client"])?;
    let only = only["flows"].as_array().context("no flows")?;
    assert!(!only.is_empty() && only.iter().all(|flow| flow["path"] == "vpn"));
    assert_eq!(only[0]["name"], format!("n{vpn}.fresh.example"));
    steer.terminate()?;
    lab.done()
}

#[test]
fn what_is_told_can_be_followed() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let steer = lab.steer()?;
    let number = lab.numbers(1)?;
    let [(_, mut process), _] = lab.clients()?;
    resolve(&mut process, lookup(number, "fresh", false))?;
    open(&mut process, server(number, false))?;
    steer.wait_said("steered")?;
    let words = [
        "log",
        "-n",
        "1000",
        "--no-follow",
        "--kind",
        "steered",
        "--json",
    ];
    let ran = lab.lab.ask_steer(&words)?.stdout()?;
    let lines: Vec<Value> = ran
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let line = lines.last().context("nothing was told")?;
    assert_eq!(line["name"], format!("n{number}.fresh.example"));
    assert_eq!(
        (&line["path"], &line["kind"]),
        (&json!("vpn"), &json!("steered"))
    );
    // Those that follow come as they happen, until steer ends.
    let mut following = lab.lab.steer_asking(&["log", "-n", "0"])?;
    let following = following.stdout(std::process::Stdio::piped()).spawn()?;
    thread::sleep(patience(Duration::from_millis(500)));
    let other = lab.numbers(1)?;
    resolve(&mut process, lookup(other, "fresh", false))?;
    steer.wait_said(&format!("n{other}.fresh.example"))?;
    steer.terminate()?;
    let ended = following.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        said.contains(&format!("learned   n{other}.fresh.example")),
        "{said}"
    );
    assert!(!ended.status.success(), "it must say that steer has ended");
    lab.done()
}

#[test]
fn the_socket_is_for_root_and_answers_what_is_wrong() -> Result<()> {
    let lab = Shared::unsteered()?;
    let steer = lab.steer()?;
    let socket = lab.lab.dir().join("run/control.sock");
    assert_eq!(fs::metadata(&socket)?.permissions().mode() & 0o777, 0o600);
    let (status, told) = request(&lab, "GET /v1/status", "")?;
    assert_eq!((status, &told["state"]), (200, &json!("steering")));
    for (line, body, status) in [
        ("GET /v2/status", "", 404),
        ("POST /v1/status", "", 405),
        ("GET /v1/explain", "", 400),
        ("GET /v1/explain?to=a%20b", "", 400),
        ("GET /v1/explain?to=x.example&from=somebody", "", 400),
        (
            "GET /v1/explain?to=x.example&from=container%20none",
            "",
            404,
        ),
        ("GET /v1/explain?to=x.example&form=x", "", 400),
        ("POST /v1/rules", "{", 400),
        ("POST /v1/rules", "{\"rule\":\"x.example\"}", 400),
        (
            "POST /v1/rules",
            "{\"rule\":\"a b\",\"verdict\":\"vpn\"}",
            409,
        ),
        ("DELETE /v1/rules", "{\"rule\":\"x.example\"}", 409),
    ] {
        let (found, told) = request(&lab, line, body)?;
        assert_eq!(found, status, "{line} {body}: {told}");
        assert!(
            told["error"].as_str().is_some_and(|why| !why.is_empty()),
            "{line}: {told}"
        );
    }
    // Whoever says nothing keeps no place for ever, and whoever says too much is cut off.
    let mut silent = UnixStream::connect(&socket)?;
    silent.set_read_timeout(Some(patience(Duration::from_secs(20))))?;
    ensure!(
        silent.read(&mut [0; 512]).is_ok(),
        "a silent client is let be"
    );
    let (status, _) = request(&lab, "POST /v1/rules", &"x".repeat(100_000))?;
    assert!(status == 413 || status == 400, "{status}");

    let nobody = ["setpriv", "--reuid", "65534", "--clear-groups"].map(str::to_owned);
    let run = lab.lab.dir().join("run");
    let asking = [
        lab.lab.steer_binary()?,
        "status".into(),
        "--run-dir".into(),
        run,
    ];
    let asking = asking.map(|word| word.display().to_string());
    let words: Vec<_> = nobody.iter().chain(&asking).map(String::as_str).collect();
    let refused = lab.lab.run(Ns::Box, &words)?;
    assert_eq!(refused.code, Some(1), "{}", refused.said());
    assert!(
        refused
            .stderr
            .contains("only root and members of the group steer may ask"),
        "{}",
        refused.said()
    );
    steer.terminate()?;
    assert!(!socket.exists());
    lab.done()
}

#[test]
fn members_of_the_group_may_ask_and_the_folder_is_as_it_was_afterwards() -> Result<()> {
    let lab = Shared::unsteered()?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let file = folder.path().join("steer.toml");
    fs::write(&file, lab.config())?;
    // As the unit has it, the folder is there before.
    let script = format!(
        r#"
        echo steer:x:4242: >> /etc/group
        cd {}; run=$PWD/run; mkdir -m 700 $run
        steer run --config steer.toml --run-dir $run > said 2>&1 &
        for n in $(seq 200); do grep -q ^ready said && break; sleep 0.1; done
        stat -c %a $run $run/control.sock $run/lock
        ask() {{ setpriv --reuid 65534 "$@" steer status --quiet --run-dir $run && echo 0 || echo $?; }}
        ask --regid 65534 --groups 4242
        ask --regid 4242 --clear-groups
        ask --regid 65534 --groups 4243 2>&1
        setpriv --reuid 65534 --regid 65534 --groups 4242 cat $run/lock || echo no
        kill $!; wait $!
        stat -c %a $run; ls $run
        "#,
        folder.path().display()
    );
    let ran = lab.lab.session(&script)?;
    let refused = "steer: only root and members of the group steer may ask";
    let expected = format!("711\n666\n600\n0\n0\n{refused}\n1\nno\n700\n");
    assert_eq!(ran.stdout, expected, "{}", ran.said());
    lab.done()
}
