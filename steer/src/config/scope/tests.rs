use super::*;
use crate::config::tests::{refusal, settings, with_flags};
use crate::config::{OnDown, Overrides};
use proptest::prelude::*;
use std::path::Path;

const SCOPES: &str = r#"
[[scope]]
network = "under*"
dns = ["1.1.1.1", "::ffff:9.9.9.9", "1.1.1.1", "2620:fe::fe"]
forward = ["4666/tcp -> torrent:4667", "4666/udp->torrent"]

[[scope]]
label = "steer.path=a=b"
default = "direct"
on_stop = "release"

[[scope]]
label = "steer.path"
default = "block"

[[scope]]
container = "web-?"
dns = "10.64.0.1"
forward = [" 1 / udp ->  a.b_c-d : 65535 "]

[[scope]]
compose = "media"
dns = "1.1.1.1"

[[scope]]
cgroup = "system.slice/app.service"
dns = "1.1.1.1"
"#;

#[test]
fn scopes_arrive_in_their_order() {
    let scopes = settings(SCOPES).unwrap().scopes;
    let addresses = ["1.1.1.1", "9.9.9.9", "2620:fe::fe"].map(|it| it.parse().unwrap());
    assert_eq!(
        scopes[0],
        Scope {
            selector: Selector::Network(Pattern::new("under*")),
            vpn: None,
            default: Way::Vpn,
            dns: addresses.to_vec(),
            forward: vec![
                Forward {
                    protocol: Protocol::Tcp,
                    at: At::Port(4666),
                    container: "torrent".to_owned(),
                    to: 4667
                },
                Forward {
                    protocol: Protocol::Udp,
                    at: At::Port(4666),
                    container: "torrent".to_owned(),
                    to: 4666
                },
            ],
            on_stop: OnStop::Keep,
            origin: Origin::File {
                path: Path::new("steer.toml").into(),
                line: 2
            },
        }
    );
    let label = |value: Option<&str>| Selector::Label {
        key: "steer.path".to_owned(),
        value: value.map(str::to_owned),
    };
    let selectors: Vec<_> = scopes.iter().map(|scope| scope.selector.clone()).collect();
    assert_eq!(
        selectors[1..],
        [
            label(Some("a=b")),
            label(None),
            Selector::Container(Pattern::new("web-?")),
            Selector::Compose("media".to_owned()),
            Selector::Cgroup("system.slice/app.service".into()),
        ]
    );
    let ways: Vec<_> = scopes.iter().map(|scope| scope.default).collect();
    assert_eq!(
        ways,
        [
            Way::Vpn,
            Way::Direct,
            Way::Block,
            Way::Vpn,
            Way::Vpn,
            Way::Vpn
        ]
    );
    assert_eq!(scopes[1].on_stop, OnStop::Release);
    assert_eq!(scopes[3].forward[0].to_string(), "1/udp -> a.b_c-d:65535");
    assert!(settings("").unwrap().scopes.is_empty());
}

#[test]
fn processes_are_known_without_docker() {
    let file = "[attach]\ndocker = \"off\"\n[[scope]]\ncgroup = \"/a\"\ndns = \"1.1.1.1\"";
    let settings = settings(file).unwrap();
    assert!(!settings.scopes_containers());
    let cgroups: Vec<_> = settings.scoped_cgroups().map(|(place, _)| place).collect();
    assert_eq!(cgroups, [0]);
    assert_eq!(settings.all_cgroups().len(), 2);
}

#[test]
fn a_scope_that_only_moved_means_the_same() {
    let (before, moved) = (settings(SCOPES).unwrap(), settings(&format!("\n{SCOPES}")));
    let moved = moved.unwrap();
    assert!(before.scopes[0] != moved.scopes[0]);
    assert!(before.scopes[0].means(&moved.scopes[0]));
    assert!(!before.scopes[0].means(&moved.scopes[1]));
}

#[test]
fn every_bad_scope_is_named_with_what_was_expected() {
    let cases = [
        (
            "[scope]\nnetwork = \"web\"",
            "steer.toml:1: scope is a section that may come several times: write [[scope]] on a line of its own, with two brackets, not a table",
        ),
        (
            "scope = []\n[vpn]\ncolour = 1",
            "steer.toml:1: scope is a section that may come several times: write [[scope]] on a line of its own, with two brackets, not a list",
        ),
        (
            "[[scopes]]\nnetwork = \"web\"",
            "steer.toml:1: unknown section [[scopes]]; did you mean [[scope]]?",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\n[[scope]]\nnetwrok = \"web\"",
            "steer.toml:4: unknown key \"netwrok\" in [[scope]]; did you mean \"network\"?",
        ),
        (
            "[[scope]]\ncolour = \"web\"",
            "steer.toml:2: unknown key \"colour\" in [[scope]]; the keys there are network, container, label, compose, cgroup, vpn, default, dns, forward, on_stop",
        ),
        (
            "[vpn]\nforward = []",
            "steer.toml:2: unknown key \"forward\" in [vpn]; it belongs in [[scope]]",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndns = [\"1.1.1.1\",\n53]",
            "steer.toml:4: scope.dns must be an address such as \"1.1.1.1\", or a list of addresses; this is the number 53",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\nforward = \"4666/tcp -> torrent\"",
            "steer.toml:3: scope.forward must be a list of strings such as [\"4666/tcp -> torrent:4666\"]; this is the string \"4666/tcp -> torrent\"",
        ),
        (
            "\n[[scope]]\ndns = \"1.1.1.1\"",
            "steer.toml:2: a scope lacks what it is about; write one of network, container, label, compose and cgroup, such as network = \"web\"",
        ),
        (
            "[[scope]]\ncompose = \"media\"\nnetwork = \"web\"",
            "steer.toml:2: a scope is about one of network, container, label, compose and cgroup; this has network and compose: write a [[scope]] for each",
        ),
        (
            "[[scope]]\ncgroup = \"auto\"",
            "steer.toml:2: \"auto\" is no cgroup; write its path, such as cgroup = \"system.slice/app.service\"",
        ),
        (
            "[[scope]]\ncgroup = \"../app\"\ndns = \"1.1.1.1\"",
            "steer.toml:2: the cgroup ../app must be written without \"..\"",
        ),
        (
            "[[scope]]\ncgroup = \"app\"",
            "steer.toml:2: the scope of cgroup app lacks dns, and its questions would leave by the direct path; write whom they go to through the VPN, such as dns = \"1.1.1.1\"",
        ),
        (
            "[[scope]]\ncgroup = \"app\"\ndns = \"1.1.1.1\"\nforward = [\"1/tcp -> app\"]",
            "steer.toml:4: \"1/tcp -> app\" cannot be forwarded to the scope of cgroup app: its processes are on the host and listen at the VPN's address themselves; leave forward out",
        ),
        (
            "[[scope]]\ncontainer = \"/web\"",
            "steer.toml:2: \"/web\" cannot be a container of Docker's; write its name, or a pattern such as \"web-*\", without spaces and slashes",
        ),
        (
            "[[scope]]\nnetwork = \"\"",
            "steer.toml:2: \"\" cannot be a network of Docker's; write its name, or a pattern such as \"web-*\", without spaces and slashes",
        ),
        (
            "[[scope]]\nlabel = \"=vpn\"",
            "steer.toml:2: \"=vpn\" cannot be a label; write \"steer.path=vpn\", or the key alone for any value of it, without spaces in the key",
        ),
        (
            "[[scope]]\ncompose = \"My media\"",
            "steer.toml:2: \"My media\" cannot be a Compose project; names such as \"media\" have lower-case letters, digits, hyphens and underscores, and docker compose ls lists them",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndefault = \"vnp\"",
            "steer.toml:3: scope.default must be \"vpn\", \"direct\" or \"block\"; this is \"vnp\"",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndefault = \"block\"\non_stop = \"stay\"",
            "steer.toml:4: scope.on_stop must be \"keep\" or \"release\"; this is \"stay\"",
        ),
        (
            "[[scope]]\n\nnetwork = \"web\"",
            "steer.toml:3: the scope of network web lacks dns, and its questions would leave by the direct path; write whom they go to through the VPN, such as dns = \"1.1.1.1\"",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndns = \"1.1.1.1:53\"",
            "steer.toml:3: \"1.1.1.1:53\" is not the address of a DNS server; write one without a port, such as dns = \"1.1.1.1\"",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndns = [\"1.1.1.1\",\n\"127.0.0.11\"]",
            "steer.toml:4: the DNS server 127.0.0.11 cannot be asked through the VPN: it is on the loopback device, which every host has for itself; name a public one such as dns = \"1.1.1.1\", or one of the VPN's",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndns = \"1.1.1.1\"\nforward = [\"4666 -> torrent\"]",
            "steer.toml:4: \"4666 -> torrent\" cannot be forwarded: the port before the arrow lacks its protocol, /tcp or /udp; write \"4666/tcp -> torrent:4666\"",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndns = \"1.1.1.1\"\nforward = [\"1/tcp -> a\"]\n[[scope]]\nnetwork = \"net\"\ndefault = \"direct\"\nforward = [\"1/udp -> a\",\n\"1/tcp -> b:2\"]",
            "steer.toml:9: 1/tcp is to go to b:2 here and to a:1 at steer.toml:4; keep one of the two",
        ),
        (
            "[[scope]]\nnetwork = \"web\"\ndefault = \"direct\"\n[[scope]]\nnetwork = \"web\"\ndns = \"1.1.1.1\"",
            "steer.toml:5: network web is the scope at steer.toml:1 already; keep one of the two",
        ),
        (
            "[attach]\ndocker = \"off\"\n[[scope]]\ncompose = \"media\"\ndefault = \"block\"",
            "steer.toml:4: Docker alone knows what is in the scope of compose media, and is not to be asked: attach.docker is \"off\" (steer.toml:2); write \"auto\" there, or leave the scope out",
        ),
        (
            "[vpn]\non_down = \"direct\"\n[[scope]]\nnetwork = \"a\"\ndns = \"1.1.1.1\"",
            "steer.toml:2: vpn.on_down is \"direct\", which would let out what the scope of network a (steer.toml:3) isolates whenever the VPN is down; write \"block\" here, or default = \"direct\" there",
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(refusal(text), sentence, "{text}");
    }
}

#[test]
fn what_a_scope_can_be_with_other_keys() {
    for text in [
        "[vpn]\non_down = \"direct\"\n[[scope]]\nnetwork = \"a\"\ndefault = \"direct\"",
        "[[scope]]\nlabel = \"a=\"\ndefault = \"block\"",
    ] {
        assert!(settings(text).is_ok(), "{text}");
    }
    let flags = Overrides {
        on_down: Some(OnDown::Direct),
        ..Overrides::default()
    };
    let text = "[[scope]]\nnetwork = \"a\"\ndns = \"1.1.1.1\"";
    let refusal = with_flags(text, flags).unwrap_err();
    assert!(refusal.to_string().starts_with("--on-down: "), "{refusal}");
}

#[test]
fn no_vpn_leads_to_addresses_of_one_host_or_link() {
    for address in [
        "0.0.0.0",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1",
        "ff02::1",
    ] {
        let text = format!("[[scope]]\nnetwork = \"a\"\ndns = \"{address}\"");
        let said = refusal(&text);
        let start = format!("steer.toml:3: the DNS server {address} cannot be asked");
        assert!(said.starts_with(&start), "{said}");
    }
}

#[test]
fn each_vpn_has_ports_of_its_own() {
    let vpn = |name: &str| format!("[[vpn]]\nname = \"{name}\"\ninterface = \"{name}0\"\n");
    let scope = |network: &str, vpn: &str| {
        format!(
            "[[scope]]\nnetwork = \"{network}\"\nvpn = \"{vpn}\"\ndns = \"1.1.1.1\"\nforward = [\"1/tcp -> {network}\"]\n"
        )
    };
    let text = |second| [vpn("us"), vpn("de"), scope("a", "us"), scope("b", second)].concat();
    let given = settings(&text("de")).unwrap();
    let ports = given.scopes.iter().map(|scope| scope.forward[0].at);
    assert_eq!(ports.collect::<Vec<_>>(), [At::Port(1); 2]);
    assert!(refusal(&text("us")).contains("1/tcp is to go to b:1 here and to a:1 at"));
}

#[test]
fn ports_may_be_left_to_the_vpns_gateway() {
    let text = |forward: &str| {
        format!("[[scope]]\nnetwork = \"a\"\ndns = \"1.1.1.1\"\nforward = [{forward}]")
    };
    let both = "\"nat-pmp/tcp -> torrent:4666\", \"nat-pmp / udp->torrent : 4666\", \"nat-pmp/tcp -> web:4666\"";
    let given = settings(&text(both)).unwrap();
    let forward = &given.scopes[0].forward;
    assert!(forward.iter().all(|it| it.at == At::NatPmp));
    let told = forward.iter().map(ToString::to_string);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "nat-pmp/tcp -> torrent:4666",
            "nat-pmp/udp -> torrent:4666",
            "nat-pmp/tcp -> web:4666"
        ]
    );
    assert_eq!(
        refusal(&text(
            "\"nat-pmp/tcp -> torrent:1\", \"nat-pmp/tcp -> torrent:1\""
        )),
        "steer.toml:4: nat-pmp/tcp is to go to torrent:1 here and to torrent:1 at steer.toml:4; keep one of the two"
    );
    let gateway = |value: &str| format!("[vpn]\ngateway = {value}");
    let set = settings(&gateway("\"10.2.0.1\"")).unwrap();
    assert_eq!(set.vpn().gateway, Some([10, 2, 0, 1].into()));
    assert_eq!(
        refusal(&gateway("\"fd00::1\"")),
        "steer.toml:2: vpn.gateway must be an IPv4 address such as \"10.2.0.1\", or \"auto\"; this is \"fd00::1\""
    );
}

#[test]
fn what_cannot_be_forwarded_is_told_with_what_can() {
    for text in [
        "",
        "4666/tcp",
        "4666/tcp torrent",
        "4666/tcp ->",
        "4666/tcp -> :4666",
        "4666/sctp -> torrent",
        "0/tcp -> torrent",
        "65536/tcp -> torrent",
        "4666/tcp -> torrent:0",
        "4666/tcp -> torrent:x",
        "4666/tcp -> torrent:1:2",
        "4666/tcp -> tor rent",
        "4666/tcp -> torrent*",
        "-> torrent",
        "nat-pmp/tcp -> torrent",
        "nat-pmp -> torrent:1",
    ] {
        let file = format!("[[scope]]\nnetwork = \"a\"\ndns = \"1.1.1.1\"\nforward = [\"{text}\"]");
        let said = refusal(&file);
        let (start, end) = (
            format!("steer.toml:4: \"{text}\" cannot be forwarded: "),
            "; write \"4666/tcp -> torrent:4666\"",
        );
        assert!(said.starts_with(&start) && said.ends_with(end), "{said}");
    }
}

proptest! {
    #[test]
    fn no_scope_makes_it_panic(text in r#"(\[\[scope\]\]\n|\[scope\]\n|(network|container|label|compose|default|dns|forward|on_stop) = ("[^"]{0,9}"|"[0-9]{1,5}/(tcp|udp) ?-> ?[a-c]?:?[0-9]{0,3}"|"1.1.1.1"|"vpn"|"keep"|\["1.1.1.1", 3\]|\["1/tcp -> a"\]|3)\n){0,8}"#) {
        if let Err(error) = settings(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
