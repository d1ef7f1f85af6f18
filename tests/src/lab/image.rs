//! An image that busybox-static makes, put into the lab's registry as `docker push` would.

use std::{
    fs,
    io::Read,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{Lab, Ns, exec::Ran};

/// The name and tag of the image that every lab with a hub offers.
pub const IMAGE: &str = "library/hello:1";
/// Size of the part of [`IMAGE`] that does not compress, if a lab is not told another.
pub const FILLING: u64 = 8 << 20;

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 5] = ["sh", "ip", "cat", "sleep", "nc"];

/// The layer with everything a container needs; [`IMAGE`] has another one to fill it.
pub(super) const TOOLS: &str = "image/tools.tar.gz";

/// Makes [`IMAGE`] with a part of `size` octets that does not compress, and uploads it.
pub(super) fn publish(lab: &Lab, size: u64) -> Result<()> {
    let work = lab.dir.join("image");
    let tools = work.join("tools");
    for dir in ["bin", "etc", "tmp"] {
        fs::create_dir_all(tools.join(dir))?;
    }
    fs::copy(BUSYBOX, tools.join("bin/busybox"))
        .with_context(|| format!("cannot copy {BUSYBOX}: install busybox-static"))?;
    for applet in APPLETS {
        symlink("busybox", tools.join("bin").join(applet))?;
    }
    fs::copy(lab.dir.join("ca.pem"), tools.join("etc/ca.pem"))?;
    copy_with_libraries("curl", &tools)?;
    let filling = work.join("filling");
    fs::create_dir_all(&filling)?;
    let mut random = fs::File::open("/dev/urandom")?.take(size);
    std::io::copy(&mut random, &mut fs::File::create(filling.join("filling"))?)?;

    let (name, tag) = IMAGE.split_once(':').context("an image has a tag")?;
    let layers = [Layer::pack(&tools)?, Layer::pack(&filling)?];
    let config = work.join("config.json");
    fs::write(
        &config,
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin", "CURL_CA_BUNDLE=/etc/ca.pem"] },
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|l| &l.diff_id).collect::<Vec<_>>() },
            "history": [{ "created_by": "steer lab" }, { "created_by": "steer lab" }],
        })
        .to_string(),
    )?;
    let registry = Registry { lab, name };
    for blob in layers.iter().map(|layer| &layer.packed).chain([&config]) {
        registry.upload(blob)?;
    }
    const DOCKER: &str = "application/vnd.docker";
    let blob = |media: &str, file: &Path| -> Result<_> {
        Ok(json!({
            "mediaType": format!("{DOCKER}.{media}"),
            "size": fs::metadata(file)?.len(),
            "digest": digest(file)?,
        }))
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": format!("{DOCKER}.distribution.manifest.v2+json"),
        "config": blob("container.image.v1+json", &config)?,
        "layers": layers
            .iter()
            .map(|layer| blob("image.rootfs.diff.tar.gzip", &layer.packed))
            .collect::<Result<Vec<_>>>()?,
    });
    let file = work.join("manifest.json");
    fs::write(&file, manifest.to_string())?;
    registry.put(
        &format!("http://127.0.0.1:5000/v2/{name}/manifests/{tag}"),
        &file,
        &format!("{DOCKER}.distribution.manifest.v2+json"),
    )
}

struct Layer {
    packed: PathBuf,
    diff_id: String,
}

impl Layer {
    fn pack(tree: &Path) -> Result<Self> {
        let tar = tree.with_extension("tar");
        let args = ["--owner=0", "--group=0", "-C"];
        Ran::of(
            Command::new("tar")
                .args(args)
                .arg(tree)
                .arg("-cf")
                .arg(&tar)
                .arg("."),
        )?
        .stdout()?;
        let diff_id = digest(&tar)?;
        Ran::of(Command::new("gzip").arg("-1f").arg(&tar))?.stdout()?;
        Ok(Self {
            packed: tree.with_extension("tar.gz"),
            diff_id,
        })
    }
}

struct Registry<'a> {
    lab: &'a Lab,
    name: &'a str,
}

impl Registry<'_> {
    fn upload(&self, blob: &Path) -> Result<()> {
        let begin = format!("http://127.0.0.1:5000/v2/{}/blobs/uploads/", self.name);
        let args = [
            "-sSf",
            "-X",
            "POST",
            "-o",
            "/dev/null",
            "-w",
            "%header{location}",
            &begin,
        ];
        let location = Ran::of(self.lab.command(Ns::Internet, "curl")?.args(args))?.stdout()?;
        let url = format!("{location}&digest={}", digest(blob)?);
        self.put(&url, blob, "application/octet-stream")
    }

    fn put(&self, url: &str, file: &Path, media: &str) -> Result<()> {
        let mut curl = self.lab.command(Ns::Internet, "curl")?;
        curl.args([
            "-sSf",
            "-o",
            "/dev/null",
            "-H",
            &format!("Content-Type: {media}"),
        ]);
        curl.arg("-T").arg(file).arg(url);
        Ran::of(&mut curl)?
            .stdout()
            .context("the lab's registry refused an image")
            .map(drop)
    }
}

/// Copies a program of this machine into `root`, with what it loads. busybox's static wget
/// cannot look up names without the C library that it was linked with.
fn copy_with_libraries(program: &str, root: &Path) -> Result<()> {
    let line = format!(
        "program=$(command -v {program}) || {{ echo '{program} is not installed' >&2; exit 1; }}
         cp -L --parents \"$program\" \"$0\"
         ldd \"$program\" | grep -o '/[^ ]*' | while read -r file; do cp -L --parents \"$file\" \"$0\"; done"
    );
    Ran::of(Command::new("sh").arg("-ec").arg(line).arg(root))?
        .stdout()
        .map(drop)
}

fn digest(file: &Path) -> Result<String> {
    let said = Ran::of(Command::new("sha256sum").arg(file))?.stdout()?;
    let hash = said.split(' ').next().context("sha256sum prints no sum")?;
    Ok(format!("sha256:{hash}"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
