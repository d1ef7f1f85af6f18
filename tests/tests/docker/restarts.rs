//! dockerd restarts, its cgroup is made anew, networks come and go: each pull goes as the first did.
//!
//! `STEER_RESTARTS` says how often (`cargo xtask soak`).

use anyhow::Result;
use steer_tests::{
    lab::{DockerVersion, Families, HostSnapshot, Lab},
    pace::asked,
};

use crate::pull::{is_refused, takes_two_paths};

#[test]
fn a_dockerd_that_restarts_is_steered_again_before_it_pulls() -> Result<()> {
    let rounds = asked("STEER_RESTARTS", 1)?;
    let mut lab = Lab::builder().docker(DockerVersion::Installed).up()?;
    is_refused(&lab)?;
    lab.restart_docker()?;
    let before = HostSnapshot::take(&lab)?;
    let steer = lab.steer("", &["--no-resolve"])?;
    let attached = format!("cgroup   {} attached", lab.dockerd_cgroup().display());
    for round in 1..=rounds {
        lab.restart_docker()?;
        let name = format!("passing-{round}");
        lab.docker(&["network", "create", &name])?.stdout()?;
        takes_two_paths(&lab, Families::Both, || {
            format!("round {round}, steer said:\n{}", steer.output())
        })?;
        lab.docker(&["network", "rm", &name])?.stdout()?;
        let said = steer.output();
        let times = said.lines().filter(|line| line.starts_with(&attached));
        assert_eq!(times.count(), round, "{said}");
    }
    assert_eq!(lab.blocked_by_isp()?, 0);
    steer.terminate()?;
    assert_eq!(before.diff(&HostSnapshot::take(&lab)?), "");
    println!("{rounds} restarts");
    Ok(())
}
