//! Whether steer also compiles for a machine other than this one: user space, and the kernel programs that it embeds.

use std::{fmt, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    build_ebpf::{self, Machine},
    setup::Toolchain,
    step, system, test,
};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The flag by which aya-ebpf chooses the kernel's types.
const MACHINE: Machine = Machine {
    flags: &["--cfg=bpf_target_arch=\"aarch64\""],
    folder: "target/bpf-aarch64",
};

/// Something that this machine cannot have, without which the rest is still worth its while.
#[derive(Debug)]
pub struct NotHere(pub String);

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotHere {}

/// Checks both for aarch64.
///
/// # Errors
/// [`NotHere`] where there is no standard library for it; otherwise when something does not compile.
pub fn check(toolchain: &Toolchain, root: &Path) -> Result<()> {
    step::run(
        "the kernel programs for aarch64",
        &mut build_ebpf::cargo(toolchain, "check", root, &MACHINE),
    )?;
    standard_library()?;
    step::run(
        "steer for aarch64",
        test::cargo(root).args([
            "check",
            "--locked",
            "--package",
            "steer",
            "--target",
            TARGET,
        ]),
    )
}

fn standard_library() -> Result<()> {
    let libraries = system::output(system::clean_environment(&mut Command::new("rustc")).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]))
    .context("rustc does not tell where its libraries are")?;
    if Path::new(&libraries).is_dir() {
        return Ok(());
    }
    let not_here = |why: &str| NotHere(format!("no standard library of Rust for {TARGET}: {why}"));
    if system::find("rustup").is_none() {
        return Err(not_here("there is no rustup to add it by").into());
    }
    // Offline, rustup tries again and again for minutes.
    let mut command = Command::new("timeout");
    command.args(["180", "rustup", "target", "add", TARGET]);
    step::run(&format!("rustup target add {TARGET}"), &mut command)
        .map_err(|_| not_here("`rustup target add` failed").into())
}
