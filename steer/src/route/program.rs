//! Runs the programs that come with the kernel's firewalls: `nft`, `iptables`, `ip6tables`.

use std::{env, ffi::OsString, io, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use super::Error;

/// Why a program did not do what it was to do.
#[derive(Debug)]
pub(super) enum Failure {
    NotStarted(io::Error),
    Refused(String),
}

impl Failure {
    /// Whether the program is not there.
    pub(super) fn is_of_a_missing_program(&self) -> bool {
        matches!(self, Self::NotStarted(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// As the error of a command of `nft`.
    pub(super) fn of_nft(self, command: String) -> Error {
        if self.is_of_a_missing_program() {
            return Error::NftMissing;
        }
        self.told(command, |command, message| Error::Nft { command, message })
    }

    /// As the error of a command of `iptables`.
    pub(super) fn of_iptables(self, command: String) -> Error {
        self.told(command, |command, message| Error::Iptables {
            command,
            message,
        })
    }

    fn told(self, command: String, error: fn(String, String) -> Error) -> Error {
        match self {
            Self::NotStarted(cause) => error(command, cause.to_string()),
            Self::Refused(message)
                if ["Operation not permitted", "you must be root"]
                    .iter()
                    .any(|part| message.contains(part)) =>
            {
                Error::Permission { command }
            }
            Self::Refused(message) => error(command, message),
        }
    }
}

/// Runs a program and returns what it prints. The helpers of the nftables crate leave its standard error to ours, and so
/// lose what it says.
pub(super) async fn run<A: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    input: &str,
) -> Result<String, Failure> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        // A Ctrl-C in the terminal ends steer, which then needs them to put the host back.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::NotStarted)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without having read: then it says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(Failure::NotStarted)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The first line has the cause; those after it quote the input.
    let cause = said
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it gave no reason");
    Err(Failure::Refused(cause.trim().to_owned()))
}

/// `su` without `-` and some service managers leave out the folders that they are in.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}
