//! Writes the seeds that a program makes to `fuzz/corpus`.

use std::{fs, io, path::Path};

use steer_properties::seeds;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, name, octets) in seeds::made() {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), octets)?;
    }
    Ok(())
}
