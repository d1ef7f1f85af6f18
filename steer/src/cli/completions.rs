//! `steer completions` and `steer man`: what shells and man(1) want, from the definition of the command line.

use super::Cli;
use super::output::print;
use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  steer completions bash | sudo tee /usr/share/bash-completion/completions/steer
  steer completions zsh | sudo tee /usr/local/share/zsh/site-functions/_steer
  steer completions fish > ~/.config/fish/completions/steer.fish";

/// Flags of `steer completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Flags of `steer man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Where to write them
    pub folder: PathBuf,
}

/// Prints completions.
pub(super) fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "steer", &mut text);
    let text = String::from_utf8(text).context("the completions are not UTF-8")?;
    print(&[text.trim_end()])
}

/// Writes a man page for each command.
pub(super) fn man(args: &ManArgs) -> Result<()> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("the man pages cannot be written into {}", folder.display()))
}
