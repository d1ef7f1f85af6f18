//! What a kernel's image says of itself.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use anyhow::{Context as _, Result};

use super::version::Version;

/// What a kernel says it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// As `uname -r` will say it.
    pub release: String,
    /// As people say it.
    pub version: String,
}

impl Said {
    /// What the release alone tells.
    pub fn named(release: &str) -> Self {
        let end = release.find(['-', '+', '_']).unwrap_or(release.len());
        Self {
            release: release.to_owned(),
            version: release[..end].to_owned(),
        }
    }

    /// From `6.1.0-56-cloud-amd64 (builder@host) #1 SMP Debian 6.1.192-2 (date)`, where only Debian's has the last part.
    fn from_line(line: &str) -> Option<Self> {
        let release = line.split(' ').next().filter(|word| is_release(word))?;
        let mut said = Self::named(release);
        let package = line.split_once(" Debian ");
        if let Some(version) = package.and_then(|(_, rest)| rest.split(' ').next()) {
            said.version = Version::from(version).kernel();
        }
        Some(said)
    }
}

/// What the kernel in `image` says it is; `None` when the file is no bzImage.
///
/// # Errors
/// When the file cannot be read.
pub fn read(image: &Path) -> Result<Option<Said>> {
    let line = line(image);
    let line = line.with_context(|| format!("the kernel {} cannot be read", image.display()))?;
    Ok(line.and_then(|line| Said::from_line(&line)))
}

/// Whether `word` can be a release, and so the name of a folder.
pub fn is_release(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b".+-_~".contains(&c))
}

/// The line that a bzImage says of itself.
///
/// The setup header of Documentation/arch/x86/boot.rst: `setup_sects` at 0x1f1, "HdrS" at 0x202, and at 0x20e
/// `kernel_version`, where 0x200 bytes on from it the line begins.
fn line(image: &Path) -> Result<Option<String>> {
    let mut file = File::open(image)?;
    let mut header = [0; 0x210];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let pointer = u16::from_le_bytes([header[0x20e], header[0x20f]]);
    // Zero sectors mean four, by the same document.
    let sectors = match header[0x1f1] {
        0 => 4,
        sectors => u32::from(sectors),
    };
    let is_within = pointer != 0 && u32::from(pointer) < sectors * 0x200;
    if &header[0x202..0x206] != b"HdrS" || !is_within {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(u64::from(pointer) + 0x200))?;
    let mut line = Vec::new();
    file.take(256).read_to_end(&mut line)?;
    let end = line.iter().position(|c| *c == 0).unwrap_or(line.len());
    Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()))
}

#[cfg(test)]
pub mod tests {
    use std::fs;

    use super::{super::scratch::Scratch, *};

    /// As much of a bzImage as is read.
    pub fn bzimage(line: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x800];
        bytes[0x1f1] = 8;
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x400_u16.to_le_bytes());
        bytes[0x600..0x600 + line.len()].copy_from_slice(line.as_bytes());
        bytes
    }

    #[test]
    fn a_bzimage_tells_what_it_is() {
        let folder = Scratch::new();
        let path = folder.path().join("vmlinuz");
        let said = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let said = read(&path).unwrap();
            said.map(|said| (said.release, said.version))
        };
        let pair = |release: &str, version: &str| Some((release.to_owned(), version.to_owned()));
        let good = bzimage("6.1.0-56-cloud-amd64 (a@b) #1 SMP Debian 6.1.192-2 (2026-11-16)");
        assert_eq!(said(&good), pair("6.1.0-56-cloud-amd64", "6.1.192"));
        let own = bzimage("6.9.3-mine+ (me@here) #7 SMP");
        assert_eq!(said(&own), pair("6.9.3-mine+", "6.9.3"));

        assert_eq!(said(b"short"), None);
        assert_eq!(said(&[0; 0x800]), None);
        let mut beyond = good.clone();
        beyond[0x1f1] = 1;
        assert_eq!(said(&beyond), None);
        assert_eq!(said(&bzimage("../../etc")), None);
    }
}
