//! What comes from the box by the provider's wire, as tcpdump tells it.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{Lab, Ns};
use crate::pace::patience;

/// A tcpdump that runs until this is dropped.
pub struct Capture {
    child: Child,
    text: PathBuf,
}

impl Lab {
    /// Begins to capture what comes from the box by the provider's wire and passes tcpdump's `filter`.
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        let text = self.dir().join("capture");
        let child = self
            .command(Ns::Isp, "tcpdump")?
            .args(["-i", "box", "-n", "-tt", "-l", "-Q", "in", filter])
            .stdin(Stdio::null())
            .stdout(File::create(&text)?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start tcpdump: is it installed?")?;
        thread::sleep(patience(Duration::from_millis(500)));
        Ok(Capture { child, text })
    }
}

impl Capture {
    /// What was seen, a packet a line.
    pub fn seen(&self) -> Result<String> {
        thread::sleep(patience(Duration::from_millis(300)));
        Ok(fs::read_to_string(&self.text)?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
