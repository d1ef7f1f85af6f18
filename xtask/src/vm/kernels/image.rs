//! What a kernel's image says of itself.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use anyhow::{Context as _, Result};

/// The release of the kernel in `image`, as `uname -r` will say it; `None` when the file is no bzImage.
///
/// The setup header of Documentation/arch/x86/boot.rst: `setup_sects` at 0x1f1, "HdrS" at 0x202, and at 0x20e
/// `kernel_version`, where 0x200 bytes on from it a line begins whose first word is the release.
///
/// # Errors
/// When the file cannot be read.
pub fn release(image: &Path) -> Result<Option<String>> {
    read(image).with_context(|| format!("the kernel {} cannot be read", image.display()))
}

fn read(image: &Path) -> Result<Option<String>> {
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
        sectors => u16::from(sectors),
    };
    if &header[0x202..0x206] != b"HdrS" || pointer == 0 || pointer >= sectors * 0x200 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(u64::from(pointer) + 0x200))?;
    let mut line = Vec::new();
    file.take(256).read_to_end(&mut line)?;
    let end = line
        .iter()
        .position(|c| matches!(c, 0 | b' '))
        .unwrap_or(line.len());
    Ok(str::from_utf8(&line[..end])
        .ok()
        .filter(|word| is_release(word))
        .map(str::to_owned))
}

/// Whether `word` can be a release, and so the name of a folder.
pub fn is_release(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b".+-_~".contains(&c))
}

#[cfg(test)]
pub mod tests {
    use std::fs;

    use super::{super::scratch::Scratch, *};

    /// As much of a bzImage as is read.
    pub fn bzimage(release: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x800];
        bytes[0x1f1] = 8;
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x400_u16.to_le_bytes());
        let line = format!("{release} (who@where) #1 SMP\0");
        bytes[0x600..0x600 + line.len()].copy_from_slice(line.as_bytes());
        bytes
    }

    #[test]
    fn a_bzimage_tells_its_release() {
        let folder = Scratch::new();
        let path = folder.path().join("vmlinuz");
        let said = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            release(&path).unwrap()
        };
        let good = bzimage("6.12.117+deb13-cloud-amd64");
        assert_eq!(said(&good).as_deref(), Some("6.12.117+deb13-cloud-amd64"));

        assert_eq!(said(b"short"), None);
        assert_eq!(said(&vec![0; 0x800]), None);
        let mut beyond = good.clone();
        beyond[0x1f1] = 1;
        assert_eq!(said(&beyond), None);
        assert_eq!(said(&bzimage("../../etc")), None);
    }
}
