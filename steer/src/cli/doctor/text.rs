//! Findings as text, for who reads them at night.

use std::path::Path;

use crate::{
    cli::output::Colour,
    doctor::{Finding, Fix, State},
};

/// How wide a line is.
const WIDTH: usize = 100;
/// How wide the first column is.
const COLUMN: usize = 9;

/// What a word in the first column stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Bad,
    Fair,
    Good,
    Faint,
}

impl Tone {
    fn paint(self, colour: Colour, text: &str) -> String {
        match self {
            Self::Bad => colour.bad(text),
            Self::Good => colour.good(text),
            Self::Fair if !text.is_empty() => colour.strong(text),
            Self::Fair | Self::Faint => text.to_owned(),
        }
    }
}

/// How findings are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// With colour, or without.
    pub(super) colour: Colour,
    /// What is well is told, too.
    pub(super) verbose: bool,
    /// `--fix` was given, so that it need not be recommended.
    pub(super) fixed: bool,
}

/// The lines: what is broken first, then the rest, then how much there is of what.
pub(super) fn told(page: &Page, findings: &[Finding]) -> Vec<String> {
    let of = |state| {
        findings
            .iter()
            .filter(move |finding| finding.state == state)
    };
    let mut lines = Vec::new();
    for finding in of(State::Broken).chain(of(State::Advice)) {
        lines.extend(page.paragraph(finding));
        lines.push(String::new());
    }
    // Of many that wait for the same, one line tells.
    let unknown: Vec<_> = of(State::Unknown).collect();
    for same in unknown.chunk_by(|a, b| a.found == b.found && a.mend == b.mend) {
        let ids: Vec<_> = same.iter().map(|finding| finding.id).collect();
        let text = format!("not looked at: {}", same[0].found);
        lines.extend(page.row("unknown", Tone::Faint, &ids.join(", "), &text));
        if let Some(mend) = &same[0].mend {
            lines.extend(page.commands(mend));
        }
    }
    let well: Vec<_> = of(State::Well).collect();
    if page.verbose {
        for finding in &well {
            let text = format!("{}: {}", finding.title, finding.found);
            lines.extend(page.row("well", Tone::Good, finding.id, &text));
        }
    } else if !well.is_empty() {
        let ids: Vec<_> = well.iter().map(|finding| finding.id).collect();
        lines.extend(page.wrapped("well", Tone::Good, &ids.join(", ")));
    }
    lines.push(page.sum(findings));
    lines
}

impl Page {
    /// What `--fix` did, and what is left to do.
    pub(super) fn done(&self, done: &[Fix], state_dir: &Path) -> Vec<String> {
        if !self.fixed {
            return Vec::new();
        }
        if done.is_empty() {
            return vec!["--fix has nothing that it could mend".to_owned()];
        }
        let mut lines = vec![String::new()];
        for fix in done {
            lines.extend(self.wrapped("fixed", Tone::Good, &format!("it {}", fix.describe())));
        }
        let mut afterwards: Vec<_> = done.iter().filter_map(Fix::afterwards).collect();
        afterwards.dedup();
        for text in afterwards {
            lines.extend(self.wrapped("now", Tone::Fair, text));
        }
        let kept = format!(
            "what was there is kept in {}; steer doctor --undo puts it back",
            state_dir.display()
        );
        lines.extend(self.wrapped("undo", Tone::Faint, &kept));
        lines
    }

    fn paragraph(&self, finding: &Finding) -> Vec<String> {
        let (word, tone) = match finding.state {
            State::Broken => ("BROKEN", Tone::Bad),
            _ => ("advice", Tone::Fair),
        };
        let mut lines = self.row(word, tone, finding.id, finding.title);
        lines.extend(self.wrapped("found", Tone::Faint, &finding.found));
        lines.extend(self.wrapped("matters", Tone::Faint, &finding.matters));
        if let Some(mend) = &finding.mend {
            lines.extend(self.commands(mend));
        }
        if let Some(fix) = finding.fix.as_ref().filter(|_| !self.fixed) {
            let text = format!("steer doctor --fix does it: it {}", fix.describe());
            lines.extend(self.wrapped("fix", Tone::Faint, &text));
        }
        lines
    }

    fn row(&self, word: &str, tone: Tone, id: &str, text: &str) -> Vec<String> {
        let mut lines = self.wrapped(word, tone, &format!("{id}: {text}"));
        if let Some(first) = lines.first_mut() {
            *first = first.replacen(id, &self.colour.strong(id), 1);
        }
        lines
    }

    /// To be typed or copied, so never broken into lines of its own.
    fn commands(&self, mend: &str) -> Vec<String> {
        let lines = mend.lines().enumerate();
        let lines = lines.map(|(number, line)| {
            let (command, comment) = match line.split_once("    # ") {
                Some((command, comment)) => (command, format!("    # {comment}")),
                None => (line, String::new()),
            };
            let command = self.colour.strong(command);
            let word = if number == 0 { "mend" } else { "" };
            format!("{}{command}{comment}", self.column(word, Tone::Faint))
        });
        lines.collect()
    }

    fn wrapped(&self, word: &str, tone: Tone, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = String::new();
        for part in text.split(' ') {
            let length = line.chars().count() + 1 + part.chars().count();
            if !line.is_empty() && COLUMN + length > WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(part);
        }
        if !line.is_empty() {
            lines.push(line);
        }
        let lines = lines.into_iter().enumerate().map(|(number, line)| {
            let word = if number == 0 { word } else { "" };
            format!("{}{line}", self.column(word, tone))
        });
        lines.collect()
    }

    fn column(&self, word: &str, tone: Tone) -> String {
        let gap = " ".repeat(COLUMN.saturating_sub(word.len()));
        format!("{}{gap}", tone.paint(self.colour, word))
    }

    fn sum(&self, findings: &[Finding]) -> String {
        let count = |state| {
            findings
                .iter()
                .filter(|finding| finding.state == state)
                .count()
        };
        let broken = count(State::Broken);
        let tone = if broken > 0 { Tone::Bad } else { Tone::Good };
        let broken = tone.paint(self.colour, &format!("{broken} broken"));
        let mut sum = format!(
            "{broken}, {} advice, {} well, {} not looked at",
            count(State::Advice),
            count(State::Well),
            count(State::Unknown)
        );
        let fixes = findings
            .iter()
            .filter(|finding| finding.fix.is_some())
            .count();
        if fixes > 0 && !self.fixed {
            sum += &format!("; steer doctor --fix mends {fixes}");
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &'static str, state: State, found: &str) -> Finding {
        Finding {
            id,
            state,
            title: "the title",
            found: found.to_owned(),
            matters: String::new(),
            mend: None,
            fix: None,
        }
    }

    fn page(verbose: bool) -> Page {
        Page {
            colour: Colour::Never,
            verbose,
            fixed: false,
        }
    }

    #[test]
    fn what_is_broken_comes_first_and_what_is_well_in_a_line() {
        let broken = Finding {
            matters: "it does".to_owned(),
            mend: Some("do it    # now\nand this".to_owned()),
            fix: Some(Fix::Forward),
            ..finding("c", State::Broken, "it is not")
        };
        let findings = [
            finding("a", State::Well, "fine"),
            finding("b", State::Unknown, "no VPN"),
            finding("b2", State::Unknown, "no VPN"),
            broken,
            finding("d", State::Well, "fine"),
        ];
        let lines = told(&page(false), &findings);
        assert_eq!(
            lines,
            [
                "BROKEN   c: the title",
                "found    it is not",
                "matters  it does",
                "mend     do it    # now",
                "         and this",
                "fix      steer doctor --fix does it: it sets net.ipv4.ip_forward to 1, now and in",
                "         /etc/sysctl.d/90-steer-doctor.conf",
                "",
                "unknown  b, b2: not looked at: no VPN",
                "well     a, d",
                "1 broken, 0 advice, 2 well, 2 not looked at; steer doctor --fix mends 1",
            ]
        );
        let all = told(&page(true), &findings);
        assert!(
            all.contains(&"well     d: the title: fine".to_owned()),
            "{all:?}"
        );
    }
}
