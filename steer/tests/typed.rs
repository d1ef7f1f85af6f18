//! What each command answers to what is wrong: one table. `--nocapture` shows what was typed and what was answered.

use std::process::Command;

/// What is typed; the exit status; a part of the answer that says what is wrong or what to do.
const TABLE: &[(&str, i32, &str)] = &[
    ("", 2, "Usage: steer <COMMAND>"),
    ("stauts", 2, "a similar subcommand exists: 'status'"),
    ("walk", 2, "unrecognized subcommand 'walk'"),
    ("run --vpm wg0", 2, "a similar argument exists: '--vpn'"),
    ("run --on-down drop", 2, "[possible values: block, direct]"),
    (
        "run --mark 0x",
        2,
        "a whole number from 0 to 4294967295 is needed",
    ),
    (
        "run --config /nonexistent.toml",
        1,
        "cannot read the configuration file /nonexistent.toml",
    ),
    ("run --vpn-domain a..b", 1, "--vpn-domain: \"a..b\""),
    ("run --preset dockerhub", 1, "did you mean \"docker-hub\"?"),
    ("cleanup now", 2, "unexpected argument 'now'"),
    (
        "check /nonexistent.toml",
        1,
        "cannot read the configuration file /nonexistent.toml",
    ),
    ("check a b", 2, "unexpected argument 'b'"),
    (
        "init --config /nonexistent/x/steer.toml",
        1,
        "there is nobody to ask",
    ),
    (
        "init --config /proc/steer.toml --yes",
        1,
        "/proc/steer.toml cannot be written; are you root?",
    ),
    (
        "init --config /etc/hostname --yes",
        1,
        "/etc/hostname is there already",
    ),
    ("doctor now", 2, "unexpected argument 'now'"),
    ("doctor --only btff", 2, "did you mean \"btf\"?"),
    ("doctor --undo --fix", 2, "cannot be used with"),
    ("doctor --force", 2, "--undo"),
    (
        "doctor --undo --state-dir /nonexistent/doctor",
        1,
        "there is nothing to undo: no fix is written down in /nonexistent/doctor",
    ),
    (
        "doctor --only configuration --config /nonexistent.toml",
        1,
        "cannot read the configuration file /nonexistent.toml",
    ),
    ("init --yes --print", 2, "cannot be used with"),
    ("status --jsn", 2, "a similar argument exists: '--json'"),
    (
        "status DIRS",
        4,
        "no steer runs here, and none has left programs in /nonexistent/bpf",
    ),
    ("status --json DIRS", 4, "\"state\": \"stopped\""),
    (
        "status --config /nonexistent.toml DIRS",
        4,
        "no steer runs here",
    ),
    ("explain", 2, "<TARGET>"),
    ("explain a..b DIRS", 1, "\"a..b\""),
    ("explain 10.0.0.300 DIRS", 1, "10.0.0.300"),
    (
        "explain docker.io/library/nginx DIRS",
        1,
        "docker.io/library/nginx",
    ),
    (
        "explain x.example:http DIRS",
        1,
        "\"http\" is no port; write HOST or HOST:PORT",
    ),
    (
        "explain x.example --from container DIRS",
        2,
        "2 values required",
    ),
    (
        "explain x.example --from pod web DIRS",
        1,
        "write --from container NAME or --from process PID",
    ),
    (
        "explain x.example --from process dockerd DIRS",
        1,
        "\"dockerd\" is no process id",
    ),
    ("explain x.example DIRS", 1, "no steer runs here"),
    ("flows --path vnp DIRS", 2, "[possible values: vpn, direct]"),
    ("flows --once DIRS", 1, "no steer runs here"),
    ("log --kind steerd DIRS", 1, "did you mean steered?"),
    (
        "log -n few DIRS",
        2,
        "invalid value 'few' for '--lines <COUNT>'",
    ),
    (
        "log DIRS",
        1,
        "start it with steer run, or say where it is with --run-dir DIR",
    ),
    ("rules", 2, "Usage: steer rules <COMMAND>"),
    (
        "rules ad vpn x.example DIRS",
        2,
        "a similar subcommand exists: 'add'",
    ),
    (
        "rules list --verdict vnp DIRS",
        2,
        "[possible values: vpn, direct, block]",
    ),
    ("rules list DIRS", 1, "no steer runs here"),
    ("rules test DIRS", 2, "<ABOUT>"),
    (
        "rules add x.example DIRS",
        2,
        "[possible values: vpn, direct, block]",
    ),
    ("rules add vpn 10.0.0.0/33 DIRS", 2, "10.0.0.0/33"),
    ("rules add vpn *.*.example DIRS", 2, "*.*.example"),
    ("rules add vpn regex:( DIRS", 2, "regex:("),
    (
        "rules add vpn x.example --for soon DIRS",
        2,
        "write 90s, 15m, 1h, 2d or several of them",
    ),
    ("rules add vpn x.example DIRS", 1, "no steer runs here"),
    (
        "rules add vpn x.example --save --for 1h DIRS",
        2,
        "cannot be used with",
    ),
    (
        "rules add vpn x.example --save --config /proc/none.toml DIRS",
        1,
        "/proc/none.toml",
    ),
    ("rules del DIRS", 2, "<RULE>"),
    ("reload now DIRS", 2, "unexpected argument 'now'"),
    ("reload DIRS", 1, "no steer runs here"),
    ("top DIRS", 1, "steer top --once prints one sample"),
    ("top --once DIRS", 1, "no steer runs here"),
    ("top --json DIRS", 1, "no steer runs here"),
    (
        "top --interval 11 DIRS",
        2,
        "a number of seconds from 0.1 to 10 is needed",
    ),
    (
        "doctor --config",
        2,
        "a value is required for '--config <FILE>'",
    ),
    ("completions", 2, "<SHELL>"),
    (
        "completions csh",
        2,
        "[possible values: bash, elvish, fish, powershell, zsh]",
    ),
];

#[test]
fn what_is_wrong_is_said_with_what_is_right() {
    let mut wrong = Vec::new();
    println!("{:<50} {:>4}  answer", "typed", "exit");
    for &(typed, code, part) in TABLE {
        let (line, asks_a_run) = match typed.strip_suffix("DIRS") {
            Some(line) => (line, true),
            None => (typed, false),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
        command.args(line.split_whitespace());
        if asks_a_run {
            command.args(["--run-dir", "/nonexistent/run"]);
            if !["log", "reload", "rules add", "rules del"]
                .iter()
                .any(|it| line.starts_with(it))
            {
                command.args(["--bpffs", "/nonexistent/bpf"]);
            }
        }
        let output = command.output().expect("steer can be run");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).expect("an answer in UTF-8");
        let shown = said.lines().next().unwrap_or_default();
        println!(
            "steer {line:<44} {:>4}  {shown}",
            output.status.code().unwrap_or(-1)
        );
        if output.status.code() != Some(code) || !said.contains(part) {
            wrong.push(format!("steer {line}, {code} and \"{part}\": {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
