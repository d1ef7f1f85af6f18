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
         printf 'filter show dev %s %s\\n' $dev ingress $dev egress
     done | tc -force -batch - 2>&1 || true",
    "bpftool net show",
    "cd /proc/sys/net; grep -rs '' ipv4 ipv6 core bridge | sort",
    "iptables-legacy-save 2>/dev/null | grep -v '^#' | sed 's/ \\[.*\\]$//' || true",
];

/// Between the answers.
const END: char = '\u{1e}';

impl HostSnapshot {
    /// Takes it now.
    pub fn take(lab: &Lab) -> Result<Self> {
        let questions = QUESTIONS.map(str::to_owned).into_iter().chain([
            format!("bpftool cgroup tree {}", lab.cgroup().display()),
            format!("find {} | sort", lab.bpffs().display()),
        ]);
        let questions: Vec<_> = questions.collect();
        let all: Vec<_> = questions
            .iter()
            .map(|text| format!("({text}) || exit\n"))
            .collect();
        let script = all.join(&format!("printf '{END}'\n"));
        let said = lab.run(Ns::Box, &["sh", "-c", &script])?.stdout()?;
        let sections = questions
            .into_iter()
            .zip(said.split(END).map(str::to_owned))
            .collect();
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
