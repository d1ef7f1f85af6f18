//! End to end with programs that people have, on the light lab: curl of two generations with nginx, over TLS 1.3,
//! HTTP/3 and post-quantum key exchange. They come from Debian sid, so they are not among the tests of other kernels.

mod by_hello;
mod by_name;

use anyhow::{Result, ensure};
use steer_tests::lab::Ran;

/// What the web server has a certificate for.
const NAMES: [&str; 2] = ["*.fresh.example", "*.plain.example"];

fn answered(ran: Ran) -> Result<()> {
    let said = ran.said();
    ensure!(ran.ok() && !ran.stdout.trim().is_empty(), "curl: {said}");
    Ok(())
}
