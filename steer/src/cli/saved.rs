//! Changes of the configuration file.

use super::ask::RunChoice;
use super::output::print;
use super::{reload, runtime};
use crate::config::edit::EditError;
use crate::config::{ConfigFile, DEFAULT_FILE, Overrides, Settings};
use crate::control::client;
use crate::control::query::Nothing;
use crate::doctor::{Owner, put};
use crate::inspect::rules::Change;
use crate::inspect::status::Status;
use crate::report::Reloaded;
use anyhow::{Context, Result, bail};
use axum::http::Method;
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Changes the file of the run that goes on, or else the one that is named or usual, if it is right afterwards; the run
/// takes it over, and lets go of what was added about `rule` while it ran.
pub(super) fn save(
    run: &RunChoice,
    json: bool,
    rule: &str,
    edit: impl Fn(&str) -> Result<Option<String>, EditError>,
) -> Result<()> {
    runtime()?.block_on(async {
        let mut path = run.config.clone();
        if let (None, Some(mut client)) = (&path, run.client().await?) {
            let status: Status = client.get("/v1/status", &Nothing {}).await?;
            path = status.config.map(PathBuf::from);
        }
        let path = path.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        let edited = edit(&text).with_context(|| path.display().to_string())?;
        let Some(edited) = edited else {
            bail!("{} has it so already, and is left as it is", path.display());
        };
        let right = ConfigFile::parse(&path, &edited)
            .and_then(|file| Settings::resolve(file, Overrides::default()));
        right.context("that would not be right, so nothing is written")?;
        write(&path, &edited)?;
        let mut told = vec![format!("{} is written", path.display())];

        // Anew, for a run does not wait while lists are read here.
        let mut reloaded = None;
        if let Some(mut client) = run.client().await? {
            let done: Reloaded = client.act(Method::POST, "/v1/reload", &()).await?;
            told.push(reload::line(&done));
            reloaded = Some(done);
            let added = Change {
                rule: rule.to_owned(),
                verdict: None,
                vpn: None,
                seconds: None,
            };
            let gone: Result<Reloaded, _> = client.act(Method::DELETE, "/v1/rules", &added).await;
            match gone {
                Ok(_) => told.push(format!(
                    "{rule} as it was added while steer runs is let go of"
                )),
                // It was not added so.
                Err(client::Error::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            told.push("no steer runs here to take it over".to_owned());
        }
        if json {
            let told = json!({ "file": path, "reloaded": reloaded });
            return print(&[format!("{told:#}")]);
        }
        print(&told)
    })
}

/// Puts the file in place as a whole, with the owner and mode that it had; a link stays one.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let path = &fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
    let failed = || format!("{} cannot be written; are you root?", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    let owner = Owner::of(path).unwrap_or_else(Owner::own);
    Ok(put(path, text.as_bytes(), owner)?)
}
