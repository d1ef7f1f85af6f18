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
    cache::{Cache, hex, remove},
    image::{self, Said},
    unpack::{depmod, image_path},
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
    let (said, modules) = match image::read(&vmlinuz)? {
        Some(said) => {
            let modules = modules_of(&modules, &said.release)?;
            (said, modules)
        }
        None => named_by(&vmlinuz, &modules)?,
    };
    let Said { release, version } = said;

    let key = hex(&Sha256::digest(identity(&vmlinuz, &modules)?));
    let name = format!("own/{}", &key[..16]);
    let image = cache.path(&name).join(image_path(&release));
    if !image.exists() {
        fs::create_dir_all(cache.path("own"))?;
        let work = cache.work("new");
        remove(&work)?;
        link(&work, &release, &vmlinuz, &modules)?;
        cache.place(&work, &name)?;
    }
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
fn named_by(vmlinuz: &Path, folder: &Path) -> Result<(Said, PathBuf)> {
    let release = folder.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        holds_modules(folder) && image::is_release(&release),
        "{} does not tell its version, nor does the name of {}: give the folder of its modules, /lib/modules/RELEASE",
        vmlinuz.display(),
        folder.display()
    );
    Ok((Said::named(&release), folder.to_owned()))
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
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        // What depmod reads. A link to what it writes would lead its writing into the user's folder.
        let is_input = [
            "modules.order",
            "modules.builtin",
            "modules.builtin.modinfo",
        ]
        .iter()
        .any(|input| name == *input);
        if is_input || path.is_dir() {
            symlink(&path, place.join(name))?;
        }
    }
    depmod(work, release)
        .with_context(|| format!("the modules in {} cannot be listed", modules.display()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{image::tests::bzimage, scratch::Scratch},
        *,
    };

    const RELEASE: &str = "6.9.3-mine";

    /// A kernel image of RELEASE, and a folder of modules at `way`.
    fn given(scratch: &Scratch, way: &str) -> (PathBuf, PathBuf) {
        let image = scratch.path().join("bzImage");
        fs::write(&image, bzimage(RELEASE)).unwrap();
        let modules = scratch.path().join(way);
        fs::create_dir_all(modules.join("kernel")).unwrap();
        fs::write(modules.join("modules.dep"), "").unwrap();
        (image, modules)
    }

    #[test]
    fn modules_are_found_from_their_folder_and_from_above() {
        let scratch = Scratch::new();
        let (_, modules) = given(&scratch, "root/lib/modules/6.9.3-mine");
        let root = scratch.path().join("root");
        for folder in [root.clone(), root.join("lib/modules"), modules.clone()] {
            assert_eq!(modules_of(&folder, RELEASE).unwrap(), modules);
        }
        let error = modules_of(&root, "6.9.4").unwrap_err().to_string();
        assert!(error.contains("holds no modules of 6.9.4"), "{error}");
    }

    #[test]
    fn modules_of_another_kernel_are_refused() {
        let scratch = Scratch::new();
        let (_, modules) = given(&scratch, "6.9.2");
        let error = modules_of(&modules, RELEASE).unwrap_err().to_string();
        assert!(
            error.contains("6.9.3-mine") && error.contains("are of 6.9.2"),
            "{error}"
        );
    }

    #[test]
    fn an_image_that_does_not_tell_takes_the_name_of_the_modules() {
        let scratch = Scratch::new();
        let (image, modules) = given(&scratch, "6.9.2");
        let (said, folder) = named_by(&image, &modules).unwrap();
        assert_eq!((said, &folder), (Said::named("6.9.2"), &modules));
        let (_, unnamed) = given(&scratch, "modules");
        assert!(named_by(&image, &unnamed).is_err());
    }

    #[test]
    fn a_change_of_the_files_makes_another_arrangement() {
        let scratch = Scratch::new();
        let (image, modules) = given(&scratch, RELEASE);
        let before = identity(&image, &modules).unwrap();
        assert_eq!(before, identity(&image, &modules).unwrap());
        fs::write(modules.join("modules.dep"), "kernel/tun.ko:").unwrap();
        assert_ne!(before, identity(&image, &modules).unwrap());
    }

    #[test]
    fn an_arrangement_leads_to_the_given_files() {
        let scratch = Scratch::new();
        let (image, modules) = given(&scratch, RELEASE);
        let work = scratch.path().join("work");
        link(&work, RELEASE, &image, &modules).unwrap();
        let found = fs::canonicalize(work.join("lib/modules").join(RELEASE)).unwrap();
        assert_eq!(found, fs::canonicalize(&modules).unwrap());
        let found = fs::canonicalize(work.join(image_path(RELEASE))).unwrap();
        assert_eq!(found, fs::canonicalize(&image).unwrap());
    }
}
