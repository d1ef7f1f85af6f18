//! The kernel programs, run by `BPF_PROG_TEST_RUN` on packets made here; needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod aliases;
mod answers;
mod blocks;
mod flows;
mod hellos;
mod initials;
mod kernel;
mod message;
mod packet;
mod processes;
mod scopes;
mod streams;
mod usage;
mod vpns;

use self::kernel::Kernel;

const CLIENT: &str = "172.17.0.2";
const SERVER: &str = "203.0.113.7";
const RESOLVER: &str = "192.0.2.53";

fn flow(kernel: &mut Kernel, frame: &[u8]) -> (i32, u32) {
    kernel.run("bridge_ingress", frame, 0)
}

/// Prints how much each program made the verifier work, for the table of kernels; `cargo xtask bench` has what it takes to run.
#[test]
fn figures() {
    let kernel = Kernel::new();
    // The name of the test stands in the first line.
    println!();
    for (name, verified) in kernel.verified() {
        let verified = verified.map_or("unknown".to_owned(), |count| count.to_string());
        println!("fact: verified {name} {verified}");
    }
}
