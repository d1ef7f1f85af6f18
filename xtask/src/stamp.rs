//! Ties the eBPF object to the sources it was made from.
//!
//! Shared by `cargo xtask build-ebpf`, which writes the stamp, and by `steer/build.rs`, which refuses an object whose
//! stamp does not fit.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// The object within the workspace.
pub const OBJECT: &str = "target/bpf/steer-ebpf.o";
/// The stamp within the workspace.
pub const STAMP: &str = "target/bpf/steer-ebpf.o.stamp";

/// What the object is made from: files, and folders taken whole.
pub const INPUTS: [&str; 6] = [
    "Cargo.lock",
    "Cargo.toml",
    "steer-common/Cargo.toml",
    "steer-common/src",
    "steer-ebpf",
    "xtask/src/build_ebpf.rs",
];

/// Two SHA-256 sums in hex: of the sources, and of the object made from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    sources: String,
    object: String,
}

impl Stamp {
    /// The stamp of `object`, as made from sources whose sum was `sources` before the build began.
    pub fn new(sources: String, object: &[u8]) -> Self {
        Self {
            sources,
            object: hex(&Sha256::digest(object)),
        }
    }

    /// The text of the stamp file.
    pub fn render(&self) -> String {
        format!("sources {}\nobject {}\n", self.sources, self.object)
    }

    /// Reads the text of a stamp file; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let sources = lines.next()?.strip_prefix("sources ")?.to_owned();
        let object = lines.next()?.strip_prefix("object ")?.to_owned();
        lines.next().is_none().then_some(Self { sources, object })
    }
}

/// Whether the workspace at `root` has an object made from its present sources; if not, a sentence saying why.
pub fn check(root: &Path) -> Result<(), String> {
    let object =
        fs::read(root.join(OBJECT)).map_err(|e| format!("{OBJECT} cannot be read: {e}"))?;
    let text =
        fs::read_to_string(root.join(STAMP)).map_err(|e| format!("{STAMP} cannot be read: {e}"))?;
    let stamp = Stamp::parse(&text).ok_or_else(|| format!("{STAMP} is not a stamp"))?;
    let sources = sources(root).map_err(|e| format!("the eBPF sources cannot be read: {e}"))?;
    let now = Stamp::new(sources, &object);
    if stamp.object != now.object {
        return Err(format!(
            "{OBJECT} is not the file that {STAMP} was written for"
        ));
    }
    if stamp.sources != now.sources {
        return Err(format!(
            "{OBJECT} was made from other sources than the present ones"
        ));
    }
    Ok(())
}

/// The sum of every input's path and content.
pub fn sources(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        collect(&root.join(input), &mut files)?;
    }
    files.sort();

    let mut sum = Sha256::new();
    for file in files {
        let content = fs::read(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy();
        sum.update((name.len() as u64).to_le_bytes());
        sum.update(name.as_bytes());
        sum.update((content.len() as u64).to_le_bytes());
        sum.update(&content);
    }
    Ok(hex(&sum.finalize()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() != "target" {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
