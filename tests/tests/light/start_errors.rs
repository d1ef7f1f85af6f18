//! A start that fails says why in one sentence, and leaves the host as it was.

use anyhow::Result;
use steer_tests::{
    fixture::Shared,
    lab::{Hook, HostSnapshot, Steer},
    pace::choice,
};

/// The stages of a start, as `STEER_FAULT` names them in a debug build.
const STAGES: [&str; 9] = [
    "lock", "discover", "load", "rules", "pin", "routing", "cgroups", "bridges", "ready",
];

/// Starts steer, which must end by itself and fail; returns what it said.
fn fails(mut steer: Steer, what: &str) -> Result<String> {
    let status = steer.wait()?;
    let said = steer.output();
    assert!(
        !status.success(),
        "{what}: steer ended well and said: {said}"
    );
    assert!(!said.contains("panicked"), "{what}: {said}");
    Ok(said)
}

#[test]
fn wrong_configurations_are_refused_before_anything_is_attached() -> Result<()> {
    let lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let config = lab.config();
    let dev = lab.lab.tunnel_interface();
    let with = |part: &str, wrong: &str| config.replacen(part, wrong, 1);
    for (config, named) in [
        (with(dev, "lo"), "loopback"),
        (with("/steered", "/nowhere"), "nowhere"),
        (with("br-guest", "br-none"), "br-none"),
        (with(".fresh.example", "fresh..example"), "fresh..example"),
        (with("presets", "preset"), "preset"),
        (with(&format!("\"{dev}\""), "7"), "interface"),
    ] {
        let said = fails(lab.lab.steer_started(&config, &[], &[])?, named)?;
        assert!(
            said.contains(named),
            "the error does not name {named}: {said}"
        );
    }
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}

#[test]
fn a_cgroup_that_a_program_of_anothers_has_to_itself_is_told() -> Result<()> {
    let lab = Shared::unsteered()?;
    lab.lab.attach_other("steered", Hook::CONNECT4, "")?;
    let before = HostSnapshot::take(&lab.lab)?;
    let steer = lab.lab.steer_started(&lab.config(), &[], &[])?;
    let said = fails(steer, "another has it")?;
    assert!(
        said.contains("connect4 cannot be attached to") && said.contains("to itself"),
        "{said}"
    );
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.lab.detach_other("steered", Hook::CONNECT4)?;
    lab.done()
}

#[test]
fn a_start_that_fails_at_any_stage_leaves_the_host_as_it_was() -> Result<()> {
    let lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let fail = |stage| -> Result<String> {
        let fault = [("STEER_FAULT", stage)];
        fails(lab.lab.steer_started(&lab.config(), &[], &fault)?, stage)
    };
    for stage in choice(&STAGES, &["lock", "discover", "load", "ready"]) {
        let said = fail(stage)?;
        assert!(
            said.contains(stage),
            "the error does not name the stage {stage}: {said}"
        );
        let after = before.diff(&HostSnapshot::take(&lab.lab)?);
        assert_eq!(after, "", "after {stage}");
    }
    // The same where a killed run left its programs and routes. What the kernel may do otherwise, `adoption` has.
    for stage in choice(&STAGES, &["discover"]) {
        lab.steer()?.kill()?;
        fail(stage)?;
        lab.lab.steer_cleanup()?.stdout()?;
        let after = before.diff(&HostSnapshot::take(&lab.lab)?);
        assert_eq!(after, "", "adopted, after {stage}");
    }
    lab.done()
}

#[test]
fn a_second_run_is_refused_and_disturbs_nothing() -> Result<()> {
    let lab = Shared::steered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let second = lab.lab.steer_started(&lab.config(), &[], &[])?;
    let said = fails(second, "a second run")?;
    assert!(
        said.contains("running"),
        "the error does not tell of the other run: {said}"
    );
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
