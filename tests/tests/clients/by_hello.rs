//! The path of real clients that ask nobody for the address: only what they say first tells the name.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, ensure};
use steer_tests::{
    fixture::{Fixture, fresh},
    lab::{Curl, plan::Path},
    pace::patience,
};

use crate::{NAMES, answered};

#[test]
fn quic_is_held_until_its_name_is_read_and_takes_the_path_of_it() -> Result<()> {
    let lab = Fixture::up()?;
    let web = lab.lab.web(&NAMES)?;
    let steered = lab.lab.box_cgroup("steered")?;
    let steer = lab.steer()?;
    let mut number = 330;
    let mut requests = 0;
    for behind_a_bridge in [true, false] {
        for v6 in [false, true] {
            for (zone, right) in [("fresh", Path::Vpn), ("plain", Path::Direct)] {
                number += 1;
                requests += 1;
                let name = format!("n{number}.{zone}.example");
                let mut words = web.curl(Curl::Sid)?;
                words.push("--http3-only".into());
                // A process's socket has its address already, which the VPN does not carry: it is ended.
                if !behind_a_bridge && right == Path::Vpn {
                    words.extend(["--retry", "1", "--retry-all-errors"].map(PathBuf::from));
                }
                words.push("--resolve".into());
                words.push(format!("{name}:443:{}", fresh(number, v6)).into());
                words.push(format!("https://{name}/").into());
                let ran = if behind_a_bridge {
                    lab.lab.run_behind(&lab.guest, &words)?
                } else {
                    lab.lab.run_in(&steered, &words)?
                };
                let context = format!("{name}, guest {behind_a_bridge}");
                answered(ran).context(context.clone())?;
                let seen = web.seen(requests)?;
                let last = seen.last().context("nothing was seen")?;
                assert_eq!(
                    (last.path, &last.host, last.protocol.as_str()),
                    (right, &name, "HTTP/3.0"),
                    "{context}: {last:?}\n{}",
                    steer.output()
                );
            }
        }
    }
    assert_eq!(lab.resolver.asked(), [], "somebody asked for an address");
    Ok(())
}

#[test]
fn a_connection_that_begins_on_the_wrong_path_is_ended_and_its_retry_is_not() -> Result<()> {
    let lab = Fixture::up()?;
    let web = lab.lab.web(&NAMES)?;
    let steered = lab.lab.box_cgroup("steered")?;
    let _steer = lab.steer()?;
    let mut number = 300;
    let mut requests = 0;
    for (curl, protocol) in [
        (Curl::System, "--http1.1"),
        (Curl::System, "--http2"),
        (Curl::Sid, "--http2"),
    ] {
        for behind_a_bridge in [false, true] {
            for v6 in [false, true] {
                for (zone, right) in [("fresh", Path::Vpn), ("plain", Path::Direct)] {
                    number += 1;
                    requests += 1;
                    let name = format!("n{number}.{zone}.example");
                    let mut words = web.curl(curl)?;
                    words.extend(
                        [
                            protocol,
                            "--retry",
                            "1",
                            "--retry-all-errors",
                            "--retry-delay",
                            "1",
                        ]
                        .map(PathBuf::from),
                    );
                    words.push("--resolve".into());
                    words.push(format!("{name}:443:{}", fresh(number, v6)).into());
                    words.push(format!("https://{name}/").into());
                    let started = Instant::now();
                    let ran = if behind_a_bridge {
                        lab.lab.run_behind(&lab.guest, &words)?
                    } else {
                        lab.lab.run_in(&steered, &words)?
                    };
                    let context = format!("{name}, guest {behind_a_bridge}, {curl:?}, {protocol}");
                    answered(ran).context(context.clone())?;
                    let took = started.elapsed();
                    ensure!(
                        took < patience(std::time::Duration::from_secs(5)),
                        "{context}: it took {took:?}, so it was not ended at once"
                    );
                    let seen = web.seen(requests)?;
                    let last = seen.last().context("nothing was seen")?;
                    assert_eq!(
                        (last.path, &last.host),
                        (right, &name),
                        "{context}: {last:?}"
                    );
                }
            }
        }
    }
    assert_eq!(lab.resolver.asked(), [], "somebody asked for an address");
    Ok(())
}
