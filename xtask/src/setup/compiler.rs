//! Finding, or getting, a Rust compiler that can make eBPF objects.
//!
//! Two routes lead to one: a rustup toolchain with its `rust-src` component, from which `core` is compiled each time, and
//! a distribution's compiler with `core` already compiled for BPF.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::{linker, packages};
use crate::{step, system};

/// Which of the two kinds of compiler makes the eBPF object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Route {
    /// The active rustup toolchain with its rust-src component.
    Rustup,
    /// The distribution's packages, with core compiled for BPF.
    System,
}

/// Where `core` for the BPF target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// Compiled along with the object, from the toolchain's rust-src.
    Source,
    /// Compiled already, in the compiler's own folder.
    Prebuilt,
}

/// A compiler that can make eBPF objects.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The route that it was found by.
    pub route: Route,
    /// `rustc` itself, not a proxy.
    pub rustc: PathBuf,
    /// The `cargo` that belongs to it.
    pub cargo: PathBuf,
    /// Its version, such as `1.96.0`.
    pub release: String,
    /// The major version of its LLVM, which bpf-linker has to share.
    pub llvm: u32,
    /// Where its `core` comes from.
    pub core: Core,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (route, core) = match (self.route, self.core) {
            (Route::Rustup, Core::Source) => ("rustup", "core from rust-src"),
            (Route::Rustup, Core::Prebuilt) => ("rustup", "core prebuilt"),
            (Route::System, Core::Source) => {
                ("the distribution's packages", "core from its sources")
            }
            (Route::System, Core::Prebuilt) => ("the distribution's packages", "core prebuilt"),
        };
        write!(
            f,
            "rustc {} (LLVM {}) by {route}, {core}",
            self.release, self.llvm
        )
    }
}

/// A set of the distribution's packages that together compile for BPF.
struct PackageSet {
    names: &'static [&'static str],
    /// The one that decides whether the distribution has the set.
    core: &'static str,
    /// The clippy that belongs to them.
    clippy: &'static str,
}

const PACKAGE_SETS: &[PackageSet] = &[
    PackageSet {
        names: &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"],
        core: "libstd-rust-web-dev-bpf",
        clippy: "rust-web-clippy",
    },
    PackageSet {
        names: &["rustc", "cargo", "libstd-rust-dev-bpf"],
        core: "libstd-rust-dev-bpf",
        clippy: "rust-clippy",
    },
];

/// The BPF target of little-endian machines.
pub const TARGET: &str = "bpfel-unknown-none";

const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The first compiler that is ready, rustup's before the distribution's.
pub fn find(wanted: Option<Route>) -> Option<Compiler> {
    candidates(wanted)
        .into_iter()
        .find(|compiler| compiler.has_core() && linker::is_within_reach(compiler.llvm))
}

/// Gets a compiler ready that was not.
///
/// # Errors
/// When neither route leads to one: the sentence names what each lacks.
pub fn install(wanted: Option<Route>) -> Result<Compiler> {
    let mut lacks = Vec::new();
    if wanted != Some(Route::System) {
        match add_rust_src() {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => {
                step::note(&format!("not by rustup: {reason}"));
                lacks.push(format!("by rustup: {reason}"));
            }
        }
    }
    if wanted != Some(Route::Rustup) {
        match install_packages() {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => lacks.push(format!("by packages: {reason:#}")),
        }
    }
    bail!(
        "no compiler for eBPF can be had on {}: {}",
        packages::distribution(),
        lacks.join("; ")
    )
}

fn candidates(wanted: Option<Route>) -> Vec<Compiler> {
    let active = (wanted != Some(Route::System)).then(active).flatten();
    let system = (wanted != Some(Route::Rustup))
        .then(|| Compiler::probe(Route::System, Path::new("/usr/bin/rustc")))
        .flatten();
    active.into_iter().chain(system).collect()
}

/// rustup's compiler, if it is the one that is active here.
fn active() -> Option<Compiler> {
    let rustc = system::output(Command::new("rustup").args(["which", "rustc"]))?;
    Compiler::probe(Route::Rustup, Path::new(&rustc))
}

impl Compiler {
    fn probe(route: Route, rustc: &Path) -> Option<Self> {
        let version = system::output(system::clean_environment(Command::new(rustc).arg("-vV")))?;
        let field = |name: &str| {
            version
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let release = field("release:")?.to_owned();
        let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
        if numbers(&release) < numbers(OLDEST) {
            return None;
        }
        let cargo = rustc.with_file_name("cargo");
        let mut compiler = Self {
            route,
            rustc: rustc.to_owned(),
            cargo,
            release,
            llvm,
            core: Core::Prebuilt,
        };
        if !compiler.library(TARGET).join("lib").is_dir() {
            compiler.core = Core::Source;
        }
        compiler.cargo.is_file().then_some(compiler)
    }

    fn has_core(&self) -> bool {
        match self.core {
            Core::Prebuilt => true,
            Core::Source => self.library("src/rust/library/core/src/lib.rs").is_file(),
        }
    }

    /// A path below the compiler's `rustlib`.
    fn library(&self, below: &str) -> PathBuf {
        let prefix = self.rustc.ancestors().nth(2).unwrap_or(Path::new("/usr"));
        prefix.join("lib/rustlib").join(below)
    }

    /// The `clippy-driver` made for this compiler, installed if it was missing.
    ///
    /// # Errors
    /// When it is missing and cannot be installed.
    pub fn clippy_driver(&self) -> Result<PathBuf> {
        let driver = self.rustc.with_file_name("clippy-driver");
        if !driver.is_file() {
            self.install_clippy()?;
        }
        anyhow::ensure!(
            driver.is_file(),
            "{} is missing: install the clippy of {self}",
            driver.display()
        );
        Ok(driver)
    }

    fn install_clippy(&self) -> Result<()> {
        match self.route {
            Route::Rustup => step::run(
                "rustup component add clippy",
                Command::new("rustup").args(["component", "add", "clippy"]),
            ),
            Route::System => {
                let set = PACKAGE_SETS
                    .iter()
                    .find(|set| packages::is_installed(set.core));
                set.map_or(Ok(()), |set| packages::install(&[set.clippy]))
            }
        }
    }
}

fn add_rust_src() -> Result<Compiler> {
    if system::find("rustup").is_none() {
        bail!("there is no rustup here");
    }
    let Some(compiler) = active() else {
        bail!("its active toolchain is older than {OLDEST}");
    };
    if !linker::is_within_reach(compiler.llvm) {
        bail!(
            "its compiler needs the development package of LLVM {}, which is not to be had here",
            compiler.llvm
        );
    }
    if !compiler.has_core() {
        // Offline, rustup tries again and again for minutes.
        let mut command = Command::new("timeout");
        command.args(["180", "rustup", "component", "add", "rust-src"]);
        step::run("rustup component add rust-src", &mut command)
            .context("its component rust-src cannot be added")?;
    }
    active()
        .filter(Compiler::has_core)
        .context("its component rust-src was added, yet its library sources are missing")
}

fn install_packages() -> Result<Compiler> {
    if !packages::has_apt() {
        bail!(
            "only Debian's are known to setup; install rustc {OLDEST} or newer with the library sources of its own version (rust-src)"
        );
    }
    packages::refresh_if_empty()?;
    let Some(set) = PACKAGE_SETS
        .iter()
        .find(|set| packages::is_available(set.core))
    else {
        let cores: Vec<_> = PACKAGE_SETS.iter().map(|set| set.core).collect();
        bail!("none of {} is available", cores.join(", "));
    };
    packages::install(set.names)?;
    Compiler::probe(Route::System, Path::new("/usr/bin/rustc"))
        .filter(Compiler::has_core)
        .with_context(|| {
            format!(
                "the packages {} brought no rustc of {OLDEST} or newer",
                set.names.join(" ")
            )
        })
}

/// `1.96.0-nightly` as `[1, 96, 0]`.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert!(numbers("1.95.0") >= numbers("1.95"));
        assert!(numbers("1.63.0") < numbers("1.95"));
        assert_eq!(numbers("1.97.0-nightly"), [1, 97, 0]);
    }
}
