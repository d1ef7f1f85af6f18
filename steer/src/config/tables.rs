//! How much the tables of the kernel programs have room for.

use super::{ConfigError, ConfigFile};
use crate::datapath::Tables;
use crate::origin::Sourced;

/// The least room: with less, a browser fills it.
const LEAST: u32 = 1_024;
/// The most: it is gone through every ten seconds.
const MOST: u32 = 1_048_576;

/// What the file says, or the usual room.
///
/// # Errors
/// When there is to be too little or too much of it.
pub(super) fn resolve(file: &ConfigFile) -> Result<Tables, ConfigError> {
    let usual = Tables::default();
    Ok(Tables {
        addresses: room("addresses", &file.addresses, usual.addresses)?,
        flows: room("flows", &file.flows, usual.flows)?,
    })
}

fn room(key: &str, chosen: &Option<Sourced<u32>>, usual: u32) -> Result<u32, ConfigError> {
    match chosen {
        None => Ok(usual),
        Some(Sourced { value, .. }) if (LEAST..=MOST).contains(value) => Ok(*value),
        Some(Sourced { value, origin }) => Err(ConfigError::invalid(
            origin,
            format!("tables.{key} must be from {LEAST} to {MOST}; this is {value}"),
        )),
    }
}
