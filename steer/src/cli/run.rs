//! `steer run` and `steer cleanup`.

use super::{CleanupArgs, RunArgs, output::print, runtime};
use crate::config::{self, ConfigFile, Output, Settings};
use crate::engine;
use crate::host::{privileges, requirements};
use crate::progress::{Bar, Progress, Unseen};
use anyhow::Result;

/// Steers until interrupted.
pub(super) fn run(args: &RunArgs) -> Result<()> {
    super::set_up_log(args.verbose);
    let overrides = args.overrides();
    let progress: Box<dyn Progress> = match overrides.output {
        Output::Quiet => Box::new(Unseen),
        _ => Box::new(Bar::new()),
    };
    let file = ConfigFile::find(args.config.as_deref())?;
    let settings = Settings::resolve_telling(file, overrides, &*progress)?;
    requirements::check(&settings.bpffs)?;
    privileges::give_up()?;
    Ok(runtime()?.block_on(engine::run(settings, &*progress))?)
}

/// Removes what a killed run left.
pub(super) fn cleanup(args: &CleanupArgs) -> Result<()> {
    super::set_up_log(0);
    let numbers = config::routing(
        &ConfigFile::find(args.config.as_deref())?,
        &args.routing.overrides(),
    )?;
    requirements::check_privileges()?;
    let (bpffs, run_dir) = args.state.directories();
    let done = runtime()?.block_on(engine::cleanup(&bpffs, &run_dir, numbers))?;
    if done.is_empty() {
        return print(&["nothing was left to remove"]);
    }
    print(&done)
}
