//! `steer run` and `steer cleanup`.

use super::{RunArgs, StateArgs};
use crate::config::{ConfigFile, DEFAULT_FILE, Settings};
use crate::host::{Host, requirements};
use anyhow::{Context, Result};
use std::path::Path;

/// What the file and the flags ask for.
pub(super) fn settings(args: &RunArgs) -> Result<Settings> {
    let file = match &args.config {
        Some(path) => ConfigFile::read(path)?,
        None if Path::new(DEFAULT_FILE).exists() => ConfigFile::read(Path::new(DEFAULT_FILE))?,
        None => ConfigFile::default(),
    };
    Ok(Settings::resolve(file, args.overrides())?)
}

/// Steers until interrupted.
pub(super) fn run(args: &RunArgs) -> Result<()> {
    super::set_up_log(args.verbose);
    let settings = settings(args)?;
    requirements::check(&settings.bpffs)?;
    runtime()?.block_on(async {
        let _host = Host::discover(&settings).await?;
        Ok(())
    })
}

/// Removes what a killed run left.
pub(super) fn cleanup(args: &StateArgs) -> Result<()> {
    super::set_up_log(0);
    let (_bpffs, _run_dir) = args.directories();
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")
}
