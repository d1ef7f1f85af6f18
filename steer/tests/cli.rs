//! The command as a user meets it: exit codes, and one line for each failure.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Command, Output, Stdio};

use nix::pty::openpty;

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

/// Runs it with a list of that many names and an interface that cannot be, and returns its standard error: a terminal's, if
/// that is `seen`.
fn told_of_a_list(names: usize, seen: bool) -> String {
    let directory = tempfile::tempdir().expect("a made-up file or process works");
    let list = directory.path().join("list.txt");
    let text: String = (0..names).map(|n| format!("n{n}.example\n")).collect();
    fs::write(&list, text).expect("a made-up file or process works");
    let mut command = Command::new(env!("CARGO_BIN_EXE_steer"));
    command
        .args(["run", "--vpn", "a/b", "--vpn-list"])
        .arg(&list);
    command.env("TERM", "xterm");
    if !seen {
        let output = command.output().expect("a made-up file or process works");
        return String::from_utf8_lossy(&output.stderr).into_owned();
    }
    let pair = openpty(None, None).expect("there are terminals");
    let mut child = command
        .stderr(Stdio::from(pair.slave))
        .spawn()
        .expect("a made-up file or process works");
    // The other end is the child's alone, so that reading ends with it.
    drop(command);
    let mut said = Vec::new();
    // At its end a terminal tells an error (EIO).
    let _ = File::from(pair.master).read_to_end(&mut said);
    child.wait().expect("a made-up file or process works");
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn how_far_the_reading_of_a_long_list_is_can_be_seen_on_a_terminal() {
    let said = told_of_a_list(300_000, true);
    assert!(
        said.contains("reading lists") && said.contains('%'),
        "{said}"
    );
    assert!(!told_of_a_list(300_000, false).contains("reading lists"));
    assert!(!told_of_a_list(10, true).contains("reading lists"));
}
