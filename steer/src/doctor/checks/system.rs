//! Kernel and process: what a run checks before it attaches anything, in its own sentences.

use crate::doctor::{
    facts::{Facts, Looked},
    finding::{Check, Finding},
};

pub(super) const KERNEL: Check = Check::new("kernel", "the kernel's version");
pub(super) const BTF: Check = Check::new("btf", "the kernel's type information");
pub(super) const BPF_FS: Check = Check::new("bpf-fs", "the BPF file system");
pub(super) const CGROUP2: Check = Check::new("cgroup2", "the cgroup2 hierarchy");
pub(super) const CAPABILITIES: Check = Check::new("capabilities", "what this process may do");
pub(super) const NFT: Check = Check::new("nft", "the nft program and the table inet steer");

pub(super) fn kernel(facts: &Facts) -> Finding {
    match &facts.system.kernel {
        Ok(version) => KERNEL.well(format!("Linux {version}")),
        Err(why) => KERNEL
            .broken(
                why,
                "older kernels lack ring buffers and socket options that programs set: steer run refuses to start",
            )
            .mend("uname -r    # then install a newer kernel of your distribution and boot it"),
    }
}

pub(super) fn btf(facts: &Facts) -> Finding {
    required(
        BTF,
        &facts.system.btf,
        "/sys/kernel/btf/vmlinux is there",
        "the kernel programs are fitted to the running kernel by it: steer run refuses to start",
        "grep CONFIG_DEBUG_INFO_BTF /boot/config-$(uname -r)    # it must be y",
    )
}

pub(super) fn bpf_fs(facts: &Facts) -> Finding {
    required(
        BPF_FS,
        &facts.system.bpf_fs,
        &format!("{} is on one", facts.settings.bpffs.display()),
        "what is pinned there goes on steering while steer itself is not running: steer run refuses to start",
        "mount -t bpf bpf /sys/fs/bpf",
    )
}

pub(super) fn cgroup2(facts: &Facts) -> Finding {
    required(
        CGROUP2,
        &facts.system.cgroup2,
        "it is mounted",
        "processes are steered by their cgroup: without it steer run refuses to start",
        "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
    )
}

/// To look needs less than to run, so this alone is no reason to call the host broken.
pub(super) fn capabilities(facts: &Facts) -> Finding {
    match &facts.system.privileges {
        Ok(()) => CAPABILITIES.well("all that a run needs"),
        Err(why) => CAPABILITIES
            .advice(
                why,
                "a run refuses to start without, and some checks see less",
            )
            .mend("sudo steer doctor"),
    }
}

pub(super) fn nft(facts: &Facts) -> Finding {
    let matters = "steer masquerades what leaves by the VPN in a table of its own: steer run refuses to start";
    let survey = match &facts.survey {
        Ok(survey) => survey,
        Err(why) => return NFT.unknown(why),
    };
    match (&survey.nft, &facts.system.privileges) {
        (None, _) => NFT.well("installed, and the table is steer's or not there"),
        (Some(why), Err(_)) if !why.contains("not installed") => NFT.unknown(why),
        (Some(why), _) if why.contains("not installed") => NFT
            .broken(why, matters)
            .mend("apt-get install nftables    # or your distribution's package of that name"),
        (Some(why), _) => NFT
            .broken(why, matters)
            .mend("nft list table inet steer    # and delete or rename it if it may go"),
    }
}

fn required(check: Check, met: &Looked<()>, well: &str, matters: &str, mend: &str) -> Finding {
    match met {
        Ok(()) => check.well(well),
        Err(why) => check.broken(why, matters).mend(mend),
    }
}
