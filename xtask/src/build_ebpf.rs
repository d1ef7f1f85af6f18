//! Compiles the kernel programs into the object that the `steer` binary embeds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};

use crate::{
    setup::{
        self, Toolchain,
        compiler::{Core, Route, TARGET},
    },
    stack,
    stamp::{self, Stamp},
    step, system,
};

/// What the kernel has to read in the object's licence section.
const LICENCE: &[u8] = b"Dual MIT/GPL\0";

/// Makes the object unless it is there and fits its sources.
///
/// # Errors
/// When the tools are missing and cannot be installed, or the sources do not compile.
pub fn run(route: Option<Route>, show_output: bool) -> Result<PathBuf> {
    let root = system::workspace();
    let object = root.join(stamp::OBJECT);
    // A route that was asked for is taken, whatever made the object that is there.
    if route.is_none() && stamp::check(&root).is_ok() {
        eprintln!("build-ebpf: {} is up to date", stamp::OBJECT);
        return Ok(object);
    }

    eprintln!("build-ebpf: compiling the kernel programs");
    let toolchain = setup::toolchain(route)?;
    // Summed before the build: what is edited while it runs makes the stamp stale, as it should.
    let sources = stamp::sources(&root).context("the eBPF sources cannot be read")?;
    let mut cargo = cargo(&toolchain, "build", &root, &Machine::ANY);
    if show_output {
        let status = cargo
            .status()
            .with_context(|| format!("{} cannot be started", toolchain.compiler.cargo.display()))?;
        anyhow::ensure!(
            status.success(),
            "the kernel programs did not compile ({status})"
        );
    } else {
        step::run("compiling for bpfel-unknown-none", &mut cargo)?;
    }

    let made = root
        .join("target/bpf")
        .join(TARGET)
        .join("release/steer-ebpf");
    let content = fs::read(&made).with_context(|| format!("{} cannot be read", made.display()))?;
    let stack =
        inspect(&content).with_context(|| format!("{} is not fit to be loaded", made.display()))?;
    replace(&object, &content)?;
    replace(
        &root.join(stamp::STAMP),
        Stamp::new(sources, &content).render().as_bytes(),
    )?;
    eprintln!("  the deepest stack: {stack}");
    eprintln!(
        "build-ebpf: {} ({} KiB)",
        stamp::OBJECT,
        content.len().div_ceil(1024)
    );
    Ok(object)
}

/// What the kernel programs are compiled for.
pub struct Machine {
    /// Flags of the compiler that say so.
    pub flags: &'static [&'static str],
    /// Where the build lies, in the workspace.
    pub folder: &'static str,
}

impl Machine {
    /// The object is the same for all machines of this byte order.
    pub const ANY: Self = Self {
        flags: &[],
        folder: "target/bpf",
    };
}

/// A cargo that runs `verb` on the kernel programs for the BPF target.
pub fn cargo(toolchain: &Toolchain, verb: &str, root: &Path, machine: &Machine) -> Command {
    let compiler = &toolchain.compiler;
    let mut command = Command::new(&compiler.cargo);
    system::clean_environment(&mut command);
    command
        .current_dir(root)
        .arg(verb)
        .args([
            "--release",
            "--locked",
            "--package",
            "steer-ebpf",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(root.join(machine.folder))
        .env("RUSTC", &compiler.rustc)
        // aya-ebpf uses one unstable feature (asm_experimental_arch), and build-std is one.
        .env("RUSTC_BOOTSTRAP", "1")
        // Inlines what steer-common and aya-ebpf have: the BPF stack is 512 bytes a call chain.
        .env("CARGO_PROFILE_RELEASE_LTO", "thin");
    if compiler.core == Core::Source {
        command.args(["-Z", "build-std=core"]);
    }
    let linker = format!("-Clinker={}", toolchain.linker.display());
    let own = [
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        // Otherwise what is filled with zeros is filled by a loop, an octet at a time.
        "-Clink-arg=--disable-expand-memcpy-in-order",
        "-Ctarget-cpu=v3",
        linker.as_str(),
    ];
    command.env(
        "CARGO_ENCODED_RUSTFLAGS",
        [&own, machine.flags].concat().join("\x1f"),
    );
    command
}

/// Runs clippy on the kernel programs, with warnings as errors.
///
/// # Errors
/// When it warns, or is missing and cannot be installed.
pub fn clippy(toolchain: &Toolchain, root: &Path) -> Result<()> {
    let driver = toolchain.compiler.clippy_driver()?;
    let mut cargo = cargo(toolchain, "check", root, &Machine::ANY);
    // What `cargo clippy` sets; a distribution's cargo would find rustup's clippy, which is of another compiler.
    cargo.env("RUSTC_WORKSPACE_WRAPPER", driver);
    cargo.env(
        "CLIPPY_ARGS",
        "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
    );
    step::run("clippy for bpfel-unknown-none", &mut cargo)
}

/// Looks for what the kernel and bpftool want of an object: a licence that allows every helper, type information, and no
/// more stack than there is, of which it tells how much is used.
fn inspect(content: &[u8]) -> Result<String> {
    let object = object::File::parse(content).context("it is no ELF object")?;
    let section = |name: &str| {
        let section = object
            .section_by_name(name)
            .with_context(|| format!("it has no section {name}"))?;
        section
            .data()
            .with_context(|| format!("its section {name} cannot be read"))
    };
    section(".BTF")?;
    section(".BTF.ext")?;
    let licence = section("license")?;
    anyhow::ensure!(
        licence == LICENCE,
        "its licence is {:?}",
        String::from_utf8_lossy(licence)
    );
    stack::check(&object)
}

/// Puts `content` at `path` at once, so that nobody reads half of it.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&new, content)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}
