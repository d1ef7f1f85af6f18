//! Everything of a host that steer may touch, as text that two moments can be compared by.

use std::fmt::{self, Write as _};

use anyhow::Result;

use super::{Lab, Ns};

/// The state of the box at one moment: rules, routes, the nft ruleset, qdiscs and filters,
/// sysctls, cgroup programs and bpffs. Counters and the like are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSnapshot {
    sections: Vec<(String, String)>,
}

/// What tells one moment's state; each in the box's namespace.
const QUESTIONS: [&str; 11] = [
    "ip rule show",
    "ip -6 rule show",
    "ip route show table all",
    "ip -6 route show table all",
    "ip -o link show",
    "nft --stateless list ruleset",
    "tc qdisc show",
    "for dev in $(ip -o link | sed 's/^[0-9]*: //; s/[:@].*//'); do
         for hook in ingress egress; do tc filter show dev $dev $hook 2>&1; done
     done",
    "bpftool net show",
    "cd /proc/sys/net; grep -rs '' ipv4 ipv6 core bridge | sort",
    "iptables-legacy-save 2>/dev/null | grep -v '^#' | sed 's/ \\[.*\\]$//' || true",
];

impl HostSnapshot {
    /// Takes it now.
    pub fn take(lab: &Lab) -> Result<Self> {
        let mut sections = Vec::new();
        for question in QUESTIONS {
            sections.push((
                question.to_owned(),
                lab.run(Ns::Box, &["sh", "-c", question])?.stdout,
            ));
        }
        let cgroup = lab.cgroup().display();
        let bpffs = lab.bpffs();
        for question in [
            format!("bpftool cgroup tree {cgroup}"),
            format!("find {} | sort", bpffs.display()),
        ] {
            let text = lab.run(Ns::Box, &["sh", "-c", &question])?.stdout()?;
            sections.push((question, text));
        }
        Ok(Self { sections })
    }

    /// What `later` has more (`+`) and less (`-`) than this, line by line, under the command
    /// that shows it; empty when nothing differs.
    pub fn diff(&self, later: &Self) -> String {
        let mut text = String::new();
        for ((question, before), (_, after)) in self.sections.iter().zip(&later.sections) {
            if before == after {
                continue;
            }
            let _ = writeln!(text, "{question}");
            let (before, after): (Vec<_>, Vec<_>) =
                (before.lines().collect(), after.lines().collect());
            for line in before.iter().filter(|line| !after.contains(line)) {
                let _ = writeln!(text, "  - {line}");
            }
            for line in after.iter().filter(|line| !before.contains(line)) {
                let _ = writeln!(text, "  + {line}");
            }
            if text.ends_with(&format!("{question}\n")) {
                text.push_str("  the same lines in another order or number\n");
            }
        }
        text
    }
}

impl fmt::Display for HostSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sections
            .iter()
            .try_for_each(|(question, text)| write!(f, "$ {question}\n{text}"))
    }
}
