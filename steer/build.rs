//! Hands the eBPF object to the crate, and refuses one that was not made from the present sources.

#[expect(
    dead_code,
    reason = "the half of this module that writes stamps is used by xtask"
)]
#[path = "../xtask/src/stamp.rs"]
mod stamp;

use std::{env, fs, path::PathBuf};

fn main() {
    if let Err(reason) = run() {
        println!("cargo::error={reason}: run `cargo xtask build-ebpf`");
    }
}

fn run() -> Result<(), String> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    for input in stamp::INPUTS
        .into_iter()
        .chain([stamp::OBJECT, stamp::STAMP])
    {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    stamp::check(&root)?;

    let object = root.join(stamp::OBJECT);
    let copy = PathBuf::from(variable("OUT_DIR")?).join("steer-ebpf.o");
    fs::copy(&object, &copy).map_err(|e| {
        format!(
            "{} cannot be copied to {}: {e}",
            object.display(),
            copy.display()
        )
    })?;
    println!("cargo::rustc-env=STEER_EBPF_OBJECT={}", copy.display());
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("cargo sets {name} for build scripts, yet: {e}"))
}
