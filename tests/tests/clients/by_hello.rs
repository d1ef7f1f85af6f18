//! The path of real clients that ask nobody for the address: only what they say first tells the name.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use steer_tests::{
    lab::{Curl, plan::Path},
    pace::patience,
};

use crate::Browsing;

#[test]
fn quic_is_held_until_its_name_is_read_and_takes_the_path_of_it() -> Result<()> {
    let mut lab = Browsing::up()?;
    for case in lab.cases() {
        let resolved = case.resolved();
        let mut options = vec!["--http3-only", "--resolve", &resolved];
        // A process's socket has its address already, which the VPN does not carry: it is ended.
        if !case.behind_a_bridge && case.right == Path::Vpn {
            options.extend(["--retry", "1", "--retry-all-errors"]);
        }
        let seen = lab.request(&case, Curl::Sid, &options)?;
        assert_eq!(
            (seen.path, &seen.host, seen.protocol.as_str()),
            (case.right, &case.name, "HTTP/3.0"),
            "{case:?}: {seen:?}\n{}",
            lab.steer.output()
        );
    }
    assert_eq!(
        lab.lab.resolver.asked(),
        [],
        "somebody asked for an address"
    );
    Ok(())
}

#[test]
fn a_connection_that_begins_on_the_wrong_path_is_ended_and_its_retry_is_not() -> Result<()> {
    const RETRY: [&str; 5] = ["--retry", "1", "--retry-all-errors", "--retry-delay", "1"];
    let mut lab = Browsing::up()?;
    for (curl, protocol) in [
        (Curl::System, "--http1.1"),
        (Curl::System, "--http2"),
        (Curl::Sid, "--http2"),
    ] {
        for case in lab.cases() {
            let resolved = case.resolved();
            let mut options = vec![protocol, "--resolve", &resolved];
            options.extend(RETRY);
            let started = Instant::now();
            let seen = lab.request(&case, curl, &options)?;
            let took = started.elapsed();
            let context = format!("{case:?}, {curl:?}, {protocol}");
            ensure!(
                took < patience(Duration::from_secs(5)),
                "{context}: it took {took:?}, so it was not ended at once"
            );
            assert_eq!(
                (seen.path, &seen.host),
                (case.right, &case.name),
                "{context}: {seen:?}"
            );
        }
    }
    assert_eq!(
        lab.lab.resolver.asked(),
        [],
        "somebody asked for an address"
    );
    Ok(())
}
