//! The bridges whose containers are steered.

use super::docker::Network;
use super::{HostError, Kind, Link};
use crate::config::BridgeChoice;
use crate::origin::{Origin, Sourced};
use crate::pattern::Pattern;
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

/// Whether what a choice names is there; a pattern may match nothing.
pub fn is_there(choice: &Sourced<BridgeChoice>, links: &[Link]) -> bool {
    match &choice.value {
        BridgeChoice::Auto => true,
        BridgeChoice::Pattern(pattern) => {
            let pattern = Pattern::new(pattern);
            !pattern.is_exact() || links.iter().any(|link| pattern.matches(&link.name))
        }
    }
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
            BridgeChoice::Pattern(pattern) => match Pattern::new(pattern) {
                exact if exact.is_exact() => vec![named(pattern, &choice.origin, links)?],
                pattern => matching(&pattern, &choice.origin, links, notes),
            },
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
        notes.push(
            "Docker has no bridge here yet: containers are steered as soon as it has one"
                .to_owned(),
        );
    }
    found
}

fn matching<'a>(
    pattern: &Pattern,
    origin: &Origin,
    links: &'a [Link],
    notes: &mut Vec<String>,
) -> Vec<&'a Link> {
    let found: Vec<_> = bridges(links)
        .filter(|link| pattern.matches(&link.name))
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

#[cfg(test)]
mod tests {
    use super::super::link::tests::link;
    use super::*;

    fn host() -> Vec<Link> {
        vec![
            link(1, "lo", Kind::Loopback),
            link(2, "eth0", Kind::Other(String::new())),
            link(3, "docker0", Kind::Bridge),
            link(4, "br-0123456789ab", Kind::Bridge),
            link(5, "br-lan", Kind::Bridge),
        ]
    }

    fn networks() -> Vec<Network> {
        let network = |name: &str, interface: &str| Network {
            name: Some(name.to_owned()),
            interface: interface.to_owned(),
        };
        vec![
            network("bridge", "docker0"),
            network("web", "br-0123456789ab"),
        ]
    }

    fn resolved(choices: &[&str], notes: &mut Vec<String>) -> Result<Vec<String>, String> {
        let choice = |text: &&str| {
            let choice = if *text == "auto" {
                BridgeChoice::Auto
            } else {
                BridgeChoice::Pattern((*text).to_owned())
            };
            Sourced::new(choice, Origin::Flag("--bridge"))
        };
        let choices: Vec<_> = choices.iter().map(choice).collect();
        match resolve(&choices, &host(), &networks(), notes) {
            Ok(bridges) => Ok(bridges.into_iter().map(|bridge| bridge.name).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn names(choices: &[&str]) -> Vec<String> {
        let mut notes = Vec::new();
        let names = resolved(choices, &mut notes).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        names
    }

    fn refusal(name: &str) -> String {
        resolved(&[name], &mut Vec::new()).unwrap_err()
    }

    #[test]
    fn auto_is_dockers_own() {
        assert_eq!(names(&["auto"]), ["docker0", "br-0123456789ab"]);
        let auto = [Sourced::default_value(BridgeChoice::Auto)];
        let bridges = resolve(&auto, &host(), &networks(), &mut Vec::new()).unwrap();
        assert_eq!(bridges[1].network.as_deref(), Some("web"));
    }

    #[test]
    fn each_bridge_comes_once() {
        assert_eq!(
            names(&["br-*", "auto", "docker0"]),
            ["br-0123456789ab", "br-lan", "docker0"]
        );
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn what_is_missing_is_told_with_what_is_there() {
        assert_eq!(
            refusal("docker1"),
            "--bridge: there is no bridge \"docker1\"; did you mean \"docker0\"?"
        );
        assert_eq!(
            refusal("virbr0"),
            "--bridge: there is no bridge \"virbr0\"; the bridges are docker0, br-0123456789ab, br-lan"
        );
        assert_eq!(
            refusal("eth0"),
            "--bridge: \"eth0\" is no bridge but a network card; the bridges are docker0, br-0123456789ab, br-lan"
        );
    }

    #[test]
    fn a_pattern_without_a_match_and_a_network_elsewhere_are_noted() {
        let mut notes = Vec::new();
        assert_eq!(resolved(&["virbr*"], &mut notes), Ok(vec![]));
        assert_eq!(
            notes,
            [
                "--bridge: no bridge matches \"virbr*\"; the bridges are docker0, br-0123456789ab, br-lan"
            ]
        );

        let elsewhere = [Network {
            name: Some("far".to_owned()),
            interface: "br-ffffffffffff".to_owned(),
        }];
        let mut notes = Vec::new();
        let auto = [Sourced::default_value(BridgeChoice::Auto)];
        assert!(
            resolve(&auto, &host(), &elsewhere, &mut notes)
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            notes[0],
            "the bridge br-ffffffffffff of Docker's network far is not in this network namespace: its containers are not steered"
        );
    }
}
