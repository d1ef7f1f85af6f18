//! The machine underneath: finding programs, becoming root, a clean environment for children.

use std::{
    env, fmt,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// The root of the workspace that this run works on.
///
/// Cargo's word at run time comes first: checkouts that share a target directory also share the file of this program.
pub fn workspace() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), Path::to_owned)
}

/// The folder of what steer's builds and tests keep between runs.
pub fn cache() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| home().join(".cache"), PathBuf::from)
        .join("steer")
}

/// The user's home folder.
pub fn home() -> PathBuf {
    env::home_dir().unwrap_or_else(|| PathBuf::from("/root"))
}

/// Where `program` is, on PATH or in the folders of root's programs.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Root was needed and could not be had.
#[derive(Debug)]
pub struct NoRoot(String);

impl fmt::Display for NoRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoRoot {}

/// Makes sure that [`as_root`] works, asking for the password now if it has to.
///
/// # Errors
/// When this is not root and sudo is missing or refuses.
pub fn ensure_root(purpose: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let refuse = |why: &str| Err(NoRoot(format!("{purpose} needs root, and {why}")).into());
    if find("sudo").is_none() {
        return refuse("there is no sudo here: run this as root, or install sudo");
    }
    let mut sudo = Command::new("sudo");
    if !io::stdin().is_terminal() {
        sudo.arg("-n").stdin(Stdio::null());
    }
    let status = sudo
        .arg("-v")
        .status()
        .context("`sudo -v` cannot be started")?;
    if !status.success() {
        return refuse("sudo refused: run this as root, or allow this user to use sudo");
    }
    Ok(())
}

/// A command that runs `program` as root; call [`ensure_root`] before.
pub fn as_root(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg("--").arg(program);
    command
}

/// Removes what `cargo run` sets for this program and what would mislead another cargo or compiler.
pub fn clean_environment(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let package = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        if package
            || matches!(
                text,
                "CARGO"
                    | "LD_LIBRARY_PATH"
                    | "RUSTFLAGS"
                    | "CARGO_ENCODED_RUSTFLAGS"
                    | "RUSTC"
                    | "RUSTDOC"
            )
        {
            command.env_remove(&name);
        }
    }
    command
}

/// What `command` prints, without the line end; `None` when it cannot run or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| {
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    })
}
