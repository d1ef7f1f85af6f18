//! What was measured, where and with what: as records, as text, as pictures, and beside an older report.

mod compare;
pub mod machine;
pub mod markdown;
pub mod model;
mod plot;
pub mod statistics;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use model::Report;

/// Writes a report to a folder, and what is different from an older one. Returns the texts' files.
///
/// # Errors
/// When a file cannot be written.
pub fn write(report: &Report, older: Option<&Report>, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    save(
        folder,
        "report.json",
        &serde_json::to_string_pretty(report)?,
    )?;
    let pictures = plot::draw(report)?;
    for picture in &pictures {
        save(folder, &picture.file, &picture.svg)?;
    }
    let text = markdown::render(report, &pictures);
    let mut texts = vec![save(folder, "report.md", &text)?];
    if let Some(older) = older {
        let changes = compare::render(older, report);
        texts.push(save(folder, "changes.md", &changes)?);
    }
    Ok(texts)
}

/// Reads a report that was written as JSON.
///
/// # Errors
/// When there is none, or it is of another kind.
pub fn read(file: &Path) -> Result<Report> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no report of this benchmark", file.display()))
}

/// Writes a file, which belongs to whom the folder belongs to, though root wrote it.
fn save(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let owner = fs::metadata(folder)?;
    chown(&file, Some(owner.uid()), Some(owner.gid()))
        .with_context(|| format!("cannot give {} to the owner of its folder", file.display()))?;
    Ok(file)
}
