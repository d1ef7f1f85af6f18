//! After an end in good order, the host's rules, routes, nft ruleset, qdiscs and filters, sysctls, cgroup programs and
//! BPF file system are as they were. For others, see `crash`, `adoption` and `start_errors`.

use anyhow::Result;
use steer_tests::{
    fixture::{ATTACHMENTS, Shared},
    lab::HostSnapshot,
    pace::choice,
};

#[test]
fn after_sigterm() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let before = HostSnapshot::take(&lab.lab)?;
    for attachment in choice(&ATTACHMENTS, &ATTACHMENTS[..1]) {
        let steer = lab.steer_attached(&lab.config(), attachment)?;
        lab.steers()?;
        let during = before.diff(&HostSnapshot::take(&lab.lab)?);
        for trace in [
            "lookup 7350",
            "bridge_ingress",
            "connect4",
            "bpf/steer/ADDRS",
        ] {
            assert!(
                during.contains(trace),
                "{attachment}: no {trace} in {during}"
            );
        }
        steer.terminate()?;
        let left = before.diff(&HostSnapshot::take(&lab.lab)?);
        assert_eq!(left, "", "{attachment}");
    }
    lab.done()
}
