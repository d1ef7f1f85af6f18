//! Hosts that are broken in one way each: `steer doctor` names it, mends it where it says that it can, and takes that back byte for byte.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steer_tests::{
    fixture::Shared,
    lab::{HostSnapshot, cgroup2, plan::TUNNEL_V4},
};

/// Of what processes run, the machine's own cannot be told apart.
const OF_MACHINE: &str = "other-steering";
/// A BPF file system, as most hosts have.
const USUAL: &str = "mount -t bpf bpf /sys/fs/bpf";
/// As somebody wrote it, with tabs and without a newline at its end.
const DAEMON_JSON: &str =
    "{\n\t\"debug\" : false,\n\t\"log-opts\": {\"max-size\":\"10m\"},   \"hosts\": [ ]\n}";
/// Docker's default bridge as dockerd makes it.
const DOCKER0: &str = "ip link add docker0 type bridge
    ip addr add 172.17.0.1/16 dev docker0
    ip link set docker0 up";
/// Something that is named as the VPN, with nobody at its far end.
const DEAF: &str = "ip link add vpn9 type veth peer name vpn9far
    echo 1 >/proc/sys/net/ipv6/conf/vpn9/disable_ipv6
    echo 1 >/proc/sys/net/ipv6/conf/vpn9far/disable_ipv6
    ip addr add 10.99.0.2/24 dev vpn9
    ip link set vpn9far up
    ip link set vpn9 up";

/// The reverse path filter of the VPN, whose answers else count for nothing while steer does not run.
const LOOSE: &str = "for it in tun0 wg0; do it=/proc/sys/net/ipv4/conf/$it/rp_filter; [ ! -e $it ] || echo 2 >$it; done";
const STRICT: &str = "for it in tun0 wg0; do it=/proc/sys/net/ipv4/conf/$it/rp_filter; [ ! -e $it ] || echo 1 >$it; done";

/// A host that is broken in one way.
struct Host {
    /// The check that names it.
    id: &'static str,
    /// What the finding says then.
    state: &'static str,
    /// A part of what was found or of what mends it.
    says: String,
    /// What is done to its mounts, before doctor sees it.
    mounts: String,
    /// What is done to its network, and how that is taken back.
    network: (String, &'static str),
    /// A part of the configuration, and what stands there instead.
    config: (String, String),
}

impl Host {
    fn new(id: &'static str, state: &'static str, says: &str) -> Self {
        Self {
            id,
            state,
            says: says.to_owned(),
            mounts: USUAL.to_owned(),
            network: (String::new(), ""),
            config: (String::new(), String::new()),
        }
    }

    fn mounts(self, lines: &str) -> Self {
        Self {
            mounts: format!("{USUAL}\n{lines}"),
            ..self
        }
    }

    fn network(self, broken: impl Into<String>, back: &'static str) -> Self {
        Self {
            network: (broken.into(), back),
            ..self
        }
    }

    fn config(self, part: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            config: (part.into(), instead.into()),
            ..self
        }
    }
}

/// The lab's box with files of its own.
struct Patient {
    lab: Shared,
    dir: PathBuf,
}

/// What doctor said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    value: Value,
    stderr: String,
}

impl Said {
    fn finding(&self, id: &str) -> Result<&Value> {
        let findings = self.value["findings"].as_array().into_iter().flatten();
        let mut of_id = findings.filter(|finding| finding["id"] == id);
        of_id
            .next()
            .with_context(|| format!("doctor has no check {id}"))
    }

    fn state(&self, id: &str) -> Result<&str> {
        Ok(self.finding(id)?["state"].as_str().unwrap_or_default())
    }

    /// All that it says of a check.
    fn of(&self, id: &str) -> Result<String> {
        let finding = self.finding(id)?;
        let texts = ["found", "matters", "mend"].map(|key| finding[key].as_str());
        Ok(texts.into_iter().flatten().collect::<Vec<_>>().join("\n"))
    }
}

impl Patient {
    fn new(name: &str) -> Result<Self> {
        Self::of(Shared::unsteered()?, name)
    }

    fn of(lab: Shared, name: &str) -> Result<Self> {
        let dir = lab.lab.dir().join(name);
        fs::create_dir_all(dir.join("sysctl.d"))?;
        fs::write(dir.join("steer.toml"), lab.config())?;
        fs::write(dir.join("nsswitch.conf"), "hosts: files dns\n")?;
        Ok(Self { lab, dir })
    }

    fn daemon_json(&self) -> PathBuf {
        self.dir.join("docker/daemon.json")
    }

    fn doctor(&self, mounts: &str, args: &[&str]) -> Result<Said> {
        let (config, state, daemon_json) = (
            self.path("steer.toml")?,
            self.path("state")?,
            self.daemon_json(),
        );
        let daemon_json = daemon_json.to_str().context("not UTF-8")?;
        let mut all = vec!["--state-dir", &state, "--daemon-json", daemon_json];
        if !args.contains(&"--undo") {
            all.extend(["--config", &config]);
        }
        all.extend(args);
        // What the machine itself has of these makes no difference.
        let files = format!(
            "mount --bind {} /etc/sysctl.d
             mount --bind {} /etc/nsswitch.conf
             if [ -e /run/nscd ]; then mount -t tmpfs none /run/nscd; fi",
            self.path("sysctl.d")?,
            self.path("nsswitch.conf")?
        );
        let prelude = format!("{files}\n{mounts}");
        let ran = self.lab.lab.steer_doctor(&prelude, &all)?;
        let value = serde_json::from_str(&ran.stdout)
            .with_context(|| format!("doctor {args:?} printed no JSON: {}", ran.said()))?;
        Ok(Said {
            code: ran.code,
            value,
            stderr: ran.stderr,
        })
    }

    fn path(&self, name: &str) -> Result<String> {
        let path = self.dir.join(name);
        Ok(path.to_str().context("not UTF-8")?.to_owned())
    }

    fn in_box(&self, line: &str) -> Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        self.lab.in_box(line).map(drop)
    }

    /// Docker's file, as somebody keeps it from others.
    fn write_daemon_json(&self) -> Result<()> {
        let file = self.daemon_json();
        fs::create_dir_all(file.parent().context("it is in a folder")?)?;
        fs::write(&file, DAEMON_JSON)?;
        Ok(fs::set_permissions(
            &file,
            fs::Permissions::from_mode(0o640),
        )?)
    }

    fn is_as_written(&self) -> Result<()> {
        let file = self.daemon_json();
        assert_eq!(fs::read_to_string(&file)?, DAEMON_JSON);
        let mode = fs::metadata(&file)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o640, "its mode is {mode:o}");
        ensure!(
            !self.dir.join("state").exists(),
            "the journal is still there"
        );
        Ok(())
    }
}

fn hosts(patient: &Patient) -> Result<Vec<Host>> {
    let dev = patient.lab.lab.tunnel_interface();
    let interface = format!("interface = \"{dev}\"");
    let other_vpn = |name: &str| (interface.clone(), format!("interface = \"{name}\""));
    let cgroup2 = cgroup2()?;
    let broken = |id, says: &str| Host::new(id, "broken", says);
    let advice = |id, says: &str| Host::new(id, "advice", says);
    let nothing = patient.path("nothing")?;
    fs::write(&nothing, "# no name server\n")?;
    let nsswitch = patient.path("resolved.conf")?;
    fs::write(&nsswitch, "hosts: files resolve [!UNAVAIL=return] dns\n")?;

    let mut hosts = vec![
        broken("configuration", "unknown key").config("presets", "preset"),
        broken("btf", "CONFIG_DEBUG_INFO_BTF").mounts("mount -t tmpfs none /sys/kernel/btf"),
        Host {
            mounts: "mount -t tmpfs none /sys/fs/bpf".to_owned(),
            ..broken("bpf-fs", "mount -t bpf bpf /sys/fs/bpf")
        },
        broken("cgroup2", "mount -t cgroup2").mounts(&format!("umount -l {}", cgroup2.display())),
        advice("capabilities", "CAP_NET_ADMIN").mounts(
            "set -- setpriv --bounding-set=-all --inh-caps=-all --no-new-privs \"$@\"",
        ),
        broken("nft", "is not steer's").network(
            "nft add table inet steer; nft add chain inet steer own",
            "nft delete table inet steer",
        ),
        broken("docker-socket", "does not answer at /nonexistent.sock")
            .config("docker = \"off\"", "docker = \"/nonexistent.sock\""),
        Host::new("scopes", "unknown", "knows who is in a scope").config(
            "docker = \"off\"",
            "docker = \"/nonexistent.sock\"\n[[scope]]\nnetwork = \"under\"\ndns = \"198.51.100.53\"",
        ),
        broken("scope-resolvers", "no answer through")
            .config("resolve = false", "resolve = false\nvpn = \"10.200.0.1\"")
            .network(LOOSE, STRICT),
        broken("nat-pmp", "gives no answer by NAT-PMP")
            .config(
                "docker = \"off\"",
                "docker = \"/nonexistent.sock\"\n[[scope]]\nnetwork = \"under\"\ndns = \"198.51.100.53\"\n\
                 forward = [\"nat-pmp/tcp -> torrent:4666\"]",
            )
            .network(LOOSE, STRICT),
        broken("docker-cgroup", "nowhere").config("/steered\"", "/nowhere\""),
        advice("docker-mtu", "\"mtu\": 1400").network(
            format!("{DOCKER0}; ip link set eth0 mtu 1400"),
            "ip link set eth0 mtu 1500; ip link del docker0",
        ),
        broken("ip-forward", "net.ipv4.ip_forward=1").network(
            format!("{DOCKER0}; echo 0 >/proc/sys/net/ipv4/ip_forward"),
            "echo 1 >/proc/sys/net/ipv4/ip_forward; ip link del docker0",
        ),
        broken("vpn", "there is no interface \"vpn9\""),
        broken("vpn-up", "vpn9 is down").network(
            format!("{DEAF}; ip link set vpn9 down"),
            "ip link del vpn9",
        ),
        broken("vpn-addresses", &format!("have {TUNNEL_V4}"))
            .config(
                "[vpn]\n",
                "[[vpn]]\nname = \"us\"\ninterface = \"vpn9\"\n[[vpn]]\nname = \"de\"\n",
            )
            .network(
                format!("{DEAF}; ip addr add {TUNNEL_V4}/32 dev vpn9"),
                "ip link del vpn9",
            ),
        broken("vpn-answers", "10.99.0.1 does not answer").network(DEAF, "ip link del vpn9"),
        advice("vpn-mtu", "1200").network(
            format!("{DEAF}; ip link set vpn9 mtu 1200"),
            "ip link del vpn9",
        ),
        advice("vpn-default-route", "pull-filter ignore \"redirect-gateway\"").network(
            format!("ip route add 0.0.0.0/1 dev {dev}; ip route add 128.0.0.0/1 dev {dev}"),
            "ip route del 0.0.0.0/1; ip route del 128.0.0.0/1",
        ),
        broken("rp-filter", "mounted read-only").mounts(
            "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys",
        ),
        broken("address-overlap", "172.16.0.0/12").network(
            format!("{DOCKER0}; ip route add 172.16.0.0/12 via 10.8.0.1 dev {dev}"),
            "ip route del 172.16.0.0/12; ip link del docker0",
        ),
        advice("docker-pools", "192.168.0.0/16").network(
            format!(
                "ip link add br-0123456789ab type bridge; ip addr add 10.77.0.1/24 dev br-0123456789ab
                 ip route add 192.168.0.0/16 via 10.8.0.1 dev {dev}"
            ),
            "ip route del 192.168.0.0/16; ip link del br-0123456789ab",
        ),
        advice("resolver", "names no name server").mounts(&format!(
            "mount --bind {nothing} /etc/resolv.conf"
        )),
        advice("resolver-hidden", "systemd-resolved.service").mounts(&format!(
            "mount --bind {nsswitch} /etc/nsswitch.conf; mount -t tmpfs none /run
             mkdir -p /run/systemd/resolve; touch /run/systemd/resolve/io.systemd.Resolve"
        )),
        advice("resolver-cache", "enable-cache hosts no")
            .mounts("mount -t tmpfs none /run; mkdir /run/nscd; touch /run/nscd/socket"),
        broken("mark", "fwmark 0x1000/0xffff").network(
            "ip rule add pref 100 fwmark 0x1000/0xffff lookup 100",
            "ip rule del pref 100",
        ),
        broken("mark-filters", "0x00001234").network(
            "nft add table ip other
             nft add chain ip other out '{ type route hook output priority 0; }'
             nft add rule ip other out udp dport 9 meta mark set 0x1234",
            "nft delete table ip other",
        ),
        broken("priority", "priority = 7400").network(
            "ip rule add pref 7355 from 192.0.2.1 lookup 100",
            "ip rule del pref 7355",
        ),
        advice("other-steering", "Tailscale").network(
            "ip link add tailscale0 type bridge",
            "ip link del tailscale0",
        ),
        advice("layers", "production.cloudflare.docker.com")
            .config("vpn = [", "vpn = [\".docker.com\", "),
        advice("broad-rules", ".com").config("vpn = [", "vpn = [\".com\", \"11.0.0.0/8\", "),
    ];
    for host in &mut hosts {
        if matches!(host.id, "vpn" | "vpn-up" | "vpn-answers" | "vpn-mtu") {
            host.config = other_vpn("vpn9");
        }
    }
    Ok(hosts)
}

#[test]
fn each_broken_host_is_named() -> Result<()> {
    let patient = Patient::new("named")?;
    let before = HostSnapshot::take(&patient.lab.lab)?;
    let config = patient.lab.config();
    let file = patient.dir.join("steer.toml");
    let sound = patient.doctor(USUAL, &[])?;
    assert_eq!(
        (sound.code, &sound.value["broken"]),
        (Some(0), &0.into()),
        "{sound:?}"
    );
    let hosts = hosts(&patient)?;
    for host in &hosts {
        let id = host.id;
        let sound = sound.finding(id)?;
        assert!(id == OF_MACHINE || sound["state"] == "well", "{sound}");
        let (part, instead) = &host.config;
        assert!(config.contains(part), "{id}: {config}");
        fs::write(&file, config.replacen(part, instead, 1))?;
        patient.in_box(&format!("set -e; {}", host.network.0))?;
        let said = patient.doctor(&host.mounts, &[])?;
        patient.in_box(host.network.1)?;
        let finding = said.finding(id)?;
        println!(
            "{:<8}{id}: {}",
            host.state,
            finding["found"].as_str().unwrap_or_default()
        );
        println!("{:<8}{}", "", finding["mend"].as_str().unwrap_or_default());
        assert_eq!(said.state(id)?, host.state, "{id}: {}", said.of(id)?);
        assert!(said.of(id)?.contains(&host.says), "{id}: {}", said.of(id)?);
        let broken = said.value["broken"] != 0;
        assert_eq!(said.code, Some(i32::from(broken)), "{id}");
    }
    let all = sound.value["findings"].as_array().map_or(0, Vec::len);
    // The kernel is what it is, and a file that is no JSON is below.
    assert_eq!(hosts.len() + 2, all);
    assert_eq!(before.diff(&HostSnapshot::take(&patient.lab.lab)?), "");
    patient.lab.done()
}

#[test]
fn a_host_that_steer_steers_is_well() -> Result<()> {
    let patient = Patient::of(Shared::steered()?, "steered")?;
    let said = patient.doctor(USUAL, &[])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    for finding in said.value["findings"].as_array().into_iter().flatten() {
        let of_machine = finding["id"] == OF_MACHINE;
        assert!(of_machine || finding["state"] == "well", "{finding}");
    }
    patient.lab.done()
}

#[test]
fn an_overlap_is_mended_and_taken_back() -> Result<()> {
    let patient = Patient::new("overlap")?;
    let dev = patient.lab.lab.tunnel_interface();
    patient.in_box(&format!(
        "{DOCKER0}; ip route add 172.16.0.0/12 via 10.8.0.1 dev {dev}
         ip route add 10.200.0.0/16 via 10.8.0.1 dev {dev}"
    ))?;
    patient.write_daemon_json()?;
    let id = "address-overlap";
    let said = patient.doctor(USUAL, &[])?;
    for part in [
        "172.16.0.0/12 of",
        "docker0",
        "172.17.0.0/16",
        "\"bip\"",
        "default-address-pools",
    ] {
        assert!(said.of(id)?.contains(part), "{part}: {}", said.of(id)?);
    }

    let said = patient.doctor(USUAL, &["--fix"])?;
    let text = fs::read_to_string(patient.daemon_json())?;
    assert_eq!(
        text,
        DAEMON_JSON.replacen(
            "[ ]\n",
            "[ ],\n\t\"bip\": \"10.202.0.1/24\",\n\t\"default-address-pools\": [\n\t\t{\n\t\t\t\"base\": \"10.201.0.0/16\",\n\t\t\t\"size\": 24\n\t\t}\n\t]\n",
            1
        )
    );
    assert!(
        said.of(id)?.contains("from dockerd's next start"),
        "{}",
        said.of(id)?
    );
    assert_eq!((said.code, said.state(id)?), (Some(1), "broken"));
    assert_eq!(said.state("docker-pools")?, "well");

    // As dockerd does when it starts.
    patient.in_box("ip addr flush dev docker0; ip addr add 10.202.0.1/24 dev docker0")?;
    let said = patient.doctor(USUAL, &[])?;
    assert_eq!((said.code, said.state(id)?), (Some(0), "well"), "{said:?}");

    patient.doctor(USUAL, &["--undo"])?;
    patient.is_as_written()?;
    let again = patient.doctor(USUAL, &["--undo"]);
    assert!(again.is_err_and(|why| format!("{why:#}").contains("nothing to undo")));
    patient
        .in_box("ip route del 172.16.0.0/12; ip route del 10.200.0.0/16; ip link del docker0")?;
    patient.lab.done()
}

#[test]
fn a_file_of_dockers_that_was_not_there_goes_again() -> Result<()> {
    let patient = Patient::new("made")?;
    patient.in_box(&format!("{DOCKER0}; ip link set eth0 mtu 1400"))?;
    let only = ["--only", "docker-mtu"];
    let said = patient.doctor(USUAL, &["--fix", "--only", "docker-mtu"])?;
    assert_eq!(
        fs::read_to_string(patient.daemon_json())?,
        "{\n  \"mtu\": 1400\n}\n"
    );
    assert!(said.of("docker-mtu")?.contains("already says less"));
    patient.in_box("ip link set docker0 mtu 1400")?;
    assert_eq!(patient.doctor(USUAL, &only)?.state("docker-mtu")?, "well");

    // Somebody goes on writing there.
    fs::write(
        patient.daemon_json(),
        "{\n  \"mtu\": 1400, \"debug\": true\n}\n",
    )?;
    let refused = patient.doctor(USUAL, &["--undo"]);
    assert!(refused.is_err_and(|why| format!("{why:#}").contains("was changed after the fix")));
    fs::write(patient.daemon_json(), "{\n  \"mtu\": 1400\n}\n")?;
    patient.doctor(USUAL, &["--undo"])?;
    assert!(
        !patient.dir.join("docker").exists(),
        "its folder was steer's too"
    );

    fs::create_dir(patient.dir.join("docker"))?;
    fs::write(patient.daemon_json(), "{ \"mtu\": 1400, }\n")?;
    let said = patient.doctor(USUAL, &[])?;
    assert_eq!((said.code, said.state("daemon-json")?), (Some(1), "broken"));
    patient.in_box("ip link set eth0 mtu 1500; ip link del docker0")?;
    patient.lab.done()
}

#[test]
fn forwarding_is_mended_and_taken_back() -> Result<()> {
    let patient = Patient::new("forward")?;
    let sound = HostSnapshot::take(&patient.lab.lab)?;
    patient.in_box(&format!("{DOCKER0}; echo 0 >/proc/sys/net/ipv4/ip_forward"))?;
    // One that an administrator has set by itself, and which the switch for all would take along.
    patient.in_box("echo 1 >/proc/sys/net/ipv4/conf/eth0/forwarding")?;
    let broken = HostSnapshot::take(&patient.lab.lab)?;
    let id = "ip-forward";
    let said = patient.doctor(USUAL, &["--fix"])?;
    assert_eq!((said.code, said.state(id)?), (Some(0), "well"), "{said:?}");
    let drop_in = patient.dir.join("sysctl.d/90-steer-doctor.conf");
    let text = fs::read_to_string(&drop_in)?;
    assert!(text.contains("net.ipv4.ip_forward = 1"), "{text}");
    assert!(patient.doctor(USUAL, &["--fix"])?.value["done"] == Value::Array(Vec::new()));

    patient.doctor(USUAL, &["--undo"])?;
    assert!(!drop_in.exists());
    assert_eq!(broken.diff(&HostSnapshot::take(&patient.lab.lab)?), "");
    assert_eq!(patient.doctor(USUAL, &[])?.state(id)?, "broken");
    patient.in_box("echo 1 >/proc/sys/net/ipv4/ip_forward; ip link del docker0")?;
    assert_eq!(sound.diff(&HostSnapshot::take(&patient.lab.lab)?), "");
    patient.lab.done()
}

#[test]
fn a_fix_that_fails_changes_nothing() -> Result<()> {
    let patient = Patient::new("fails")?;
    patient.in_box(&format!(
        "{DOCKER0}; echo 0 >/proc/sys/net/ipv4/ip_forward; ip link set eth0 mtu 1400"
    ))?;
    patient.write_daemon_json()?;
    // What writes the sysctl fails after the file for the next boot was made.
    let read_only =
        format!("{USUAL}\nmount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
    let failed = patient.doctor(&read_only, &["--fix"])?;
    assert_eq!(
        (failed.code, &failed.value["done"]),
        (Some(1), &Value::Array(Vec::new()))
    );
    let why = failed.stderr;
    assert!(
        why.contains("nothing was changed") && why.contains("read-only"),
        "{why}"
    );
    assert_eq!(fs::read_dir(patient.dir.join("sysctl.d"))?.count(), 0);
    patient.is_as_written()?;
    patient.in_box(
        "echo 1 >/proc/sys/net/ipv4/ip_forward; ip link set eth0 mtu 1500; ip link del docker0",
    )?;
    patient.lab.done()
}
