//! The command as a user meets it: exit codes, and one line for each failure.

use std::{
    fs::{self, File},
    io::{Read, Write as _},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    process::{Command, Output},
    thread,
    time::Duration,
};

use nix::{pty::openpty, sys::stat::Mode, unistd::mkfifo};

fn steer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_steer"))
        .args(args)
        .output()
        .expect("a made-up file or process works")
}

/// Runs it with a configuration file of that text, which must be refused, and returns the line that says so.
fn refusal(text: &str, flags: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a made-up file or process works");
    let file = directory.path().join("steer.toml");
    fs::write(&file, text).expect("a made-up file or process works");
    let file = file.to_string_lossy();
    let output = steer(&[&["run", "--config", &file], flags].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("a made-up file or process works");
    assert_eq!(said.lines().count(), 1, "{said}");
    said.trim_end().replace(&*file, "FILE")
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [
        &[][..],
        &["walk"],
        &["run", "--vpm", "wg0"],
        &["run", "--on-down", "drop"],
        &["cleanup", "x"],
        &["check", "a", "b"],
    ] {
        let output = steer(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{args:?}: {output:?}"
        );
    }
}

#[test]
fn help_comes_with_examples() {
    let output = steer(&["run", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        help.contains("Examples:") && help.contains("steer run --vpn wg0"),
        "{help}"
    );
}

#[test]
fn every_command_is_completed_and_has_its_man_page() {
    for shell in ["bash", "zsh", "fish"] {
        let output = steer(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["doctor", "explain", "on-down"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let output = steer(&["man", &folder.path().to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for page in ["steer.1", "steer-run.1", "steer-rules-add.1", "steer-top.1"] {
        let text = fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(".TH "), "{page}");
    }
}

#[test]
fn a_wrong_file_is_told_in_one_line() {
    assert_eq!(
        refusal("[vpn]\ninteface = \"wg0\"\n", &[]),
        "steer: FILE:2: unknown key \"inteface\" in [vpn]; did you mean \"interface\"?"
    );
    assert_eq!(
        refusal("[rules]\nvpn = [\"a b\"]\n", &[]),
        "steer: FILE:2: \"a b\" is not a domain: ' ' cannot be part of a name; letters, digits, hyphens and underscores can"
    );
}

/// A folder that everybody may read, with a file of that text and the command.
fn for_everybody(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a made-up file or process works");
    let all = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&directory, all).expect("a made-up file or process works");
    fs::write(directory.path().join("steer.toml"), text).expect("a made-up file or process works");
    let binary = directory.path().join("steer");
    fs::copy(env!("CARGO_BIN_EXE_steer"), &binary).expect("a made-up file or process works");
    directory
}

/// `steer check` by the user nobody, of the file there.
fn check_in(directory: &tempfile::TempDir) -> Command {
    let mut check = Command::new(directory.path().join("steer"));
    check.current_dir(directory).uid(65534).gid(65534);
    check.args(["check", "steer.toml"]);
    check
}

#[test]
fn anybody_may_check_a_file() {
    let text = "[vpn]\ninterface = \"wg9\"\n[attach]\nbridges = [\"br-*\"]\n[rules]\npresets = []\nvpn = [\"a.example\"]\n\
        [[scope]]\nnetwork = \"web\"\ndns = [\"1.1.1.1\", \"9.9.9.9\"]\nforward = [\"4666/tcp -> torrent\"]\n\
        [[scope]]\ncompose = \"media\"\ndefault = \"block\"\non_stop = \"release\"\n";
    let directory = for_everybody(text);
    let output = check_in(&directory).output().unwrap();
    let said = "\
vpn      wg9; when down: blocked
cgroup   auto: dockerd's and containerd's
bridge   br-*
scope    network web: via vpn; dns 1.1.1.1, 9.9.9.9; forwards 4666/tcp -> torrent:4666; kept when steer stops
scope    compose media: blocked; released when steer stops
via vpn  a.example (steer.toml)
direct   everything else
";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), said);
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));

    let output = check_in(&directory).arg("--json").output();
    let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let rule = serde_json::json!({"rule": "a.example", "verdict": "vpn", "from": "steer.toml:7"});
    assert_eq!(json["rules"], serde_json::json!([rule]));
    assert_eq!(json["vpn"]["interface"], "wg9");
    assert_eq!(json["scope"][0]["dns"][1], "9.9.9.9");
    assert_eq!(json["scope"][1]["on_stop"], "release");
}

#[test]
fn what_is_wrong_with_a_file_is_told_by_check_as_by_run() {
    let directory = for_everybody("[vpn]\ninteface = \"wg0\"\n");
    let output = check_in(&directory).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "steer: steer.toml:2: unknown key \"inteface\" in [vpn]; did you mean \"interface\"?\n"
    );
}

#[test]
fn whoever_reads_may_stop_before_the_end() {
    let directory = for_everybody("");
    let (read, written) = nix::unistd::pipe().expect("a made-up file or process works");
    drop(read);
    let output = check_in(&directory).stdout(written).output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn a_wrong_flag_is_told_in_one_line() {
    assert_eq!(
        refusal("", &["--preset", "docker_hub"]),
        "steer: --preset: there is no preset \"docker_hub\"; did you mean \"docker-hub\"?"
    );
    assert_eq!(
        refusal(
            "[rules]\nvpn = [\"a.example\"]\ndirect = [\"a.example\"]\n",
            &[]
        ),
        "steer: FILE:3: \"a.example\" is to go direct here and vpn at FILE:2; keep one of the two"
    );
}

#[test]
fn a_file_named_must_exist() {
    let output = steer(&["run", "--config", "/nonexistent/steer.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "steer: cannot read the configuration file /nonexistent/steer.toml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn cleanup_takes_the_numbers_of_the_run() {
    let output = steer(&["cleanup", "--config", "/dev/null", "--table", "254"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "steer: --table: routing table 254 is the system's own: set [routing] table to a free number, for example 7350\n"
    );
}

/// Runs it with two lists, the second of which is written only after so long, and a cgroup that cannot be, and returns
/// what it wrote to standard error.
fn told_of_lists(slow: Duration, stderr: (impl Read, OwnedFd)) -> String {
    let directory = tempfile::tempdir().expect("a made-up file or process works");
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    fs::write(&first, "a.example\n").expect("a made-up file or process works");
    mkfifo(&second, Mode::S_IRWXU).expect("a made-up file or process works");
    let (mut read, written) = stderr;
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
    command
        .args(["run", "--cgroup", "a/../b", "--vpn-list"])
        .arg(&first)
        .arg("--vpn-list")
        .arg(&second)
        .env("TERM", "xterm")
        .stderr(written);
    let mut child = command.spawn().expect("a made-up file or process works");
    // The other end is the child's alone, so that reading ends with it.
    drop(command);
    // It can be opened once it is being read, and so after the work has begun.
    let mut pipe = File::create(&second).expect("the list is opened");
    thread::sleep(slow);
    pipe.write_all(b"b.example\n").expect("the list is read");
    drop(pipe);
    let mut said = Vec::new();
    // At its end a terminal tells an error (EIO).
    let _ = read.read_to_end(&mut said);
    child.wait().expect("a made-up file or process works");
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn how_far_the_reading_of_long_lists_is_can_be_seen_on_a_terminal() {
    const LONG: Duration = Duration::from_millis(300);
    let terminal = || {
        let pair = openpty(None, None).expect("there are terminals");
        (File::from(pair.master), pair.slave)
    };
    let said = told_of_lists(LONG, terminal());
    assert!(
        said.contains("reading lists") && said.contains('%'),
        "{said}"
    );
    let said = told_of_lists(Duration::ZERO, terminal());
    assert!(!said.contains("reading lists"), "{said}");
    let (read, written) = std::io::pipe().expect("there are pipes");
    let said = told_of_lists(LONG, (read, written.into()));
    assert!(!said.contains("reading lists"), "{said}");
}
