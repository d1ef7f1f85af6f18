use super::*;
use crate::route::{Mark, Priority, TableId, VpnId};
use crate::rules::Verdict;
use proptest::prelude::*;

pub(super) fn settings(text: &str) -> Result<Settings, ConfigError> {
    with_flags(text, Overrides::default())
}

pub(super) fn with_flags(text: &str, flags: Overrides) -> Result<Settings, ConfigError> {
    Settings::resolve(ConfigFile::parse(Path::new("steer.toml"), text)?, flags)
}

pub(super) fn refusal(text: &str) -> String {
    settings(text).expect_err(text).to_string()
}

fn verdict(settings: &Settings, name: &str) -> Option<Verdict> {
    settings
        .rules
        .decide(name)
        .map(|judgement| judgement.verdict)
}

const EVERYTHING: &str = r#"
[vpn]
interface = "wg0"
on_down = "direct"
[attach]
cgroups = ["auto", "system.slice/app.service"]
bridges = ["auto", "br-*"]
docker = "/run/docker.sock"
[rules]
presets = ["docker-hub"]
vpn = ["blocked.example", "*.blocked.example", ".both.example"]
direct = ["layers.blocked.example"]
[dns]
resolve = false
[sni]
ports = [8443, 443, 443]
http_ports = []
late = "learn"
[routing]
mark = 0x100
mask = 0xff00
table = 100
priority = 200
[tables]
addresses = 250_000
flows = 1_024
"#;

#[test]
fn nothing_said_is_the_defaults() {
    let settings = Settings::resolve(ConfigFile::default(), Overrides::default()).unwrap();
    assert_eq!(settings.file, None);
    assert_eq!(
        settings.vpn().interface,
        Sourced::default_value(VpnChoice::Auto)
    );
    assert_eq!(settings.vpn().on_down.value, OnDown::Block);
    assert_eq!(
        settings.cgroups,
        [Sourced::default_value(CgroupChoice::Auto)]
    );
    assert_eq!(
        settings.bridges,
        [Sourced::default_value(BridgeChoice::Auto)]
    );
    assert_eq!(settings.docker, Sourced::default_value(DockerChoice::Auto));
    assert_eq!(settings.routing, Numbers::default());
    assert_eq!(settings.tables, Tables::default());
    assert!(settings.resolve);
    assert_eq!(
        settings.sni,
        Sni {
            ports: vec![443],
            http_ports: vec![80],
            late: Late::Reset
        }
    );
    assert_eq!(settings.output, Output::Normal);
    assert_eq!(settings.log_bpf.level(), None);
    assert_eq!(settings.bpffs, Path::new("/sys/fs/bpf/steer"));
    assert_eq!(settings.run_dir, Path::new("/run/steer"));
    assert_eq!(
        verdict(&settings, "registry-1.docker.io"),
        Some(Verdict::Vpn)
    );
}

#[test]
fn the_file_arrives_with_its_lines() {
    let settings = settings(EVERYTHING).unwrap();
    let at = |line| Origin::File {
        path: Path::new("steer.toml").into(),
        line,
    };
    assert_eq!(settings.file, std::path::absolute("steer.toml").ok());
    assert_eq!(
        settings.vpn().interface,
        Sourced::new(VpnChoice::Named("wg0".to_owned()), at(3))
    );
    assert_eq!(settings.vpn().on_down.value, OnDown::Direct);
    assert_eq!(
        settings.cgroups,
        [
            Sourced::new(CgroupChoice::Auto, at(6)),
            Sourced::new(CgroupChoice::Path("system.slice/app.service".into()), at(6)),
        ]
    );
    assert_eq!(
        settings.bridges[1],
        Sourced::new(BridgeChoice::Pattern("br-*".to_owned()), at(7))
    );
    assert_eq!(
        settings.docker,
        Sourced::new(DockerChoice::Socket("/run/docker.sock".into()), at(8))
    );
    assert_eq!(
        settings.routing,
        Numbers {
            mark: Mark::new(0x100, 0xff00).unwrap(),
            table: TableId(100),
            priority: Priority(200),
            vpns: 1,
        }
    );
    assert_eq!(
        settings.tables,
        Tables {
            addresses: 250_000,
            flows: 1_024
        }
    );
    assert!(!settings.resolve);
    assert_eq!(
        settings.sni,
        Sni {
            ports: vec![443, 8443],
            http_ports: vec![],
            late: Late::Learn
        }
    );
    assert_eq!(verdict(&settings, "blocked.example"), Some(Verdict::Vpn));
    assert_eq!(
        verdict(&settings, "layers.blocked.example"),
        Some(Verdict::Direct)
    );
    assert_eq!(
        settings.rules.decide("a.both.example").unwrap().origin,
        at(11)
    );
}

#[test]
fn flags_win_over_the_file() {
    let flags = Overrides {
        vpn: Some("tun0".to_owned()),
        on_down: Some(OnDown::Block),
        cgroups: vec!["app".to_owned()],
        bridges: vec!["docker0".to_owned()],
        docker: Some("off".to_owned()),
        no_presets: true,
        direct_domains: vec!["blocked.example".to_owned()],
        sni_ports: vec![853],
        http_ports: vec![8080, 80],
        late: Some(Late::Reset),
        table: Some(300),
        ..Overrides::default()
    };
    let settings = with_flags(EVERYTHING, flags).unwrap();
    assert_eq!(
        settings.vpn().interface,
        Sourced::new(VpnChoice::Named("tun0".to_owned()), Origin::Flag("--vpn"))
    );
    assert_eq!(settings.vpn().on_down.value, OnDown::Block);
    assert_eq!(
        settings.cgroups,
        [Sourced::new(
            CgroupChoice::Path("app".into()),
            Origin::Flag("--cgroup")
        )]
    );
    assert_eq!(
        settings.bridges,
        [Sourced::new(
            BridgeChoice::Pattern("docker0".to_owned()),
            Origin::Flag("--bridge")
        )]
    );
    assert_eq!(settings.docker.value, DockerChoice::Off);
    assert_eq!(
        settings.sni,
        Sni {
            ports: vec![853],
            http_ports: vec![80, 8080],
            late: Late::Reset
        }
    );
    assert_eq!(settings.routing.table, TableId(300));
    assert_eq!(settings.routing.priority, Priority(200));
    assert_eq!(verdict(&settings, "registry-1.docker.io"), None);
    assert_eq!(verdict(&settings, "blocked.example"), Some(Verdict::Direct));
    assert_eq!(verdict(&settings, "a.blocked.example"), Some(Verdict::Vpn));
}

#[test]
fn a_flag_turns_off_what_the_file_turns_on() {
    let flags = Overrides {
        no_resolve: true,
        no_sni: true,
        ..Overrides::default()
    };
    let settings = with_flags("[dns]\nresolve = true\n[sni]\nports = [443]\n", flags).unwrap();
    assert!(!settings.resolve);
    assert!(settings.sni.ports.is_empty() && settings.sni.http_ports.is_empty());
}

#[test]
fn an_empty_list_means_none() {
    let settings = settings("[attach]\ncgroups = []\n[rules]\npresets = []\n").unwrap();
    assert!(settings.cgroups.is_empty());
    assert!(settings.rules.is_empty());
}

#[test]
fn every_bad_line_is_named_with_what_was_expected() {
    let cases = [
        (
            "[vpn]\ninteface = \"wg0\"",
            "steer.toml:2: unknown key \"inteface\" in [vpn]; did you mean \"interface\"?",
        ),
        (
            "[vpn]\non-down = \"block\"",
            "steer.toml:2: unknown key \"on-down\" in [vpn]; did you mean \"on_down\"?",
        ),
        (
            "[vpn]\n\ncolour = 1",
            "steer.toml:3: unknown key \"colour\" in [vpn]; the keys there are name, default, interface, on_down, gateway",
        ),
        (
            "[vpn]\ntable = 100",
            "steer.toml:2: unknown key \"table\" in [vpn]; it belongs in [routing]",
        ),
        (
            "interface = \"wg0\"",
            "steer.toml:1: \"interface\" stands before any section; it belongs in [vpn]",
        ),
        (
            "colour = 1",
            "steer.toml:1: unknown key \"colour\"; keys stand in the sections [vpn], [attach], [rules], [dns], [sni], [routing], [tables], [[scope]]",
        ),
        (
            "[atach]\n",
            "steer.toml:1: unknown section [atach]; did you mean [attach]?",
        ),
        (
            "[colours]\n",
            "steer.toml:1: unknown section [colours]; the sections are [vpn], [attach], [rules], [dns], [sni], [routing], [tables], [[scope]]",
        ),
        (
            "vpn = \"wg0\"",
            "steer.toml:1: vpn is a section: write [vpn] on a line of its own, not the string \"wg0\"",
        ),
        (
            "[[dns]]\nresolve = true",
            "steer.toml:1: dns is a section: write [dns] on a line of its own, not a list",
        ),
        (
            "[vpn]\ninterface = 3",
            "steer.toml:2: vpn.interface must be a string: an interface such as \"wg0\", or \"auto\"; this is the number 3",
        ),
        (
            "[attach]\ncgroups = \"auto\"",
            "steer.toml:2: attach.cgroups must be a list of strings: paths of cgroups, or \"auto\"; this is the string \"auto\"",
        ),
        (
            "[attach]\nbridges = [\n\"auto\",\ntrue,\n]",
            "steer.toml:4: attach.bridges must be a list of strings: names or patterns such as \"br-*\", or \"auto\"; this is the truth value true",
        ),
        (
            "[routing]\nmark = -1",
            "steer.toml:2: routing.mark must be a whole number from 0 to 4294967295, such as 7350 or 0x1000; this is the number -1",
        ),
        (
            "[routing]\ntable = \"vpn\"",
            "steer.toml:2: routing.table must be a whole number from 0 to 4294967295, such as 7350 or 0x1000; this is the string \"vpn\"",
        ),
        (
            "[vpn]\non_down = \"drop\"",
            "steer.toml:2: vpn.on_down must be \"block\" or \"direct\"; this is \"drop\"",
        ),
        (
            "[vpn]\ninterface = \"\"",
            "steer.toml:2: \"\" cannot be an interface; names such as \"wg0\" have 1 to 15 characters, without spaces, slashes and colons",
        ),
        (
            "[attach]\nbridges = [\"a bridge\"]",
            "steer.toml:2: \"a bridge\" cannot be an interface; names such as \"br-*\" have 1 to 15 characters, without spaces, slashes and colons",
        ),
        (
            "[attach]\ncgroups = [\"\"]",
            "steer.toml:2: a cgroup must be a path such as \"system.slice/docker.service\", or \"auto\"; this is empty",
        ),
        (
            "[attach]\ncgroups = [\"a/../b\"]",
            "steer.toml:2: the cgroup a/../b must be written without \"..\"",
        ),
        (
            "[attach]\ndocker = \"docker.sock\"",
            "steer.toml:2: Docker's socket must be an absolute path such as \"/var/run/docker.sock\", \"auto\" or \"off\"; this is \"docker.sock\"",
        ),
        (
            "[rules]\npresets = [\"dockerhub\"]",
            "steer.toml:2: there is no preset \"dockerhub\"; did you mean \"docker-hub\"?",
        ),
        (
            "[rules]\nvpn = [\n  \"ok.example\",\n  \"not ok.example\",\n]",
            "steer.toml:4: \"not ok.example\" is not a domain: ' ' cannot be part of a name; letters, digits, hyphens and underscores can",
        ),
        (
            "[rules]\ndirect = [\"a.*.example\"]",
            "steer.toml:2: \"a.*.example\" is not a domain: a wildcard may only be the whole first label; write *.example.com (the names below it) or .example.com (with the name itself)",
        ),
        (
            "[rules]\nvpn = [\n\"203.0.113.7/24\"]",
            "steer.toml:3: \"203.0.113.7/24\" is not a range of addresses: it has bits beyond its prefix; write 203.0.113.0/24 for the range, or the address without a slash for it alone",
        ),
        (
            "[rules]\nvpn = [\"regex:(\"]",
            "steer.toml:2: \"regex:(\" cannot be looked for in names: the regular expression is wrong: unclosed group",
        ),
        (
            "[rules]\nvpn = [\"a.example\"]\ndirect = [\"a.example\"]",
            "steer.toml:3: \"a.example\" is to go direct here and vpn at steer.toml:2; keep one of the two",
        ),
        (
            "[rules]\nlists = [{ file = \"x\" }]",
            "steer.toml:2: unknown key \"file\" in [rules.lists]; the keys there are path, verdict, vpn, format, select",
        ),
        (
            "[[rules.lists]]\npath = \"x\"\nselct = []",
            "steer.toml:3: unknown key \"selct\" in [rules.lists]; did you mean \"select\"?",
        ),
        (
            "[rules]\nlists = [\n{ path = 3 }]",
            "steer.toml:3: rules.lists.path must be a string: the path of a file such as \"blocked.txt\"; this is the number 3",
        ),
        (
            "[rules]\nlists = [\"blocked.txt\"]",
            "steer.toml:2: rules.lists must be a list such as [{ path = \"blocked.txt\", verdict = \"vpn\" }]; this is the string \"blocked.txt\"",
        ),
        (
            "[[rules.lists]]\nverdict = \"vpn\"",
            "steer.toml:1: a list lacks its path; write { path = \"blocked.txt\", verdict = \"vpn\" }",
        ),
        (
            "[[rules.lists]]\npath = \"x\"\nverdict = \"drop\"",
            "steer.toml:3: rules.lists.verdict must be \"vpn\", \"direct\" or \"block\"; this is \"drop\"",
        ),
        (
            "[[rules.lists]]\npath = \"x\"\nformat = \"addblock\"",
            "steer.toml:3: there is no format \"addblock\"; did you mean \"adblock\"?",
        ),
        (
            "[[rules.lists]]\npath = \"x\"\nselect = [\"docker\",\n\"@\"]",
            "steer.toml:4: \"@\" selects no part of a list; write geosite:docker, geosite:google@ads (with that attribute) or geosite:google@-cn (without)",
        ),
        (
            "[[rules.lists]]\n\npath = \"/nonexistent/x\"",
            "steer.toml:3: cannot read the list /nonexistent/x: No such file or directory (os error 2)",
        ),
        (
            "[dns]\nresolve = \"no\"",
            "steer.toml:2: dns.resolve must be true or false; this is the string \"no\"",
        ),
        (
            "[sni]\nports = [443,\n70000]",
            "steer.toml:3: sni.ports must be a list of ports from 1 to 65535, such as [443, 8443]; this is the number 70000",
        ),
        (
            "[sni]\nhttp_ports = [\n0]",
            "steer.toml:3: a port is from 1 to 65535",
        ),
        (
            "[sni]\nports = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,\n17]",
            "steer.toml:3: these are more than 16 ports, which is the most",
        ),
        (
            "[sni]\nlate = \"drop\"",
            "steer.toml:2: sni.late must be \"reset\" or \"learn\"; this is \"drop\"",
        ),
        (
            "[routing]\nmark = 0x4000",
            "steer.toml:2: the mark 0x4000 with mask 0x3000 cannot be used: it must not be zero and all its bits must be within the mask; set [routing] mark and mask, for example 0x1000 and 0x3000",
        ),
        (
            "[routing]\nmask = 0",
            "steer.toml:2: the mark 0x1000 with mask 0x0 cannot be used: it must not be zero and all its bits must be within the mask; set [routing] mark and mask, for example 0x1000 and 0x3000",
        ),
        (
            "[tables]\naddresses = 1023",
            "steer.toml:2: tables.addresses must be from 1024 to 1048576; this is 1023",
        ),
        (
            "[tables]\naddresses = 1048576\nflows = 1048577",
            "steer.toml:3: tables.flows must be from 1024 to 1048576; this is 1048577",
        ),
        (
            "[tables]\nflows = \"many\"",
            "steer.toml:2: tables.flows must be a whole number from 1024 to 1048576, such as 65536; this is the string \"many\"",
        ),
        (
            "[routing]\ntable = 254",
            "steer.toml:2: routing table 254 is the system's own: set [routing] table to a free number, for example 7350",
        ),
        (
            "[routing]\npriority = 32766",
            "steer.toml:2: rule priority 32766 cannot be used: it must be from 1 to 32746, before the main table's rule; set [routing] priority, for example to 7350",
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(refusal(text), sentence, "{text}");
    }
}

#[test]
fn broken_toml_is_told_with_its_line() {
    for (text, start) in [
        ("[vpn]\ninterface = wg0\n", "steer.toml:2: "),
        ("[vpn]\ninterface = \"wg0\n", "steer.toml:2: "),
        ("[vpn\n", "steer.toml:1: "),
        (
            "[vpn]\ninterface = \"a\"\ninterface = \"b\"\n",
            "steer.toml:3: ",
        ),
    ] {
        let sentence = refusal(text);
        assert!(
            sentence.starts_with(start) && sentence.len() > start.len(),
            "{sentence}"
        );
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = ConfigFile::read(Path::new("/nonexistent/steer.toml")).unwrap_err();
    assert_eq!(
        format!("{:#}", anyhow::Error::from(error)),
        "cannot read the configuration file /nonexistent/steer.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn read_again_it_is_as_the_file_says_now_under_the_same_flags() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steer.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("[rules]\nvpn = [\"a.example\"]\n");
    let flags = Overrides {
        no_presets: true,
        vpn_domains: vec!["b.example".to_owned()],
        ..Overrides::default()
    };
    let file = ConfigFile::find(Some(&path)).unwrap();
    let before = Settings::resolve(file, flags).unwrap();
    assert_eq!(before.files, [path.as_path()]);
    assert_eq!(before.reread().unwrap(), before);

    write("[rules]\nvpn = [\"c.example\"]\n");
    let now = before.reread().unwrap();
    assert_eq!(verdict(&now, "a.example"), None);
    assert_eq!(verdict(&now, "b.example"), Some(Verdict::Vpn));
    assert_eq!(verdict(&now, "c.example"), Some(Verdict::Vpn));

    write("[rules]\nvpn = [\"not a name\"]\n");
    assert!(now.reread().is_err());
    std::fs::remove_file(&path).unwrap();
    assert!(now.reread().is_err());
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn in_folder(folder: &Path, flags: Overrides) -> Result<Settings, ConfigError> {
    Settings::resolve(ConfigFile::find(Some(&folder.join("steer.toml")))?, flags)
}

#[test]
fn lists_are_read_from_beside_the_file() {
    let folder = folder(&[
        (
            "steer.toml",
            "[rules]\npresets = []\ndirect = [\"mine.example\"]\nlists = [{ path = \"blocked.txt\" }, { path = \"cdn/hosts\", verdict = \"direct\", format = \"hosts\" }]\n",
        ),
        (
            "blocked.txt",
            "mine.example\nblocked.example\nbad name\n203.0.113.0/24\n",
        ),
        ("cdn/hosts", "0.0.0.0 cdn.blocked.example\n"),
        ("more.txt", "more.example\n"),
    ]);
    let at = |name: &str| folder.path().join(name);
    let flags = Overrides {
        vpn_lists: vec![at("more.txt")],
        ..Overrides::default()
    };
    let settings = in_folder(folder.path(), flags).unwrap();
    for (name, expected) in [
        ("mine.example", Verdict::Direct),
        ("a.mine.example", Verdict::Vpn),
        ("a.blocked.example", Verdict::Vpn),
        ("cdn.blocked.example", Verdict::Direct),
        ("more.example", Verdict::Vpn),
    ] {
        assert_eq!(verdict(&settings, name), Some(expected), "{name}");
    }
    let address = "203.0.113.7".parse().unwrap();
    let judgement = settings.rules.decide_address(address).unwrap();
    let list = at("blocked.txt").display().to_string();
    assert_eq!(judgement.origin.to_string(), format!("{list}:4"));
    assert_eq!(
        settings.files,
        ["steer.toml", "blocked.txt", "cdn/hosts", "more.txt"].map(at)
    );
    let [blocked, ..] = &settings.lists[..] else {
        panic!()
    };
    assert_eq!((blocked.rules, blocked.skipped), (3, 1));
    let complaint = format!(
        "{list}:3: \"bad name\" is not a domain: ' ' cannot be part of a name; letters, digits, hyphens and underscores can"
    );
    assert_eq!(blocked.complaints, [complaint]);
    assert_eq!(settings.rules.own().len(), 1);
}

#[test]
fn v2fly_folders_are_read_with_what_their_lists_include() {
    let folder = folder(&[
        (
            "steer.toml",
            "[rules]\npresets = []\nlists = [{ path = \"data\", select = [\"geosite:top@-cn\"] }]\n",
        ),
        ("data/top", "top.example\ninclude:low @a\ninclude:gone\n"),
        (
            "data/low",
            "low.example @a\nno.example\nboth.example @a @cn\ninclude:top\n",
        ),
    ]);
    let settings = in_folder(folder.path(), Overrides::default()).unwrap();
    let decided = ["top.example", "low.example", "no.example", "both.example"]
        .map(|name| settings.rules.decide(name).is_some());
    assert_eq!(decided, [true, true, false, false]);
    assert_eq!(settings.files.len(), 3);
    let [list] = &settings.lists[..] else {
        panic!()
    };
    let data = folder.path().join("data");
    let complaint = format!(
        "{0}/top:3: cannot read the list {0}/gone: No such file or directory (os error 2)",
        data.display()
    );
    assert_eq!(list.complaints, [complaint]);
}

#[test]
fn a_list_that_is_nothing_like_one_is_an_error() {
    for (text, keys, why) in [
        (
            "<!DOCTYPE html>\n<html>\n",
            "",
            "has no rule in the format plain; ",
        ),
        (
            "a.example\n",
            "select = [\"geosite:a\"]",
            "is in the format plain, which has no parts to select",
        ),
        (
            "full:a.example\n",
            "select = [\"geosite:a\"]",
            "is one category, so \"geosite:a\" can only select by attributes, as in \"@cn\"; or name the folder that it is in",
        ),
        (
            "a.example\n",
            "format = \"geosite\"",
            "it is no geosite.dat, or is damaged; fetch it again",
        ),
    ] {
        let file = format!("[[rules.lists]]\npath = \"list\"\n{keys}\n");
        let folder = folder(&[("steer.toml", &file), ("list", text)]);
        let refusal = in_folder(folder.path(), Overrides::default()).unwrap_err();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    let folder = folder(&[
        (
            "steer.toml",
            "[[rules.lists]]\npath = \"data\"\nselect = [\"dokcer\"]\n",
        ),
        ("data/docker", "docker.example\n"),
    ]);
    let refusal = in_folder(folder.path(), Overrides::default()).unwrap_err();
    let told = refusal.to_string();
    assert!(
        told.ends_with("there is no category \"dokcer\"; did you mean \"docker\"?"),
        "{told}"
    );
}

#[test]
fn what_is_blocked_may_be_written_everywhere() {
    let folder = folder(&[
        (
            "steer.toml",
            "[rules]\npresets = []\nvpn = [\".a.example\"]\nblock = [\"doh.a.example\", \"203.0.113.0/24\", \"keyword:doh\"]\n\
             lists = [{ path = \"doh\", verdict = \"block\" }, { path = \"other\" }]\n",
        ),
        (
            "doh",
            "||dns.example^\n||both.example^\n@@||x.dns.example^\n",
        ),
        ("other", "both.example\n"),
        ("more", "more.example\n"),
    ]);
    let flags = Overrides {
        block_domains: vec!["flag.a.example".to_owned()],
        block_lists: vec![folder.path().join("more")],
        ..Overrides::default()
    };
    let settings = in_folder(folder.path(), flags).unwrap();
    for (name, expected) in [
        ("a.example", Verdict::Vpn),
        ("doh.a.example", Verdict::Block),
        ("flag.a.example", Verdict::Block),
        ("doh.other.example", Verdict::Block),
        ("x.dns.example", Verdict::Block),
        ("x.more.example", Verdict::Block),
        // Of two lists that contradict each other, what must work does.
        ("both.example", Verdict::Vpn),
    ] {
        assert_eq!(verdict(&settings, name), Some(expected), "{name}");
    }
    let address = "203.0.113.7".parse().unwrap();
    let judgement = settings.rules.decide_address(address).unwrap();
    assert_eq!(judgement.verdict, Verdict::Block);
    assert!(settings.rules.blocks_names());
    let [list, ..] = &settings.lists[..] else {
        panic!()
    };
    assert!(
        list.complaints[0].contains("it is an exception"),
        "{list:?}"
    );
    assert_eq!(
        refusal("[rules]\nblock = [\"b.example\"]\ndirect = [\"b.example\"]\n"),
        "steer.toml:2: \"b.example\" is to go nowhere here and direct at steer.toml:3; keep one of the two"
    );
}

#[test]
fn exceptions_of_a_list_for_the_vpn_go_direct() {
    let list = "||a.example^\n@@||b.a.example^\n";
    let with = |verdict: &str| {
        let file = format!(
            "[rules]\npresets = []\nlists = [{{ path = \"list\", verdict = \"{verdict}\" }}]\n"
        );
        let folder = folder(&[("steer.toml", &file), ("list", list)]);
        in_folder(folder.path(), Overrides::default()).unwrap()
    };
    assert_eq!(verdict(&with("vpn"), "b.a.example"), Some(Verdict::Direct));
    let direct = with("direct");
    assert_eq!(verdict(&direct, "b.a.example"), Some(Verdict::Direct));
    assert_eq!((direct.lists[0].rules, direct.lists[0].skipped), (1, 1));
}

#[test]
fn a_bad_flag_is_named() {
    let flags = Overrides {
        vpn_domains: vec!["a..b".to_owned()],
        ..Overrides::default()
    };
    assert_eq!(
        with_flags("", flags).unwrap_err().to_string(),
        "--vpn-domain: \"a..b\" is not a domain: it has an empty label between two dots"
    );
    let flags = Overrides {
        bpffs: Some("pins".into()),
        ..Overrides::default()
    };
    assert_eq!(
        with_flags("", flags).unwrap_err().to_string(),
        "--bpffs: the directory must be an absolute path such as /sys/fs/bpf/steer; this is pins"
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in r#"(\[(vpn|attach|rules|routing|x)\]\n|(interface|on_down|cgroups|mark|vpn|x) = ("[^"]{0,20}"|\[("a", ?)*\]|-?[0-9]{1,12}|\{\}|x)\n|\PC{0,20}\n){0,8}"#) {
        if let Err(error) = settings(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

/// Two VPNs, and what means them.
const SEVERAL: &str = r#"
[[vpn]]
name = "us"
interface = "tun1"
[[vpn]]
name = "de"
interface = "wg0"
default = true
on_down = "direct"

[[scope]]
network = "underbridge"
vpn = "us"
default = "direct"
dns = "1.1.1.1"

[rules]
presets = []
vpn = [".docker.io", { rule = ".netflix.com", vpn = "us" }, { rule = "x.example" }]
"#;

#[test]
fn no_vpn_lets_out_what_a_scope_isolates() {
    let isolated = SEVERAL.replace("default = \"direct\"\n", "");
    let said = refusal(&isolated);
    assert!(
        said.starts_with("steer.toml:9: vpn.on_down is \"direct\", which would let out"),
        "{said}"
    );
}

#[test]
fn several_vpns_arrive_in_their_order() {
    let settings = settings(SEVERAL).unwrap();
    let vpns = settings.vpns.iter().map(|vpn| {
        let VpnChoice::Named(interface) = &vpn.interface.value else {
            panic!("{vpn:?}");
        };
        (vpn.name.as_str(), interface.as_str(), vpn.on_down.value)
    });
    let wanted = [("us", "tun1", OnDown::Block), ("de", "wg0", OnDown::Direct)];
    assert_eq!(vpns.collect::<Vec<_>>(), wanted);
    assert_eq!(settings.default_vpn, VpnId(1));
    assert_eq!(settings.routing.vpns, 2);
    assert_eq!(settings.scopes[0].vpn, Some(VpnId(0)));
    let by = |name| settings.rules.decide(name).unwrap();
    for (name, vpn) in [
        ("a.docker.io", None),
        ("www.netflix.com", Some(VpnId(0))),
        ("x.example", None),
    ] {
        assert_eq!((by(name).verdict, by(name).vpn), (Verdict::Vpn, vpn));
    }
    let one =
        self::settings("[vpn]\nname = \"us\"\n[rules]\nvpn = [{ rule = \"a\", vpn = \"us\" }]\n");
    assert_eq!(one.unwrap().vpns[0].name, "us");
}

#[test]
fn vpns_that_cannot_be_are_refused() {
    let first = "[[vpn]]\nname = \"us\"\ninterface = \"tun1\"\n";
    for (text, why) in [
        (
            "[[vpn]]\nname = \"us\"\ninterface = \"tun2\"\n",
            "steer.toml:4: \"us\" is the name of the VPN at steer.toml:1 already; give each its own",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterface = \"tun1\"\n",
            "steer.toml:6: tun1 is the interface of the VPN at steer.toml:1 already; keep one of the two",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterface = \"auto\"\n",
            "steer.toml:6: \"auto\" is for one VPN alone; name the interface of each, such as \"wg0\"",
        ),
        (
            "[[vpn]]\ninterface = \"wg0\"\n",
            "steer.toml:4: this VPN lacks its name, by which rules and scopes mean it; write name = \"us\"",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterfaces = \"wg0\"\n",
            "steer.toml:6: unknown key \"interfaces\" in [vpn]; did you mean \"interface\"?",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterface = 7\n",
            "steer.toml:6: vpn.interface must be a string: an interface such as \"wg0\", or \"auto\"; this is the number 7",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterface = \"wg0\"\n[rules]\nvpn = [{ rule = \"a\", vpn = \"dr\" }]\n",
            "steer.toml:8: there is no VPN \"dr\"; did you mean \"de\"?",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterface = \"wg0\"\n[rules]\nvpn = [\"a\", { rule = \"a\", vpn = \"de\" }]\n",
            "steer.toml:8: \"a\" is to go vpn here and by another VPN at steer.toml:8; keep one of the two",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterface = \"wg0\"\n[rules]\nlists = [{ path = \"x\", verdict = \"direct\", vpn = \"de\" }]\n",
            "steer.toml:8: what a list sends direct or blocks takes no VPN; leave vpn or the verdict out",
        ),
        (
            "[[vpn]]\nname = \"de\"\ninterface = \"wg0\"\n[[vpn]]\nname = \"c\"\ninterface = \"wg1\"\n",
            "steer.toml:7: the mask 0x3000 has no room for the marks of 3 VPNs: set [routing] mask to more bits, of which mark is one, for example mask = 0x7000",
        ),
    ] {
        assert_eq!(refusal(&format!("{first}{text}")), why);
    }
    let more = format!("{first}[[vpn]]\nname = \"de\"\ninterface = \"wg0\"\n");
    let flags = Overrides {
        vpn: Some("tun0".to_owned()),
        ..Overrides::default()
    };
    let error = with_flags(&more, flags).unwrap_err().to_string();
    assert!(
        error.starts_with("--vpn: it is not clear which VPN it replaces"),
        "{error}"
    );
}
