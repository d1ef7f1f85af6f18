//! Which kernels the package indexes have, and which of them is meant.

use std::{
    collections::HashMap,
    io::{self, BufRead},
};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::{Wanted, version::Version};

/// What an error offers instead.
pub const OWN: &str = "give a kernel of your own with --vmlinuz FILE --modules DIR";

/// A package that an index has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The suite whose index has it.
    pub suite: String,
    /// The SHA-256 of its file in hex, from the signed index.
    pub sha256: String,
    /// Bytes to download.
    pub size: u64,
    #[serde(skip)]
    depends: String,
}

/// A kernel as packages have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// As `uname -r` says it.
    pub release: String,
    /// The version of its packages.
    pub version: Version,
    /// All that has to be unpacked.
    pub packages: Vec<Package>,
    /// The packages that it needs and no index has.
    pub missing: Vec<String>,
}

/// The packages of cloud kernels for `architecture` in the index of `suite`.
///
/// # Errors
/// When it cannot be read.
pub fn read_index(
    mut index: impl BufRead,
    suite: &str,
    architecture: &str,
) -> io::Result<Vec<Package>> {
    let flavour = format!("-cloud-{architecture}");
    let mut packages = Vec::new();
    let mut current: Option<Package> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        let ended = index.read_until(b'\n', &mut line)? == 0;
        let text = str::from_utf8(&line).unwrap_or_default().trim_end();
        if text.is_empty() {
            packages.extend(current.take());
        }
        if ended {
            return Ok(packages);
        }
        if let Some(name) = text.strip_prefix("Package: ") {
            current = (part(name).is_some() && name.ends_with(&flavour)).then(|| Package {
                name: name.to_owned(),
                version: Version::from(""),
                suite: suite.to_owned(),
                sha256: String::new(),
                size: 0,
                depends: String::new(),
            });
        }
        let (Some(package), Some((key, value))) = (&mut current, text.split_once(": ")) else {
            continue;
        };
        match key {
            "Version" => package.version = Version::from(value),
            "SHA256" => package.sha256 = value.to_owned(),
            "Size" => package.size = value.parse().unwrap_or(0),
            "Depends" => package.depends = value.to_owned(),
            _ => {}
        }
    }
}

/// What part of which kernel a package of this name is: `linux-modules-7.2.12+deb13-cloud-amd64` is `modules` of the rest.
fn part(name: &str) -> Option<(&str, &str)> {
    let (part, release) = name.strip_prefix("linux-")?.split_once('-')?;
    let known = matches!(part, "image" | "base" | "binary" | "modules");
    (known && release.starts_with(|c: char| c.is_ascii_digit())).then_some((part, release))
}

/// The kernels that `packages` make, oldest first.
///
/// Up to 6.18 a kernel is one package; since 6.19 `linux-image-` is empty and needs the others.
pub fn candidates(packages: &[Package]) -> Vec<Candidate> {
    let index: HashMap<_, _> = packages
        .iter()
        .rev()
        .map(|package| ((&*package.name, package.version.as_str()), package))
        .collect();
    let mut found: Vec<Candidate> = Vec::new();
    for image in index.values() {
        let Some(("image", release)) = part(&image.name) else {
            continue;
        };
        let needs: Vec<_> = image
            .depends
            .split([',', '|'])
            .filter_map(|need| need.split_whitespace().next())
            .filter_map(|name| Some((name, part(name)?)))
            .collect();
        // `linux-image-6.12-cloud-amd64` of the backports only points to the newest.
        if needs.iter().any(|(_, (part, _))| *part == "image") {
            continue;
        }
        // An image of 6.17 or 6.18 is whole, and only asks for its linux-base- as well, which may be gone.
        let is_empty = needs.iter().any(|(_, (part, _))| *part != "base");
        let mut candidate = Candidate {
            release: release.to_owned(),
            version: image.version.clone(),
            packages: vec![(*image).clone()],
            missing: Vec::new(),
        };
        for (name, _) in needs.iter().filter(|_| is_empty) {
            match index.get(&(*name, image.version.as_str())) {
                Some(package) => candidate.packages.push((*package).clone()),
                None => candidate.missing.push((*name).to_owned()),
            }
        }
        found.push(candidate);
    }
    found.sort_by(|a, b| (&a.version, &a.release).cmp(&(&b.version, &b.release)));
    found
}

/// A kernel that fits, and what has to be told about it.
#[derive(Debug)]
pub struct Choice<'a> {
    pub candidate: &'a Candidate,
    pub note: Option<String>,
}

/// The numbers of a series or a version: `6.1`, `6.12.117`.
///
/// # Errors
/// When it is neither.
pub fn parse(series: &str) -> Result<Vec<u32>> {
    let numbers: Option<Vec<u32>> = series
        .split('.')
        .map(|number| {
            let digits = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
            digits.then(|| number.parse().ok()).flatten()
        })
        .collect();
    match numbers {
        Some(numbers) if (2..=3).contains(&numbers.len()) => Ok(numbers),
        _ => bail!(
            "`{series}` is no kernel version: a series like 6.1, a patch level like 6.1.192 or the word newest is expected"
        ),
    }
}

/// Whether a kernel of this version is meant.
///
/// # Errors
/// When what is meant cannot be understood.
pub fn fits(wanted: &Wanted, version: &Version) -> Result<bool> {
    Ok(match wanted {
        Wanted::Series(series) => version.numbers().starts_with(&parse(series)?),
        Wanted::Newest => true,
        Wanted::Files { .. } => false,
    })
}

/// The newest of `candidates` (oldest first) that is meant and whole.
///
/// # Errors
/// When there is none: the message says what there is.
pub fn choose<'a>(candidates: &'a [Candidate], wanted: &Wanted) -> Result<Choice<'a>> {
    let mut lacking: Option<&Candidate> = None;
    for candidate in candidates.iter().rev() {
        if !fits(wanted, &candidate.version)? {
            continue;
        }
        if !candidate.missing.is_empty() {
            lacking = lacking.or(Some(candidate));
            continue;
        }
        let note = lacking.map(|lacking| {
            format!(
                "linux {} instead of {}, whose {} no package source has",
                candidate.version.kernel(),
                lacking.version.kernel(),
                lacking.missing.join(" and ")
            )
        });
        return Ok(Choice { candidate, note });
    }

    let there = match &*newest_of_each_series(candidates) {
        [] => String::new(),
        kernels => format!("; there are {}", kernels.join(", ")),
    };
    match lacking {
        Some(lacking) => bail!(
            "no package source of this machine has a whole kernel {wanted}: {} comes without {}{there}; or {OWN}",
            lacking.version.kernel(),
            lacking.missing.join(" and ")
        ),
        None => bail!("no package source of this machine has a kernel {wanted}{there}; or {OWN}"),
    }
}

/// What can be had, by its newest patch levels.
fn newest_of_each_series(candidates: &[Candidate]) -> Vec<String> {
    let whole: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.missing.is_empty())
        .collect();
    whole
        .chunk_by(|a, b| {
            let (a, b) = (a.version.numbers(), b.version.numbers());
            a.iter().take(2).eq(b.iter().take(2))
        })
        .filter_map(|series| Some(series.last()?.version.kernel()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
Package: linux-image-6.12.9+deb13-cloud-amd64\nVersion: 6.12.9-1\nDepends: kmod, initramfs-tools (>= 0.120) | linux-initramfs-tool\nSize: 34\nSHA256: aa\n
Package: linux-image-6.12.107+deb13-cloud-amd64\nVersion: 6.12.107-1\nDepends: kmod, linux-base-6.12.107+deb13-cloud-amd64 (= 6.12.107-1)\nDescription: x\n more: text\nSize: 35\nSHA256: bb\n
Package: linux-image-6.12.107+deb13-cloud-amd64-unsigned\nVersion: 6.12.107-1\n
Package: linux-image-6.12.107+deb13-cloud-amd64-dbg\nVersion: 6.12.107-1\n
Package: linux-image-6.12.108+deb13-rt-amd64\nVersion: 6.12.108-1\n
Package: linux-headers-6.12.109+deb13-cloud-amd64\nVersion: 6.12.109-1\n
Package: linux-image-cloud-amd64\nVersion: 6.12.110-1\n
Package: linux-image-6.12-cloud-amd64\nVersion: 6.12.110-1\nDepends: linux-image-6.12.107+deb13-cloud-amd64 (= 6.12.107-1)\n
Package: linux-image-6.1.0-56-cloud-amd64\nVersion: 6.1.192-2\n
Package: linux-image-6.1.0-9-cloud-amd64\nVersion: 6.1.27-1\n
Package: linux-image-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\nDepends: linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)\n
Package: linux-base-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\n
Package: linux-modules-7.3.4+deb13-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\n
Package: linux-image-7.3-cloud-amd64\nVersion: 7.3~rc7-1~exp1\n
Package: linux-image-7.4.1+deb13-cloud-amd64\nVersion: 7.4.1-1\nDepends: linux-modules-7.4.1+deb13-cloud-amd64 (= 7.4.1-1)\n
Package: linux-modules-7.4.1+deb13-cloud-amd64\nVersion: 7.4.1-2\nSize: 1";

    fn sample() -> Vec<Candidate> {
        candidates(&read_index(INDEX.as_bytes(), "trixie-backports", "amd64").unwrap())
    }

    fn chosen(series: &str) -> Result<String> {
        let candidates = sample();
        let choice = choose(&candidates, &Wanted::Series(series.to_owned()))?;
        Ok(choice.candidate.release.clone())
    }

    #[test]
    fn the_newest_patch_level_is_found_by_version_and_not_by_name() {
        assert_eq!(chosen("6.12").unwrap(), "6.12.107+deb13-cloud-amd64");
        assert_eq!(chosen("6.12.9").unwrap(), "6.12.9+deb13-cloud-amd64");
        assert_eq!(chosen("6.1").unwrap(), "6.1.0-56-cloud-amd64");
        assert_eq!(chosen("7.3").unwrap(), "7.3.4+deb13-cloud-amd64");
    }

    #[test]
    fn a_kernel_of_several_packages_has_them_all() {
        let candidates = sample();
        let choice = choose(&candidates, &Wanted::Series("7.3".into())).unwrap();
        assert_eq!(choice.candidate.packages.len(), 3);
        let single = choose(&candidates, &Wanted::Series("6.12.107".into())).unwrap();
        let [package] = &*single.candidate.packages else {
            panic!("{single:?}")
        };
        assert_eq!(
            (package.size, &*package.sha256, &*package.suite),
            (35, "bb", "trixie-backports")
        );
    }

    #[test]
    fn the_newest_is_the_newest_that_is_whole() {
        let candidates = sample();
        let choice = choose(&candidates, &Wanted::Newest).unwrap();
        assert_eq!(choice.candidate.version.kernel(), "7.3.4");
        assert_eq!(
            choice.note.unwrap(),
            "linux 7.3.4 instead of 7.4.1, whose linux-modules-7.4.1+deb13-cloud-amd64 no package source has"
        );
    }

    #[test]
    fn what_cannot_be_had_is_told_with_what_can() {
        let error = chosen("6.6").unwrap_err().to_string();
        assert_eq!(
            error,
            "no package source of this machine has a kernel 6.6; there are 6.1.192, 6.12.107, 7.3.4; \
             or give a kernel of your own with --vmlinuz FILE --modules DIR"
        );
        let error = chosen("7.4").unwrap_err().to_string();
        assert!(
            error.contains("7.4.1 comes without linux-modules-7.4.1+deb13"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for series in [
            "six",
            "6",
            "6.",
            "6.1.2.3",
            "v6.1",
            "6.+1",
            "",
            "6.1-rc1",
            "99999999999.1",
        ] {
            let error = chosen(series).unwrap_err().to_string();
            assert!(error.contains("is no kernel version"), "{error}");
        }
    }
}
