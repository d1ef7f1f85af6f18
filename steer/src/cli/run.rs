//! `steer run` and `steer cleanup`.

use super::{RunArgs, StateArgs};
use crate::config::{ConfigFile, DEFAULT_FILE, Settings};
use crate::engine;
use crate::host::requirements;
use crate::route::Numbers;
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
    Ok(runtime()?.block_on(engine::run(settings))?)
}

/// Removes what a killed run left.
pub(super) fn cleanup(args: &StateArgs) -> Result<()> {
    super::set_up_log(0);
    let (bpffs, run_dir) = args.directories();
    let done = runtime()?.block_on(engine::cleanup(&bpffs, &run_dir, Numbers::default()))?;
    for doing in &done {
        println!("{doing}");
    }
    if done.is_empty() {
        println!("nothing was left to remove");
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")
}
