//! The path of real clients that ask the DNS.

use std::path::PathBuf;

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{Fixture, fresh},
    lab::{Curl, Request, plan::Path},
};

use crate::{NAMES, answered};

/// What a client is to speak.
struct Wanted {
    curl: Curl,
    option: &'static str,
    protocol: &'static str,
    group: &'static str,
}

const WANTED: [Wanted; 4] = [
    Wanted {
        curl: Curl::System,
        option: "--http1.1",
        protocol: "HTTP/1.1",
        group: "X25519",
    },
    Wanted {
        curl: Curl::System,
        option: "--http2",
        protocol: "HTTP/2.0",
        group: "X25519",
    },
    Wanted {
        curl: Curl::Sid,
        option: "--http2",
        protocol: "HTTP/2.0",
        group: "X25519MLKEM768",
    },
    Wanted {
        curl: Curl::Sid,
        option: "--http3-only",
        protocol: "HTTP/3.0",
        group: "X25519MLKEM768",
    },
];

#[test]
fn curl_takes_the_path_of_the_name_by_every_protocol() -> Result<()> {
    let lab = Fixture::up()?;
    let web = lab.lab.web(&NAMES)?;
    let steered = lab.lab.box_cgroup("steered")?;
    let _steer = lab.steer()?;
    let mut number = 100;
    let mut requests = 0;
    for wanted in &WANTED {
        for behind_a_bridge in [false, true] {
            for v6 in [false, true] {
                for (zone, right) in [("fresh", Path::Vpn), ("plain", Path::Direct)] {
                    number += 1;
                    requests += 1;
                    let name = format!("n{number}.{zone}.example");
                    let mut words = web.curl(wanted.curl)?;
                    let family = if v6 { "-6" } else { "-4" };
                    words.extend([wanted.option, family].map(PathBuf::from));
                    words.push(format!("https://{name}/").into());
                    let ran = if behind_a_bridge {
                        lab.lab.run_behind(&lab.guest, &words)?
                    } else {
                        lab.lab.run_in(&steered, &words)?
                    };
                    let context = format!("{name}, guest {behind_a_bridge}, {}", wanted.option);
                    answered(ran).context(context.clone())?;
                    let seen = web.seen(requests)?;
                    let last = seen.last().context("nothing was seen")?;
                    let expected = Request {
                        host: name,
                        server: fresh(number, v6),
                        path: right,
                        protocol: wanted.protocol.to_owned(),
                        tls: "TLSv1.3".to_owned(),
                        group: wanted.group.to_owned(),
                    };
                    assert_eq!(*last, expected, "{context}");
                }
            }
        }
    }
    Ok(())
}

/// The C library asks over TCP when it is told so.
#[test]
fn the_system_resolver_over_tcp_teaches() -> Result<()> {
    let lab = Fixture::up()?;
    let web = lab.lab.web(&NAMES)?;
    let _steer = lab.steer()?;
    let steered = lab.lab.box_cgroup("steered")?;
    for (index, family) in ["-4", "-6"].into_iter().enumerate() {
        let name = format!("n{}.fresh.example", 200 + index);
        let mut words = ["env", "RES_OPTIONS=use-vc"].map(PathBuf::from).to_vec();
        words.extend(web.curl(Curl::System)?);
        words.extend([family.into(), format!("https://{name}/").into()]);
        answered(lab.lab.run_in(&steered, &words)?)?;
        let seen = web.seen(index + 1)?;
        assert_eq!(seen[index].path, Path::Vpn, "{name}: {:?}", seen[index]);
    }
    assert_eq!(lab.resolver.asked(), [], "questions by UDP");
    Ok(())
}
