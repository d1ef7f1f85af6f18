//! Asking the run that goes on, or its maps where it was killed.

use crate::config::{ConfigFile, Overrides, Settings};
use crate::control::{Client, client};
use crate::datapath::View;
use crate::inspect::{self, Snapshot};
use anyhow::Result;
use clap::Args;
use serde::{Serialize, de::DeserializeOwned};
use std::path::PathBuf;

/// Which run is asked.
#[derive(Clone, Debug, Default, Args)]
pub struct RunChoice {
    /// Configuration file of a run that was killed [default: /etc/steer/steer.toml, if it exists]
    #[arg(long, value_name = "FILE", help_heading = "Which run")]
    pub config: Option<PathBuf>,

    /// Where it has its maps and programs pinned [default: /sys/fs/bpf/steer]
    #[arg(long, value_name = "DIR", help_heading = "Which run")]
    pub bpffs: Option<PathBuf>,

    /// Where it has its lock and its control socket [default: /run/steer]
    #[arg(long, value_name = "DIR", help_heading = "Which run")]
    pub run_dir: Option<PathBuf>,
}

impl RunChoice {
    /// Its control socket, if it goes on.
    pub(super) async fn client(&self) -> Result<Option<Client>> {
        Ok(Client::connect(&self.folder()).await?)
    }

    /// Its control socket, or that it does not go on.
    pub(super) async fn running(&self) -> Result<Client> {
        self.client().await?.ok_or_else(|| {
            let socket = crate::control::socket(&self.folder());
            anyhow::anyhow!(
                "no steer runs here ({} does not answer); start it with steer run, or say where it is with --run-dir DIR",
                socket.display()
            )
        })
    }

    /// Asks the run, or works the answer out from what it left.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
        from_maps: impl AsyncFnOnce(Snapshot, View) -> Result<T, inspect::Error>,
    ) -> Result<T> {
        if let Some(mut client) = self.client().await? {
            match client.get(path, query).await {
                Ok(answer) => return Ok(answer),
                // It ended just now: its maps say the rest.
                Err(client::Error::Gone(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (snapshot, view) = self.left().await?;
        Ok(from_maps(snapshot, view).await?)
    }

    /// What a killed run left.
    pub(super) async fn left(&self) -> Result<(Snapshot, View)> {
        let overrides = Overrides {
            bpffs: self.bpffs.clone(),
            run_dir: self.run_dir.clone(),
            ..Overrides::default()
        };
        // Where nothing is left, it does not matter what the configuration says.
        let bpffs = self.bpffs.as_deref();
        inspect::is_left(bpffs.unwrap_or(Settings::default_bpffs()))?;
        let file = ConfigFile::find(self.config.as_deref())?;
        let settings = Settings::resolve(file, overrides)?;
        Ok(inspect::left(settings).await?)
    }

    fn folder(&self) -> PathBuf {
        let folder = self.run_dir.clone();
        folder.unwrap_or_else(|| Settings::default_run_dir().to_owned())
    }
}
