//! Changes of the configuration file.

use super::ask::RunChoice;
use super::output::print;
use super::{reload, runtime};
use crate::config::edit::EditError;
use crate::config::{ConfigFile, DEFAULT_FILE, Overrides, Settings};
use crate::control::query::Nothing;
use crate::inspect::status::Status;
use crate::report::Reloaded;
use anyhow::{Context, Result};
use axum::http::Method;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Changes the file of the run that goes on, or else the one that is named or usual, if it is right afterwards; the run
/// takes it over.
pub(super) fn save(
    run: &RunChoice,
    json: bool,
    edit: impl Fn(&str) -> Result<Option<String>, EditError>,
) -> Result<()> {
    runtime()?.block_on(async {
        let mut client = run.client().await?;
        let mut path = run.config.clone();
        if let (None, Some(client)) = (&path, &mut client) {
            let status: Status = client.get("/v1/status", &Nothing {}).await?;
            path = status.config.map(PathBuf::from);
        }
        let path = path.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        let edited = edit(&text).with_context(|| path.display().to_string())?;
        let mut told = Vec::new();
        match edited {
            None => told.push(format!("{} says so already", path.display())),
            Some(edited) => {
                let right = ConfigFile::parse(&path, &edited)
                    .and_then(|file| Settings::resolve(file, Overrides::default()));
                right.context("that would not be right, so nothing is written")?;
                write(&path, &edited).with_context(|| {
                    format!("{} cannot be written; are you root?", path.display())
                })?;
                told.push(format!("{} is written", path.display()));
            }
        }
        let Some(mut client) = client else {
            told.push("no steer runs here to take it over".to_owned());
            return print(&told);
        };
        let reloaded: Reloaded = client.act(Method::POST, "/v1/reload", &()).await?;
        if json {
            return print(&[serde_json::to_string_pretty(&reloaded)?]);
        }
        told.push(reload::line(&reloaded));
        print(&told)
    })
}

/// Puts the file in place as a whole, with the mode that it had; a link stays one.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    let written = (|| {
        let mut file = fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        if let Ok(before) = fs::metadata(path) {
            fs::set_permissions(&new, before.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // What was there is as it was.
        let _ = fs::remove_file(&new);
    }
    written
}
