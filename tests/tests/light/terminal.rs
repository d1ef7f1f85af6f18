//! SIGHUP asks for the rules again, unless it says that the terminal has gone.

use anyhow::Result;
use steer_tests::{fixture::Shared, lab::HostSnapshot};

#[test]
fn with_its_terminal_steer_ends_and_by_a_signal_alone_it_does_not() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let mut steer = lab.lab.steer_on_terminal(&lab.config())?;
    steer.hang_up()?;
    steer.wait_said("reloaded ")?;
    lab.steers()?;
    steer.still_runs()?;
    steer.close_terminal()?;
    let status = steer.wait()?;
    assert!(status.success(), "{status}: {}", steer.output());
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
