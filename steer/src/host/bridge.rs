//! The bridges whose containers are steered.

use super::docker::Network;
use super::{HostError, Kind, Link};
use crate::config::BridgeChoice;
use crate::origin::{Origin, Sourced};
use crate::route::IfIndex;
use crate::suggest;

/// A bridge to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// The name of Docker's network on it, where known.
    pub network: Option<String>,
}

/// The bridges that the settings mean, each once, in the order asked for.
///
/// # Errors
/// One that is named is not there or is no bridge.
pub fn resolve(
    choices: &[Sourced<BridgeChoice>],
    links: &[Link],
    networks: &[Network],
    notes: &mut Vec<String>,
) -> Result<Vec<Bridge>, HostError> {
    let mut found: Vec<&Link> = Vec::new();
    for choice in choices {
        let links = match &choice.value {
            BridgeChoice::Auto => of_networks(networks, links, notes),
            BridgeChoice::Pattern(pattern) if is_pattern(pattern) => {
                matching(pattern, &choice.origin, links, notes)
            }
            BridgeChoice::Pattern(name) => vec![named(name, &choice.origin, links)?],
        };
        for link in links {
            if !found.iter().any(|known| known.index == link.index) {
                found.push(link);
            }
        }
    }
    let network_on = |link: &Link| {
        networks
            .iter()
            .find(|network| network.interface == link.name)?
            .name
            .clone()
    };
    Ok(found
        .into_iter()
        .map(|link| Bridge {
            index: link.index,
            name: link.name.clone(),
            network: network_on(link),
        })
        .collect())
}

fn of_networks<'a>(
    networks: &[Network],
    links: &'a [Link],
    notes: &mut Vec<String>,
) -> Vec<&'a Link> {
    let mut found = Vec::new();
    for network in networks {
        match links.iter().find(|link| link.name == network.interface) {
            Some(link) => found.push(link),
            None => notes.push(format!(
                "the bridge {} of Docker's network {} is not in this network namespace: its containers are not steered",
                network.interface,
                network.name.as_deref().unwrap_or("of no name")
            )),
        }
    }
    if found.is_empty() {
        notes.push("Docker has no bridge here: containers are not steered until steer is started after Docker".to_owned());
    }
    found
}

fn matching<'a>(
    pattern: &str,
    origin: &Origin,
    links: &'a [Link],
    notes: &mut Vec<String>,
) -> Vec<&'a Link> {
    let found: Vec<_> = bridges(links)
        .filter(|link| matches(pattern, &link.name))
        .collect();
    if found.is_empty() {
        notes.push(format!(
            "{origin}: no bridge matches \"{pattern}\"; {}",
            listed(links)
        ));
    }
    found
}

fn named<'a>(name: &str, origin: &Origin, links: &'a [Link]) -> Result<&'a Link, HostError> {
    let why = match links.iter().find(|link| link.name == *name) {
        Some(link) if link.kind == Kind::Bridge => return Ok(link),
        Some(link) => format!(
            "\"{name}\" is no bridge but {} {}; {}",
            article(&link.kind),
            link.kind,
            listed(links)
        ),
        None => match suggest::nearest(name, bridges(links).map(|link| link.name.as_str())) {
            Some(near) => format!("there is no bridge \"{name}\"; did you mean \"{near}\"?"),
            None => format!("there is no bridge \"{name}\"; {}", listed(links)),
        },
    };
    Err(HostError::about(origin, why))
}

fn article(kind: &Kind) -> &'static str {
    if kind.to_string().starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

fn bridges(links: &[Link]) -> impl Iterator<Item = &Link> {
    links.iter().filter(|link| link.kind == Kind::Bridge)
}

fn listed(links: &[Link]) -> String {
    let names: Vec<_> = bridges(links).map(|link| link.name.as_str()).collect();
    if names.is_empty() {
        "there is no bridge at all".to_owned()
    } else {
        format!("the bridges are {}", names.join(", "))
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name matches a pattern, in which `*` stands for any characters and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after_star, taken)) = retry else {
                    return false;
                };
                (p, n) = (after_star, taken + 1);
                retry = Some((after_star, taken + 1));
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}
