//! Everything of a host that steer may touch, as text that two moments can be compared by.

use std::{
    fmt::{self, Write as _},
    fs,
    path::Path,
};

use anyhow::Result;

use super::{Lab, Ns, exec::Ran};

/// The state of the box at one moment: rules, routes, the nft ruleset, qdiscs and filters,
/// sysctls, cgroup programs and bpffs. Counters and the like are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSnapshot {
    sections: Vec<(String, String)>,
}

/// What tells one moment's state in the box's namespace: a command, and what it reads.
const QUESTIONS: [(&str, &str); 4] = [
    (
        "ip -o -batch -",
        "link show\nrule show\nroute show table all\n",
    ),
    ("ip -6 -o -batch -", "rule show\nroute show table all\n"),
    ("nft --stateless list ruleset", ""),
    ("bpftool net show", ""),
];

impl HostSnapshot {
    /// Takes it now. With few processes, for tests take many.
    pub fn take(lab: &Lab) -> Result<Self> {
        let ask = |line: &str, input: &str| -> Result<Ran> {
            let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
            let mut command = lab.command(Ns::Box, program)?;
            Ran::fed(command.args(arguments.split_whitespace()), input)
        };
        let mut sections = Vec::new();
        for (line, input) in QUESTIONS {
            sections.push((line.to_owned(), ask(line, input)?.stdout()?));
        }
        let mut show = "qdisc show\n".to_owned();
        for device in devices(&sections[0].1) {
            for hook in ["ingress", "egress"] {
                let _ = writeln!(show, "filter show dev {device} {hook}");
            }
        }
        // A device without the hook is an error, and as much a state as any.
        let filters = ask("tc -force -batch -", &show)?;
        sections.push(("tc -batch -".to_owned(), filters.said()));
        let tree = format!("bpftool cgroup tree {}", lab.cgroup().display());
        let programs = ask(&tree, "")?.stdout()?;
        sections.push((tree, programs));

        let (sysctls, legacy) = lab.within(Ns::Box, || {
            let tables = fs::read("/proc/thread-self/net/ip_tables_names");
            (sysctls(), tables.is_ok_and(|tables| !tables.is_empty()))
        })?;
        sections.push(("cd /proc/sys/net; grep -r ''".to_owned(), sysctls));
        let saved = if legacy {
            ask("iptables-legacy-save", "")?.stdout()?
        } else {
            String::new()
        };
        sections.push(("iptables-legacy-save".to_owned(), without_counts(&saved)));
        let mut pins = String::new();
        walk(&lab.bpffs(), &mut |path| {
            let _ = writeln!(pins, "{}", path.display());
        });
        sections.push((format!("find {}", lab.bpffs().display()), pins));
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

/// The names in what `ip -o link show` printed, among other lines.
fn devices(text: &str) -> impl Iterator<Item = &str> {
    let links = text.lines().filter(|line| line.contains(" mtu "));
    let names = links.filter_map(|line| line.split(": ").nth(1));
    names.map(|name| name.split('@').next().unwrap_or(name))
}

/// All sysctls of this thread's network namespace that can be read.
fn sysctls() -> String {
    let root = Path::new("/proc/sys/net");
    let mut text = String::new();
    for part in ["bridge", "core", "ipv4", "ipv6"] {
        walk(&root.join(part), &mut |path| {
            if let (Ok(value), Ok(name)) = (fs::read_to_string(path), path.strip_prefix(root)) {
                let _ = writeln!(text, "{}:{}", name.display(), value.trim_end());
            }
        });
    }
    text
}

/// Visits all below a folder, in order of their names.
fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        visit(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

/// Rules without comments and counts, which change by themselves.
fn without_counts(rules: &str) -> String {
    let rules = rules.lines().filter(|line| !line.starts_with('#'));
    let rules = rules.map(|line| line.split(" [").next().unwrap_or(line));
    rules.flat_map(|line| [line, "\n"]).collect()
}
