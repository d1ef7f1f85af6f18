//! End to end with programs that people have, on the light lab: curl of two generations with nginx, over TLS 1.3,
//! HTTP/3 and post-quantum key exchange. They come from Debian sid, so they are not among the tests of other kernels.

mod by_hello;
mod by_name;

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context, Result, ensure};
use steer_tests::{
    fixture::{Fixture, fresh},
    lab::{Curl, Ran, Request, Steer, Web, plan::Path},
};

/// What the web server has a certificate for.
const NAMES: [&str; 2] = ["*.fresh.example", "*.plain.example"];

/// The light lab with a web server and a steer, and clients that ask it for one name after the other.
struct Browsing {
    requests: usize,
    steer: Steer,
    steered: PathBuf,
    web: Web,
    lab: Fixture,
}

/// Who asks for what.
#[derive(Debug)]
struct Case {
    behind_a_bridge: bool,
    v6: bool,
    name: String,
    server: IpAddr,
    /// The path that the name takes.
    right: Path,
}

impl Browsing {
    fn up() -> Result<Self> {
        let lab = Fixture::up()?;
        Ok(Self {
            web: lab.lab.web(&NAMES)?,
            steered: lab.lab.box_cgroup("steered")?,
            steer: lab.steer()?,
            lab,
            requests: 0,
        })
    }

    /// Each kind of client, of address and of name, and no name that was there before.
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for behind_a_bridge in [false, true] {
            for v6 in [false, true] {
                for (zone, right) in [("fresh", Path::Vpn), ("plain", Path::Direct)] {
                    let number = 100 + (self.requests + cases.len()) as u16;
                    cases.push(Case {
                        behind_a_bridge,
                        v6,
                        name: format!("n{number}.{zone}.example"),
                        server: fresh(number, v6),
                        right,
                    });
                }
            }
        }
        cases
    }

    /// What the web server saw of a curl with these options.
    fn request(&mut self, case: &Case, curl: Curl, options: &[&str]) -> Result<Request> {
        let context = || format!("{case:?}, {curl:?}, {options:?}: {}", self.steer.output());
        let mut words = self.web.curl(curl)?;
        words.extend(options.iter().map(PathBuf::from));
        words.push(format!("https://{}/", case.name).into());
        let ran = if case.behind_a_bridge {
            self.lab.lab.run_behind(&self.lab.guest, &words)?
        } else {
            self.lab.lab.run_in(&self.steered, &words)?
        };
        answered(ran).with_context(context)?;
        let seen = self.web.seen(self.requests + 1).with_context(context)?;
        self.requests += 1;
        seen.last().cloned().context("nothing was seen")
    }
}

impl Case {
    /// The value of curl's option `--resolve` that gives it the address, so that it asks nobody.
    fn resolved(&self) -> String {
        format!("{}:443:{}", self.name, self.server)
    }
}

fn answered(ran: Ran) -> Result<()> {
    let said = ran.said();
    ensure!(ran.ok() && !ran.stdout.trim().is_empty(), "curl: {said}");
    Ok(())
}
