//! What the lab and the builds need of the system, as one table, and its installation by apt.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{step, system};

/// A program that has to be there, and the package that brings it.
pub struct Need {
    /// The program looked for: whoever has it by another way needs no package.
    pub program: &'static str,
    /// Debian's and Ubuntu's names for the package, newest first: the first that exists is taken.
    pub packages: &'static [&'static str],
    /// What it is for.
    pub purpose: &'static str,
}

const fn need(
    program: &'static str,
    packages: &'static [&'static str],
    purpose: &'static str,
) -> Need {
    Need {
        program,
        packages,
        purpose,
    }
}

/// The lab's programs.
pub const LAB: &[Need] = &[
    need("dockerd", &["docker.io"], "the Docker host of the lab"),
    need("docker", &["docker-cli", "docker.io"], "its client"),
    need(
        "docker-registry",
        &["docker-registry"],
        "the registry that images are pulled from",
    ),
    need(
        "nginx",
        &["nginx-light", "nginx"],
        "TLS and the geo-block before the registry",
    ),
    need("dnsmasq", &["dnsmasq-base"], "the lab's DNS"),
    need("wg", &["wireguard-tools"], "the WireGuard tunnel"),
    need(
        "wireguard-go",
        &["wireguard-go"],
        "WireGuard where the kernel has none",
    ),
    need("openvpn", &["openvpn"], "the OpenVPN tunnel"),
    need(
        "miniupnpd",
        &["miniupnpd-nftables"],
        "the VPN's gateway that assigns ports",
    ),
    need("openssl", &["openssl"], "the lab's certificates"),
    need("busybox", &["busybox-static"], "the lab's container image"),
    need("ip", &["iproute2"], "network namespaces"),
    need("nft", &["nftables"], "masquerading and the geo-block"),
    need("iptables", &["iptables"], "dockerd"),
    need("conntrack", &["conntrack"], "tests of flows"),
    need("tcpdump", &["tcpdump"], "tests of paths"),
    need("curl", &["curl"], "requests"),
    need(
        "bpftool",
        &["bpftool", "linux-tools-common"],
        "inspection of programs and maps",
    ),
    need("modprobe", &["kmod"], "modules"),
    need("systemctl", &["systemd"], "steer as a service"),
];

/// Whom steer is compared to, beside what the lab has.
pub const BENCH: &[Need] = &[need("squid", &["squid"], "the proxy of the benchmarks")];

/// What runs the guests of `cargo xtask vm`; virtme-ng and virtiofsd come in other ways.
pub const VM: &[Need] = &[
    need(
        "qemu-system-x86_64",
        &["qemu-system-x86"],
        "the machines of the guests",
    ),
    need("udevadm", &["udev"], "devices of the guests"),
    need("depmod", &["kmod"], "modules of the guests"),
    need(
        "busybox",
        &["busybox-static"],
        "the guests' first file system",
    ),
    need("file", &["file"], "versions of the guests' kernels"),
];

/// The needs of `table` that are not met.
pub fn missing(table: &[Need]) -> Vec<&Need> {
    table
        .iter()
        .filter(|need| system::find(need.program).is_none())
        .collect()
}

/// Each of `needs` in a line.
pub fn describe(needs: &[&Need]) -> Vec<String> {
    let line = |need: &&Need| {
        format!(
            "{} ({}): package {}",
            need.program,
            need.purpose,
            need.packages.join(" or ")
        )
    };
    needs.iter().map(line).collect()
}

/// Installs the programs of `table` that are missing; `whose` they are goes into what is said.
///
/// # Errors
/// When they cannot be installed here: the message lists them.
pub fn ensure(table: &[Need], whose: &str) -> Result<()> {
    let missing = missing(table);
    if missing.is_empty() {
        step::note(&format!("{whose} {} programs: there", table.len()));
        return Ok(());
    }
    if has_apt() {
        return install_needs(&missing);
    }
    for line in describe(&missing) {
        step::note(&format!("missing: {line} of Debian"));
    }
    let programs: Vec<_> = missing.iter().map(|need| need.program).collect();
    bail!(
        "packages can be installed by apt only, and {} has none: install {} with its own package manager, then run this again",
        distribution(),
        programs.join(", ")
    )
}

/// Whether packages can be installed here: Debian, Ubuntu and their kin.
pub fn has_apt() -> bool {
    system::find("apt-get").is_some() && system::find("dpkg").is_some()
}

/// The distribution's name for messages.
pub fn distribution() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(
        || "this system".to_owned(),
        |name| name.trim_matches('"').to_owned(),
    )
}

/// Whether apt knows a package of this name that can be installed.
pub fn is_available(package: &str) -> bool {
    system::output(
        Command::new("apt-cache")
            .args(["policy", package])
            .env("LC_ALL", "C"),
    )
    .is_some_and(|text| {
        text.lines()
            .any(|line| line.trim().starts_with("Candidate:") && !line.ends_with("(none)"))
    })
}

/// Whether the package of this name is installed.
pub fn is_installed(package: &str) -> bool {
    let mut command = Command::new("dpkg-query");
    system::output(command.args(["--show", "--showformat=${db:Status-Abbrev}", package]))
        .is_some_and(|status| status.starts_with("ii"))
}

/// Reads the lists of packages anew when there are none.
pub fn refresh_if_empty() -> Result<()> {
    let lists = fs::read_dir("/var/lib/apt/lists").context("/var/lib/apt/lists cannot be read")?;
    let filled = lists
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
    if filled { Ok(()) } else { refresh() }
}

fn refresh() -> Result<()> {
    system::ensure_root("Reading the package lists")?;
    step::run(
        "apt-get update",
        system::as_root("apt-get").args(["-o", "DPkg::Lock::Timeout=300", "update"]),
    )
}

/// The package to install for each need, by what apt knows here.
fn resolve<'a>(needs: &[&Need]) -> Result<Vec<&'a str>> {
    let mut names = Vec::new();
    for need in needs {
        let Some(name) = need.packages.iter().find(|name| is_available(name)) else {
            bail!(
                "apt knows no package for `{}` ({}; tried {}): enable the distribution's main component (Ubuntu: universe too), \
                 or install the program in another way",
                need.program,
                need.purpose,
                need.packages.join(", ")
            );
        };
        if !names.contains(name) {
            names.push(*name);
        }
    }
    Ok(names)
}

/// Installs what `needs` names.
///
/// # Errors
/// When a package is unknown, root cannot be had, or apt fails.
fn install_needs(needs: &[&Need]) -> Result<()> {
    refresh_if_empty()?;
    let names = resolve(needs).or_else(|_| {
        refresh()?;
        resolve(needs)
    })?;
    install(&names)?;
    if let Some(need) = needs
        .iter()
        .find(|need| system::find(need.program).is_none())
    {
        bail!(
            "`{}` is still missing after its package was installed: look for it by hand",
            need.program
        );
    }
    Ok(())
}

/// Installs packages by name, without starting any service they bring.
///
/// # Errors
/// When root cannot be had or apt fails, also with lists read anew.
pub fn install(names: &[&str]) -> Result<()> {
    system::ensure_root("Installing packages")?;
    let label = format!("apt-get install {}", names.join(" "));
    if step::run(&label, &mut installer(names)).is_ok() {
        return Ok(());
    }
    // Lists that are too old name versions that are gone.
    refresh()?;
    step::run(&label, &mut installer(names))
}

fn installer(names: &[&str]) -> Command {
    let mut command = system::as_root("sh");
    command
        .args(["-c", include_str!("apt-install.sh"), "apt-install"])
        .args(names);
    command
}
