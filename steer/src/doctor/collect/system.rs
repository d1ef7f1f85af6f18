//! The kernel, what this process may do, sysctls, and the rules of firewalls.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use nix::unistd::{AccessFlags, access};

use crate::{
    doctor::facts::{Looked, Sysctls, System},
    host::{cgroup::Hierarchy, requirements},
};

const IPV4: &str = "/proc/sys/net/ipv4";

pub(super) fn collect(bpffs: &Path) -> System {
    System {
        kernel: super::looked(requirements::check_version().map(|()| requirements::kernel())),
        btf: super::looked(requirements::check_types()),
        bpf_fs: super::looked(requirements::check_pins(bpffs)),
        cgroup2: super::looked(Hierarchy::read().map(drop)),
        privileges: super::looked(requirements::check_privileges()),
    }
}

pub(super) fn sysctls() -> Sysctls {
    let forward = Path::new(IPV4).join("ip_forward");
    let ip_forward = fs::read_to_string(&forward)
        .map(|text| text.trim() != "0")
        .map_err(|error| format!("cannot read {}: {error}", forward.display()));
    let interfaces = fs::read_dir(Path::new(IPV4).join("conf"));
    let rp_filter = interfaces.into_iter().flatten().flatten();
    let rp_filter = rp_filter.filter_map(|interface| {
        let text = fs::read_to_string(interface.path().join("rp_filter")).ok()?;
        let name = interface.file_name().into_string().ok()?;
        Some((name, text.trim().parse().ok()?))
    });
    Sysctls {
        ip_forward,
        rp_filter: rp_filter.collect::<BTreeMap<_, _>>(),
        writable: access(&forward, AccessFlags::W_OK).is_ok(),
    }
}

/// The rules of nftables, which those of iptables are too today, and those of the older iptables where there are any.
pub(super) fn filters() -> Looked<String> {
    let mut rules = said(Command::new("nft").args(["--stateless", "list", "ruleset"]))?;
    if fs::read("/proc/self/net/ip_tables_names").is_ok_and(|tables| !tables.is_empty()) {
        rules += &said(&mut Command::new("iptables-legacy-save")).unwrap_or_default();
    }
    Ok(rules)
}

fn said(command: &mut Command) -> Looked<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    // A user's shell may not have the folders of root's programs on its path.
    let path = std::env::var("PATH").unwrap_or_default();
    let ran = command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output();
    match ran {
        Ok(ran) if ran.status.success() => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
        Ok(ran) => {
            let message = String::from_utf8_lossy(&ran.stderr);
            let message = message.lines().next().unwrap_or("it said nothing");
            Err(format!("`{program}` failed: {message}"))
        }
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}
