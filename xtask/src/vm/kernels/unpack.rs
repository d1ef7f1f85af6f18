//! A kernel's packages unpacked into one layout, whatever their age.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{cache::remove, image, series::Candidate};
use crate::system;

/// Where the image of a kernel lies in its folder.
pub fn image_path(release: &str) -> String {
    format!("boot/vmlinuz-{release}")
}

/// Unpacks the packages of `candidate` into the folder `work`, checked against the sums of the index.
///
/// # Errors
/// When a package is not what the index says, or holds no kernel.
pub fn fill(work: &Path, candidate: &Candidate, packages: &[PathBuf]) -> Result<()> {
    fs::create_dir_all(work).with_context(|| format!("{} cannot be made", work.display()))?;
    for (package, file) in candidate.packages.iter().zip(packages) {
        let sum = output(Command::new("sha256sum").arg(file))?;
        ensure!(
            sum.split_whitespace().next() == Some(&*package.sha256),
            "{} is not the file that the signed index names: its sum should be {}",
            file.display(),
            package.sha256
        );
        output(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(file)
                .arg(work),
        )?;
    }
    arrange(work, &candidate.release)
}

/// Writes what modprobe reads: `modules.dep` and its kin for the modules of `release` under `root`.
///
/// # Errors
/// When depmod is missing or fails.
pub fn depmod(root: &Path, release: &str) -> Result<()> {
    let Some(depmod) = system::find("depmod") else {
        bail!(
            "depmod is missing, without which a kernel finds no modules: install the package kmod"
        );
    };
    output(Command::new(depmod).arg("-b").arg(root).arg(release))?;
    Ok(())
}

/// What `command` prints; when it fails, the error has the first line of what it says.
///
/// # Errors
/// When it cannot be started or fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("`{}` cannot be started", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let said = text
            .lines()
            .chain(complaint.lines())
            .next()
            .unwrap_or("nothing");
        bail!("{} says: {said}", command.get_program().display());
    }
    Ok(text)
}

/// Brings what the packages had into the layout that virtme-ng looks for.
fn arrange(root: &Path, release: &str) -> Result<()> {
    // Up to bookworm the packages have /lib, later ones /usr/lib. kmod looks in either, by how it was built.
    if root.join("lib").is_dir() {
        fs::create_dir_all(root.join("usr"))?;
        ensure!(
            !root.join("usr/lib").exists(),
            "the packages of {release} have both /lib and /usr/lib"
        );
        fs::rename(root.join("lib"), root.join("usr/lib"))?;
    }
    symlink("usr/lib", root.join("lib"))?;
    remove(&root.join("usr/share"))?;

    let modules = root.join("lib/modules").join(release);
    ensure!(
        modules.is_dir(),
        "the packages of {release} have no modules: {} is missing",
        modules.display()
    );
    let boot = root.join(image_path(release));
    // Since 6.19 the image lies with the modules.
    let beside = modules.join("vmlinuz");
    if !boot.exists() && beside.exists() {
        fs::create_dir_all(root.join("boot"))?;
        fs::rename(beside, &boot)?;
    }
    ensure!(
        boot.is_file(),
        "the packages of {release} have no image: {} is missing",
        boot.display()
    );
    if let Some(said) = image::read(&boot)? {
        ensure!(
            said.release == release,
            "the image of {release} says that it is {}",
            said.release
        );
    }
    depmod(root, release)
}
