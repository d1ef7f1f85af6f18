//! A start that fails says why in one sentence, and leaves the host as it was.

use anyhow::Result;
use steer_tests::{
    fixture::Fixture,
    lab::{HostSnapshot, Steer},
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
    let fixture = Fixture::up()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let config = fixture.config();
    let dev = fixture.lab.tunnel_interface();
    let cases = [
        (config.replace(dev, "tun7"), "tun7"),
        (config.replace("/steered", "/nowhere"), "nowhere"),
        (config.replace("br-guest", "br-none"), "br-none"),
        (
            config.replace(".fresh.example", "fresh..example"),
            "fresh..example",
        ),
        (config.replace("presets", "preset"), "preset"),
        (config.replace(&format!("\"{dev}\""), "7"), "interface"),
    ];
    for (config, named) in cases {
        let said = fails(fixture.lab.steer_started(&config, &[], &[])?, named)?;
        assert!(
            said.contains(named),
            "the error does not name {named}: {said}"
        );
        assert_eq!(
            before.diff(&HostSnapshot::take(&fixture.lab)?),
            "",
            "after {named}"
        );
    }
    Ok(())
}

#[test]
fn a_start_that_fails_at_any_stage_leaves_the_host_as_it_was() -> Result<()> {
    let fixture = Fixture::with_debug_steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    for stage in STAGES {
        let steer = fixture
            .lab
            .steer_started(&fixture.config(), &[], &[("STEER_FAULT", stage)])?;
        let said = fails(steer, stage)?;
        assert!(
            said.contains(stage),
            "the error does not name the stage {stage}: {said}"
        );
        assert_eq!(
            before.diff(&HostSnapshot::take(&fixture.lab)?),
            "",
            "after {stage}"
        );
    }
    // The same where a killed run left its programs and routes.
    for stage in STAGES {
        fixture.steer()?.kill()?;
        let steer = fixture
            .lab
            .steer_started(&fixture.config(), &[], &[("STEER_FAULT", stage)])?;
        fails(steer, stage)?;
        fixture.lab.steer_cleanup()?.stdout()?;
        assert_eq!(
            before.diff(&HostSnapshot::take(&fixture.lab)?),
            "",
            "adopted, after {stage}"
        );
    }
    Ok(())
}

#[test]
fn a_second_run_is_refused_and_disturbs_nothing() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    let before = HostSnapshot::take(&fixture.lab)?;
    let said = fails(
        fixture.lab.steer_started(&fixture.config(), &[], &[])?,
        "a second run",
    )?;
    assert!(
        said.contains("running"),
        "the error does not tell of the other run: {said}"
    );
    assert_eq!(before.diff(&HostSnapshot::take(&fixture.lab)?), "");
    steer.terminate().map(drop)
}
