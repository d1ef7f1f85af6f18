//! Asks the lab's servers for what the lines of its standard input say.

use std::io::{stdin, stdout};

fn main() -> anyhow::Result<()> {
    steer_tests::client::serve(stdin().lock(), stdout().lock())
}
