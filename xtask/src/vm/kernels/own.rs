//! A kernel that the user has: an image and a folder of modules, arranged by links so that both are found together.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::{
    Kernel,
    cache::{Cache, depmod, hex, image_path, remove},
    image,
};

/// Arranges the kernel `vmlinuz` with the modules in or below `modules`, and writes to neither.
///
/// # Errors
/// When one of them is missing or they do not belong together.
pub fn arrange(cache: &Cache, vmlinuz: &Path, modules: &Path) -> Result<Kernel> {
    let vmlinuz = fs::canonicalize(vmlinuz)
        .with_context(|| format!("the kernel {} cannot be found", vmlinuz.display()))?;
    let given = modules;
    let modules = fs::canonicalize(modules)
        .ok()
        .filter(|path| path.is_dir())
        .with_context(|| format!("the folder of modules {} cannot be found", given.display()))?;
    let (release, modules) = match image::release(&vmlinuz)? {
        Some(release) => {
            let modules = modules_of(&modules, &release)?;
            (release, modules)
        }
        None => named_by(&vmlinuz, &modules)?,
    };

    let key = hex(&Sha256::digest(identity(&vmlinuz, &modules)?));
    let name = format!("own/{}", &key[..16]);
    let image = cache.path(&name).join(image_path(&release));
    if !image.exists() {
        fs::create_dir_all(cache.path("own"))?;
        let work = cache.path(".new");
        remove(&work)?;
        link(&work, &release, &vmlinuz, &modules)?;
        cache.place(&work, &name)?;
    }
    let version = release.split('-').next().unwrap_or(&release);
    let version = version.split('+').next().unwrap_or(version).to_owned();
    Ok(Kernel {
        release,
        version,
        image,
    })
}

/// The modules of `release` in `folder`, which is their own folder or one above.
fn modules_of(folder: &Path, release: &str) -> Result<PathBuf> {
    let below = ["", "lib/modules", "usr/lib/modules"].map(|way| folder.join(way).join(release));
    if let Some(found) = below.iter().find(|path| path.is_dir()) {
        return Ok(found.clone());
    }
    ensure!(
        holds_modules(folder),
        "{} holds no modules of {release}, which the kernel says it is: give the folder /lib/modules/{release} of that kernel",
        folder.display()
    );
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if image::is_release(&name) && name != release {
        bail!(
            "the kernel says that it is {release}, and the modules in {} are of {name}: they do not belong together",
            folder.display()
        );
    }
    Ok(folder.to_owned())
}

/// The release of a kernel that does not tell it, by the name of its modules' folder.
fn named_by(vmlinuz: &Path, folder: &Path) -> Result<(String, PathBuf)> {
    let release = folder.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        holds_modules(folder) && image::is_release(&release),
        "{} does not tell its version, nor does the name of {}: give the folder of its modules, /lib/modules/RELEASE",
        vmlinuz.display(),
        folder.display()
    );
    Ok((release.into_owned(), folder.to_owned()))
}

fn holds_modules(folder: &Path) -> bool {
    ["modules.dep", "modules.order", "modules.builtin", "kernel"]
        .iter()
        .any(|name| folder.join(name).exists())
}

/// Tells when the arrangement has to be made anew: for other files, or when one of them has changed.
fn identity(vmlinuz: &Path, modules: &Path) -> Result<String> {
    let mut text = String::new();
    let parts = ["", "kernel", "modules.order", "modules.dep"].map(|name| modules.join(name));
    for path in [vmlinuz]
        .into_iter()
        .chain(parts.iter().map(PathBuf::as_path))
    {
        let Ok(data) = path.metadata() else { continue };
        text.push_str(&format!(
            "{} {} {}.{}\n",
            path.display(),
            data.len(),
            data.mtime(),
            data.mtime_nsec()
        ));
    }
    Ok(text)
}

fn link(work: &Path, release: &str, vmlinuz: &Path, modules: &Path) -> Result<()> {
    let place = work.join("usr/lib/modules");
    fs::create_dir_all(&place)?;
    symlink("usr/lib", work.join("lib"))?;
    fs::create_dir_all(work.join("boot"))?;
    symlink(vmlinuz, work.join(image_path(release)))?;
    let place = place.join(release);
    if modules.join("modules.dep").exists() {
        symlink(modules, place)?;
        return Ok(());
    }
    fs::create_dir(&place)?;
    for entry in fs::read_dir(modules)? {
        let entry = entry?;
        symlink(entry.path(), place.join(entry.file_name()))?;
    }
    depmod(work, release)
        .with_context(|| format!("the modules in {} cannot be listed", modules.display()))
}
