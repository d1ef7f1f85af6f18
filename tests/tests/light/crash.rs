//! A killed run: the kernel goes on steering, and cleanup finds all that was left. By links and by the filters of older
//! kernels. What the next run does with it, see `adoption`.

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{ATTACHMENTS, Shared},
    lab::HostSnapshot,
    pace::choice,
};

/// Somebody else's filter on the bridge.
const THEIRS: &str = "tc filter add dev br-guest ingress pref 40000 protocol all u32 match u32 0 0";

#[test]
fn after_kill_and_cleanup_nothing_is_left() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    for theirs in choice(&[false, true], &[true]) {
        if *theirs {
            lab.in_box("tc qdisc add dev br-guest clsact")?;
            lab.in_box(THEIRS)?;
        }
        let before = HostSnapshot::take(&lab.lab)?;
        for attachment in choice(&ATTACHMENTS, &ATTACHMENTS[..1]) {
            let steer = lab.steer_attached(&lab.config(), attachment)?;
            lab.steers()?;
            steer.kill()?;
            // Nobody runs, and yet the kernel learns and steers.
            lab.steers()?;
            lab.lab.steer_cleanup()?.stdout()?;
            let left = before.diff(&HostSnapshot::take(&lab.lab)?);
            assert_eq!(left, "", "{attachment}, others' filters: {theirs}");
        }
        // Cleaning what is clean is no failure, and changes nothing.
        lab.lab.steer_cleanup()?.stdout()?;
        assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    }
    lab.in_box("tc qdisc del dev br-guest clsact")?;
    lab.done()
}

#[test]
fn after_kill_and_the_loss_of_all_files_cleanup_finds_the_filters() -> Result<()> {
    let lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.steer_attached(&lab.config(), "clsact")?.kill()?;
    let pins = lab.lab.steer_bpffs();
    std::fs::remove_dir_all(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
    let done = lab.lab.steer_cleanup()?.stdout()?;
    assert!(done.contains("tc qdisc del dev br-guest clsact"), "{done}");
    assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    lab.done()
}
