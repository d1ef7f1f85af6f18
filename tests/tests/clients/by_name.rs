//! The path of real clients that ask the DNS.

use std::path::PathBuf;

use anyhow::Result;
use steer_tests::{
    fixture::Fixture,
    lab::{Curl, Request, plan::Path},
};

use crate::{Browsing, NAMES, answered};

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
    let mut lab = Browsing::up()?;
    for wanted in &WANTED {
        for case in lab.cases() {
            let family = if case.v6 { "-6" } else { "-4" };
            let seen = lab.request(&case, wanted.curl, &[wanted.option, family])?;
            let expected = Request {
                host: case.name.clone(),
                server: case.server,
                path: case.right,
                protocol: wanted.protocol.to_owned(),
                tls: "TLSv1.3".to_owned(),
                group: wanted.group.to_owned(),
            };
            assert_eq!(seen, expected, "{case:?}, {}", wanted.option);
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
