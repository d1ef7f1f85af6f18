//! Much over one direct connection.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::times::Times;
use crate::{
    fixture::{Fixture, exchange, open, server},
    lab::{Client, plan::Path},
};

/// Much over one direct connection, again and again: how long it takes.
pub struct Bulk {
    pub who: &'static str,
    client: Client,
    connection: usize,
    pub times: Times,
}

impl Bulk {
    const BYTES: usize = 1_000_000;

    pub fn begin(lab: &Fixture, number: u16) -> Result<Vec<Self>> {
        let begin = |(who, mut client)| {
            let (connection, path) = open(&mut client, server(number, false))?;
            ensure!(path == Path::Direct, "{who}, before steer: {path:?}");
            Ok(Self {
                who,
                client,
                connection,
                times: Times::default(),
            })
        };
        lab.clients()?.into_iter().map(begin).collect()
    }

    /// Sends and reads as long as that holds, and leaves the processors to others in between.
    pub fn go_on(&mut self, holds: impl Fn() -> bool) -> Result<()> {
        while holds() {
            let exchange = || exchange(&mut self.client, self.connection, Self::BYTES);
            self.times.of(exchange).context(self.who)?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}
