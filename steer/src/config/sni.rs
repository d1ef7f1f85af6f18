//! Which flows are read for the name in their first packets, and what becomes of one found on the wrong path.

use super::{ConfigError, ConfigFile, Overrides};
use crate::origin::{Origin, Sourced};

/// Most ports of a kind: the kernel programs compare with each of them.
const PORTS_MAX: usize = steer_common::types::PORTS;

/// Which flows are read for the name in their first packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sni {
    /// Ports of TLS over TCP, in rising order, each once; none: no ClientHello is read.
    pub ports: Vec<u16>,
    /// Ports of HTTP/1 over TCP, likewise; none: no Host is read.
    pub http_ports: Vec<u16>,
    /// What becomes of a flow that must take the VPN and began on the direct path.
    pub late: Late,
}

impl Default for Sni {
    fn default() -> Self {
        Self {
            ports: vec![443],
            http_ports: vec![80],
            late: Late::default(),
        }
    }
}

/// What becomes of a flow that must take the VPN and began on the direct path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Late {
    /// It ends at once, so that the client's next try takes the VPN.
    #[default]
    Reset,
    /// It goes on; later ones take the VPN.
    Learn,
}

impl Sni {
    pub(super) fn resolve(file: &ConfigFile, flags: &Overrides) -> Result<Self, ConfigError> {
        let default = Self::default();
        if flags.no_sni {
            return Ok(Self {
                ports: Vec::new(),
                http_ports: Vec::new(),
                ..default
            });
        }
        Ok(Self {
            ports: ports(
                &flags.sni_ports,
                "--sni-port",
                &file.sni_ports,
                default.ports,
            )?,
            http_ports: ports(
                &flags.http_ports,
                "--http-port",
                &file.http_ports,
                default.http_ports,
            )?,
            late: match (flags.late, &file.late) {
                (Some(late), _) => late,
                (None, Some(value)) => late(value)?,
                (None, None) => default.late,
            },
        })
    }
}

fn ports(
    flags: &[u16],
    name: &'static str,
    file: &Option<Vec<Sourced<u16>>>,
    default: Vec<u16>,
) -> Result<Vec<u16>, ConfigError> {
    let chosen: Vec<_> = match file {
        _ if !flags.is_empty() => flags
            .iter()
            .map(|&port| Sourced::new(port, Origin::Flag(name)))
            .collect(),
        Some(ports) => ports.clone(),
        None => return Ok(default),
    };
    let mut ports = Vec::new();
    for Sourced { value, origin } in chosen {
        if value == 0 {
            return Err(ConfigError::invalid(&origin, "a port is from 1 to 65535"));
        }
        if let Err(place) = ports.binary_search(&value) {
            ports.insert(place, value);
        }
        if ports.len() > PORTS_MAX {
            return Err(ConfigError::invalid(
                &origin,
                format!("these are more than {PORTS_MAX} ports, which is the most"),
            ));
        }
    }
    Ok(ports)
}

fn late(Sourced { value, origin }: &Sourced<String>) -> Result<Late, ConfigError> {
    match value.as_str() {
        "reset" => Ok(Late::Reset),
        "learn" => Ok(Late::Learn),
        _ => Err(ConfigError::invalid(
            origin,
            format!("sni.late must be \"reset\" or \"learn\"; this is \"{value}\""),
        )),
    }
}
