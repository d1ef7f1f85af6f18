//! The groups of tests that every guest runs, and the compiling of their programs.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::protocol::Group;
use crate::{step, system, test};

/// A group that is a test program of the workspace.
struct Target {
    /// Its column in the table.
    name: &'static str,
    package: &'static str,
    /// The test program, as cargo names it.
    target: &'static str,
    /// What a kernel hardly makes a difference to, and takes long: tests whose names contain one of these. They are run when
    /// all are asked for.
    left_out: &'static [&'static str],
    /// What cannot be run in a guest: it has no network, and processes of its own.
    not_here: &'static [&'static str],
    /// Its time limit under software emulation.
    minutes: u64,
    /// Whether the oldest and the newest kernel will do, unless tests or kernels are chosen or all are asked for: how programs are
    /// attached differs between them, and so does what they may.
    ends_only: bool,
}

const TARGETS: &[Target] = &[
    Target {
        name: "programs",
        package: "steer",
        target: "datapath",
        left_out: &[],
        not_here: &[],
        minutes: 10,
        ends_only: false,
    },
    Target {
        name: "answers",
        package: "steer",
        target: "differential",
        left_out: &[],
        not_here: &[],
        minutes: 10,
        ends_only: false,
    },
    Target {
        name: "routing",
        package: "steer",
        target: "route",
        left_out: &[
            "bypass::a_vpn_that_has_not",
            "bypass::another_uplink",
            "bypass::by_a_better",
            "bypass::by_rules",
            "dns::a_server",
            "dns::only_questions",
            "dns::the_lists",
            "others::",
            "ports::",
            "several::another_run",
            "steering::a_vpn_that_goes_down_while",
            "steering::direct_while_down",
            "steering::what_somebody_deletes",
            "transitions::",
            "ways_out::",
        ],
        not_here: &[],
        minutes: 8,
        ends_only: false,
    },
    Target {
        name: "end to end",
        package: "steer-tests",
        target: "light",
        left_out: &[
            "adoption::a_bridge_that_went",
            "adoption::a_run_by_links",
            "adoption::the_next_run",
            "adoption::what_is_no_more_wanted",
            "adoption::what_was_made_otherwise",
            "blocks::",
            "bypass::",
            "changes::a_cgroup_that",
            "changes::what_somebody_else",
            "control::",
            "crash::after_kill_and_cleanup",
            "datagrams::an_ipv6",
            "datagrams::the_first",
            "doctor::",
            "first_packet::a_connection_of_another_name",
            "first_packet::a_late_connection_may_go_on",
            "first_packet::quic_goes_on",
            "first_packet::quic_that_no_name",
            "flood::",
            "flows_keep_their_path::",
            "forged_answers::",
            "gets_along::",
            "inspectable::by_bpftool",
            "lab::",
            "leaks::",
            "lifetimes::",
            "names::a_rule_for_an_alias",
            "names::an_answer_in_fragments",
            "names::every_address",
            "names::the_name_asked",
            "no_race::many_clients",
            "no_race::names_without",
            "no_race::two_thousand",
            "processes::",
            "reload::",
            "resolved_before::",
            "rules::",
            "service::",
            "several_vpns::",
            "start_errors::",
            "terminal::",
            "top::",
            "usage::",
            "vpn_down::before_it_is_there",
            "vpn_down::direct_by_choice",
            "vpn_down::what_the_kernel",
        ],
        not_here: &["beside_firewalld", "service::by_its_unit"],
        minutes: 20,
        ends_only: true,
    },
];

/// The group that starts steer as a user would.
const START: &str = "start";
const START_MINUTES: u64 = 5;

/// Compiles the test programs, and returns the groups that run those of their tests whose names contain one of `filter`;
/// those that are left out otherwise too, if `all` are wanted. Where kernels were `chosen`, each runs all groups.
///
/// # Errors
/// When something does not compile.
pub fn compile(root: &Path, filter: &[String], all: bool, chosen: bool) -> Result<Vec<Group>> {
    let build = || {
        let mut command = test::cargo(root);
        command.args(["test", "--no-run", "--locked"]);
        for target in TARGETS {
            command.args(["--package", target.package, "--test", target.target]);
        }
        command
    };
    step::run("compiling the tests", &mut build())?;
    // Compiled by now: it only tells where they are.
    let messages = system::output(build().arg("--message-format=json"))
        .context("cargo does not tell where the test programs are")?;

    let mut groups = Vec::new();
    for target in TARGETS {
        let (program, directory) = messages
            .lines()
            .find_map(|line| executable(line, target))
            .with_context(|| format!("cargo made no test program {}", target.target))?;
        let mut arguments: Vec<_> = ["--test-threads=1", "--show-output"]
            .map(str::to_owned)
            .into();
        let left_out = if all { &[] } else { target.left_out };
        for name in left_out.iter().chain(target.not_here) {
            arguments.extend(["--skip", name].map(str::to_owned));
        }
        arguments.extend_from_slice(filter);
        groups.push(Group {
            name: target.name.to_owned(),
            program,
            arguments,
            directory,
            limit: target.minutes * 60 * if all { 3 } else { 1 },
            ends_only: target.ends_only && !all && !chosen && filter.is_empty(),
        });
    }
    groups.push(start(root, filter)?);
    Ok(groups)
}

/// The names of all groups, as they are in the table.
pub fn names(groups: &[Group]) -> Vec<String> {
    groups.iter().map(|group| group.name.clone()).collect()
}

fn start(root: &Path, filter: &[String]) -> Result<Group> {
    let own = std::env::current_exe().context("this program's own path cannot be found")?;
    let steer = test::target_directory(root)?.join("debug/steer");
    let text = |path: PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|path: OsString| anyhow::anyhow!("{} is not UTF-8", path.display()))
    };
    let mut arguments = vec!["vm-start".to_owned(), text(steer)?];
    arguments.extend_from_slice(filter);
    Ok(Group {
        name: START.to_owned(),
        program: own,
        arguments,
        directory: root.to_owned(),
        limit: START_MINUTES * 60,
        ends_only: false,
    })
}

/// The program and the package's folder, if `message` of cargo tells them of `target`.
fn executable(message: &str, target: &Target) -> Option<(PathBuf, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_test = message["target"]["kind"] == serde_json::json!(["test"]);
    if !is_test || message["target"]["name"] != target.target {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    Some((
        message["executable"].as_str()?.into(),
        manifest.parent()?.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tells_where_a_test_program_is() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/steer/Cargo.toml","target":{"kind":["test"],
            "name":"datapath"},"executable":"/w/target/debug/deps/datapath-1"}"#
            .replace('\n', "");
        let found = executable(&message, &TARGETS[0]);
        assert_eq!(
            found,
            Some(("/w/target/debug/deps/datapath-1".into(), "/w/steer".into()))
        );
        assert_eq!(executable(&message, &TARGETS[1]), None);
        assert_eq!(
            executable(&message.replace("[\"test\"]", "[\"bin\"]"), &TARGETS[0]),
            None
        );
    }
}
