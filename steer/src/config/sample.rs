//! A configuration to begin with, in which every line says what it is for.

use std::fmt::Write as _;

use super::OnDown;
use crate::datapath::Tables;

/// What a user decides of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// The VPN's interface; none for whichever is up.
    pub vpn: Option<String>,
    /// What becomes of its flows while it is down.
    pub on_down: OnDown,
    /// Whether Docker Hub is to take it.
    pub docker_hub: bool,
    /// What else takes it, as rules.
    pub names: Vec<String>,
}

/// What was found on the host, for the comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The interfaces that could be the VPN's, described.
    pub vpns: Vec<String>,
    /// The bridges that "auto" means now.
    pub bridges: Vec<String>,
    /// The cgroups that "auto" means now.
    pub cgroups: Vec<String>,
}

/// The text of the file.
pub fn sample(choices: &Choices, found: &Found) -> String {
    let now = |what: &[String]| match what {
        [] => "none now".to_owned(),
        some => format!("now {}", some.join(", ")),
    };
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let names: Vec<_> = choices.names.iter().map(|name| quoted(name)).collect();
    let presets = if choices.docker_hub {
        "\"docker-hub\""
    } else {
        ""
    };
    let on_down = match choices.on_down {
        OnDown::Block => "block",
        OnDown::Direct => "direct",
    };
    let tables = Tables::default();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# What takes the VPN and what goes direct. `steer check` says what this comes to;\n\
         # a change is taken over within a second while steer runs.\n\
         \n\
         [vpn]\n\
         # The VPN's interface, or \"auto\": the one tun, wireguard or ppp device that is up.\n\
         # Like a VPN's are {vpns}.\n\
         interface = {interface}\n\
         # What becomes of its flows while it is down: \"block\", so that nothing leaks, or \"direct\".\n\
         on_down = {on_down}\n\
         \n\
         [attach]\n\
         # The processes that are steered. \"auto\" is dockerd's and containerd's cgroup: {cgroups}.\n\
         cgroups = [\"auto\"]\n\
         # The containers that are. \"auto\" is docker0 and the bridges of Docker's networks: {bridges}.\n\
         bridges = [\"auto\"]\n\
         \n\
         [rules]\n\
         # Built-in lists. \"docker-hub\" sends what Docker Hub refuses by country through the VPN, and its layers direct.\n\
         presets = [{presets}]\n\
         # What takes the VPN: \"example.com\" is that name, \"*.example.com\" the names below it, \".example.com\" both,\n\
         # \"203.0.113.0/24\" these addresses. The most specific rule wins.\n\
         vpn = [{names}]\n\
         # What goes direct, whatever a wider rule says.\n\
         direct = []\n\
         # What goes nowhere.\n\
         block = []\n\
         # Lists that others keep: {{ path = \"blocked.txt\" }}, beside this file.\n\
         lists = []\n\
         \n\
         [tables]\n\
         # How many addresses can be known at once, and how many flows, of each path; `steer status` says how many are.\n\
         addresses = {addresses}\n\
         flows = {flows}\n\
         \n\
         # A scope takes one path as a whole: all that the containers on this network of Docker's send, questions included,\n\
         # leaves by the VPN or not at all.\n\
         # [[scope]]\n\
         # network = \"web\"\n\
         # dns = \"1.1.1.1\"\n",
        vpns = match found.vpns.as_slice() {
            [] => "none now".to_owned(),
            some => some.join("; "),
        },
        interface = quoted(choices.vpn.as_deref().unwrap_or("auto")),
        on_down = quoted(on_down),
        cgroups = now(&found.cgroups),
        bridges = now(&found.bridges),
        names = names.join(", "),
        addresses = tables.addresses,
        flows = tables.flows,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Overrides, Settings, VpnChoice};
    use std::path::Path;

    fn settings(text: &str) -> Settings {
        let file = ConfigFile::parse(Path::new("steer.toml"), text).unwrap();
        Settings::resolve(file, Overrides::default()).unwrap()
    }

    #[test]
    fn what_was_chosen_is_what_it_says() {
        let choices = Choices {
            vpn: Some("wg0".to_owned()),
            on_down: OnDown::Direct,
            docker_hub: false,
            names: vec![".blocked.example".to_owned(), r"regex:^a\.".to_owned()],
        };
        let found = Found {
            vpns: vec!["wg0 (wireguard, 10.8.0.2)".to_owned()],
            ..Found::default()
        };
        let settings = settings(&sample(&choices, &found));
        assert_eq!(
            settings.vpn().interface.value,
            VpnChoice::Named("wg0".to_owned())
        );
        assert_eq!(settings.vpn().on_down.value, OnDown::Direct);
        let rules: Vec<_> = settings
            .rules
            .own()
            .into_iter()
            .map(|(it, _)| it.to_string())
            .collect();
        assert_eq!(rules, [".blocked.example", r"regex:^a\."]);
    }

    #[test]
    fn without_choices_it_says_what_no_file_says() {
        let choices = Choices {
            docker_hub: true,
            ..Choices::default()
        };
        let mut said = settings(&sample(&choices, &Found::default())).to_json();
        let mut unsaid = settings("").to_json();
        for json in [&mut said, &mut unsaid] {
            json["file"].take();
        }
        assert_eq!(said, unsaid);
    }
}
