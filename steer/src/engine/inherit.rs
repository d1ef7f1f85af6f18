//! What a killed run left in the tables, under the rules of this one.

use steer_common::types::Config;

use super::{Engine, Error};

impl Engine {
    /// Drops what the rules of now do not grant, and says what is gone on with. `before` is the configuration of the run
    /// that was killed.
    pub(super) fn inherit(&mut self, before: &Config) -> Result<Vec<String>, Error> {
        let mut notes = Vec::new();
        // Under another key no rule can be told by its hash any more; the grants then run out by themselves.
        if before.key == self.rulebook.key() {
            self.decide_anew()?;
            notes.push(self.datapath.take_stock()?.to_string());
        }
        let marks = |config: &Config| (config.vpns.map(|vpn| vpn.mark), config.mask);
        if marks(before) != marks(&self.config) {
            notes.push(
                "the mark is not the killed run's: connections that processes began then lose the VPN"
                    .to_owned(),
            );
        }
        Ok(notes)
    }
}
