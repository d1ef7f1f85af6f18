//! `steer check`.

use super::CheckArgs;
use super::output::print;
use crate::config::{ConfigFile, DEFAULT_FILE, Overrides, Settings};
use crate::progress::Bar;
use crate::report;
use anyhow::Result;
use std::path::Path;

/// Says what a configuration comes to.
pub(super) fn check(args: &CheckArgs) -> Result<()> {
    let path = args.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let file = ConfigFile::read(path)?;
    let settings = Settings::resolve_telling(file, Overrides::default(), &Bar::new())?;
    if args.json {
        return print(&[format!("{:#}", settings.to_json())]);
    }
    print(&report::configured(&settings))
}
