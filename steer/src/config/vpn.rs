//! The VPNs that there are.

use super::file::FileVpn;
use super::resolve::{on_down, vpn_choice};
use super::{ConfigError, OnDown, Overrides, VpnChoice};
use crate::origin::{Origin, Sourced};
use crate::route::VpnId;
use crate::suggest;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use steer_common::types::VPNS;

/// The name of one that is alone and has been given none.
const ALONE: &str = "vpn";

/// A VPN, as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnSettings {
    /// Its name, by which rules and scopes mean it.
    pub name: String,
    /// Its interface.
    pub interface: Sourced<VpnChoice>,
    /// What happens to its flows while it is down.
    pub on_down: Sourced<OnDown>,
    /// Who is asked for ports (NAT-PMP); none: as its network tells.
    pub gateway: Option<Ipv4Addr>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vpns {
    /// At least one.
    pub(super) all: Vec<VpnSettings>,
    /// That of whatever does not say which.
    pub(super) default: VpnId,
}

impl VpnSettings {
    /// Whether it means what another does, wherever each is written.
    pub fn means(&self, other: &Self) -> bool {
        let means = |it: &Self| (it.on_down.value, it.gateway);
        (&self.name, &self.interface.value, means(self))
            == (&other.name, &other.interface.value, means(other))
    }
}

impl Vpns {
    /// Judges those of a file, each by itself and all together, with what the flags say.
    pub(super) fn resolve(file: &[FileVpn], flags: &Overrides) -> Result<Self, ConfigError> {
        if file.len() > VPNS {
            return Err(ConfigError::invalid(
                &file[VPNS].origin,
                format!("this is one VPN too many; there can be {VPNS}"),
            ));
        }
        let flag = flags.vpn.as_ref();
        let flag = flag.map(|value| Sourced::new(value.clone(), Origin::Flag("--vpn")));
        if let (Some(flag), [_, second, ..]) = (&flag, file) {
            return Err(ConfigError::invalid(
                &flag.origin,
                format!(
                    "it is not clear which VPN it replaces, for there is another at {}; leave the flag out, and write default = true at the one that is meant",
                    second.origin
                ),
            ));
        }
        let none = [FileVpn::default()];
        let file = if file.is_empty() { &none } else { file };
        let is_alone = file.len() == 1;
        let one = |file: &FileVpn| {
            let interface = flag.clone().or_else(|| file.interface.clone());
            let interface = match interface {
                None if !is_alone => Err(ConfigError::invalid(
                    &file.origin,
                    "this VPN lacks its interface, which steer finds by itself only where there is one VPN; write interface = \"wg0\"",
                )),
                None => Ok(Sourced::default_value(VpnChoice::Auto)),
                Some(value) => vpn_choice(value),
            }?;
            if !is_alone && interface.value == VpnChoice::Auto {
                return Err(ConfigError::invalid(
                    &interface.origin,
                    "\"auto\" is for one VPN alone; name the interface of each, such as \"wg0\"",
                ));
            }
            if !is_alone && file.name.is_none() {
                return Err(ConfigError::invalid(
                    &file.origin,
                    "this VPN lacks its name, by which rules and scopes mean it; write name = \"us\"",
                ));
            }
            Ok(VpnSettings {
                name: file
                    .name
                    .clone()
                    .map_or_else(|| Ok(ALONE.to_owned()), name)?,
                interface,
                on_down: match (flags.on_down, file.on_down.clone()) {
                    (Some(value), _) => Sourced::new(value, Origin::Flag("--on-down")),
                    (None, Some(value)) => on_down(value)?,
                    (None, None) => Sourced::default_value(OnDown::default()),
                },
                gateway: file.gateway.as_ref().map_or(Ok(None), gateway)?,
            })
        };
        let all: Vec<_> = file.iter().map(one).collect::<Result<_, _>>()?;
        differ(&all, file)?;
        Ok(Self {
            all,
            default: default(file)?,
        })
    }

    /// The VPN of a name.
    pub(super) fn named(
        &self,
        Sourced { value, origin }: &Sourced<String>,
    ) -> Result<VpnId, ConfigError> {
        named(&self.all, value).map_err(|why| ConfigError::invalid(origin, why))
    }
}

/// The VPN of a name among all, or why there is none.
pub(super) fn named(all: &[VpnSettings], name: &str) -> Result<VpnId, String> {
    let names = || all.iter().map(|vpn| vpn.name.as_str());
    if let Some(place) = names().position(|it| it == name) {
        return Ok(VpnId(place));
    }
    let hint = match suggest::nearest(name, names()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if all.len() == 1 => {
            "to have several, write [[vpn]] with name and interface for each".to_owned()
        }
        None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(format!("there is no VPN \"{name}\"; {hint}"))
}

fn gateway(Sourced { value, origin }: &Sourced<String>) -> Result<Option<Ipv4Addr>, ConfigError> {
    if value == "auto" {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| {
        ConfigError::invalid(
            origin,
            format!(
                "vpn.gateway must be an IPv4 address such as \"10.2.0.1\", or \"auto\"; this is \"{value}\""
            ),
        )
    })
}

fn name(Sourced { value, origin }: Sourced<String>) -> Result<String, ConfigError> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if value.is_empty() || !value.chars().all(is_known) {
        return Err(ConfigError::invalid(
            &origin,
            format!(
                "\"{value}\" cannot be a VPN's name; names such as \"us\" have letters, digits, hyphens and underscores"
            ),
        ));
    }
    Ok(value)
}

/// No two have one name or one interface.
fn differ(all: &[VpnSettings], file: &[FileVpn]) -> Result<(), ConfigError> {
    let (mut names, mut interfaces) = (BTreeMap::new(), BTreeMap::new());
    for (vpn, file) in all.iter().zip(file) {
        let name = &vpn.name;
        if let Some(first) = names.insert(name, &file.origin) {
            let why =
                format!("\"{name}\" is the name of the VPN at {first} already; give each its own");
            return Err(ConfigError::invalid(&file.origin, why));
        }
        if let VpnChoice::Named(name) = &vpn.interface.value
            && let Some(first) = interfaces.insert(name, &file.origin)
        {
            let why = format!(
                "{name} is the interface of the VPN at {first} already; keep one of the two"
            );
            return Err(ConfigError::invalid(&vpn.interface.origin, why));
        }
    }
    Ok(())
}

/// The one that says so, else the first.
fn default(file: &[FileVpn]) -> Result<VpnId, ConfigError> {
    let chosen = file.iter().enumerate().filter_map(|(place, vpn)| {
        let is_it = vpn.default.as_ref().filter(|is_it| is_it.value)?;
        Some((VpnId(place), &is_it.origin))
    });
    let chosen: Vec<_> = chosen.collect();
    match chosen.as_slice() {
        [] => Ok(VpnId::default()),
        [(id, _)] => Ok(*id),
        [(_, first), (_, second), ..] => Err(ConfigError::invalid(
            second,
            format!("the VPN at {first} is the default one already; keep one of the two"),
        )),
    }
}
