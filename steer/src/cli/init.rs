//! `steer init`.

use super::output::print;
use super::runtime;
use crate::config::sample::{Choices, Found, sample};
use crate::config::{
    BridgeChoice, CgroupChoice, ConfigFile, DEFAULT_FILE, DockerChoice, OnDown, Overrides, Settings,
};
use crate::host::cgroup::Hierarchy;
use crate::host::{Link, bridge, docker, link};
use crate::origin::Sourced;
use crate::rules::{Subject, SubjectError};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo steer init
      looks at this host, asks a few questions, and writes /etc/steer/steer.toml
  sudo steer init --yes
      the same without a question
  steer init --print
      only shows what it would write";

/// Flags of `steer init`.
#[derive(Clone, Debug, Default, Args)]
pub struct InitArgs {
    /// Where to write the configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,

    /// Ask nothing: take what the host suggests
    #[arg(short, long)]
    pub yes: bool,

    /// Print the configuration instead of writing it; asks nothing
    #[arg(long, conflicts_with_all = ["yes", "force"])]
    pub print: bool,

    /// Write over a configuration that is there
    #[arg(long)]
    pub force: bool,
}

/// Writes a configuration to begin with.
pub(super) fn init(args: &InitArgs) -> Result<()> {
    let path = &args.config;
    if !args.print && !args.force && path.exists() {
        bail!(
            "{} is there already; look at it with steer check, or write over it with --force",
            path.display()
        );
    }
    let (found, links) = runtime()?.block_on(look());
    let suggested = Choices {
        vpn: None,
        docker_hub: true,
        ..Choices::default()
    };
    let choices = if args.yes || args.print {
        suggested
    } else if io::stdin().is_terminal() {
        let mut answers = io::stdin().lock();
        ask(&mut answers, &mut io::stdout(), &links)?
    } else {
        bail!(
            "there is nobody to ask: standard input is no terminal; use --yes, or --print to see what would be written"
        );
    };
    let text = sample(&choices, &found);
    let checked = ConfigFile::parse(path, &text)
        .and_then(|file| Settings::resolve(file, Overrides::default()));
    checked.context("this configuration would not be right, so nothing is written")?;
    if args.print {
        return print(&[text.trim_end()]);
    }
    write(path, &text, args.force)?;
    print(&[
        format!(
            "{} is written; steer check says what it comes to",
            path.display()
        ),
        "next: sudo steer doctor looks for what would be in the way, and sudo steer run begins"
            .to_owned(),
    ])
}

/// What "auto" would mean here. What cannot be looked at is left out.
async fn look() -> (Found, Vec<Link>) {
    let links = link::list().await.unwrap_or_default();
    let docker = Sourced::default_value(DockerChoice::Auto);
    let networks = docker::networks(&docker, &links, &mut Vec::new()).await;
    let bridges = bridge::resolve(
        &[Sourced::default_value(BridgeChoice::Auto)],
        &links,
        &networks.unwrap_or_default(),
        &mut Vec::new(),
    );
    let cgroups =
        Hierarchy::read().map(|it| it.present(&[Sourced::default_value(CgroupChoice::Auto)]));
    let found = Found {
        vpns: vpns(&links).map(Link::describe).collect(),
        bridges: bridges
            .unwrap_or_default()
            .into_iter()
            .map(|it| it.name)
            .collect(),
        cgroups: cgroups
            .unwrap_or_default()
            .iter()
            .map(|it| it.path.display().to_string())
            .collect(),
    };
    (found, links)
}

fn vpns(links: &[Link]) -> impl Iterator<Item = &Link> {
    links
        .iter()
        .filter(|link| link.kind.may_be_vpn() && link.controller.is_none())
}

/// Asks until each answer can be one; an empty one takes what is suggested.
fn ask(
    answers: &mut impl BufRead,
    questions: &mut impl io::Write,
    links: &[Link],
) -> Result<Choices> {
    let known: Vec<_> = vpns(links).map(Link::describe).collect();
    writeln!(
        questions,
        "Interfaces like a VPN's: {}.",
        if known.is_empty() {
            "none".to_owned()
        } else {
            known.join("; ")
        }
    )?;
    let vpn = put(
        answers,
        questions,
        "The VPN's interface [auto]",
        |text| match text {
            "" | "auto" => Ok(None),
            name if name.contains(['/', ' ', ':']) || name.len() > 15 => {
                Err(format!("\"{name}\" cannot be an interface"))
            }
            name => Ok(Some(name.to_owned())),
        },
    )?;
    let on_down = put(
        answers,
        questions,
        "While the VPN is down, what should take it is: block or direct [block]",
        |text| match text {
            "" | "block" => Ok(OnDown::Block),
            "direct" => Ok(OnDown::Direct),
            other => Err(format!("\"{other}\" is neither block nor direct")),
        },
    )?;
    let docker_hub = put(
        answers,
        questions,
        "Send Docker Hub through the VPN, its layers direct? [Y/n]",
        |text| match text.to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => Ok(true),
            "n" | "no" => Ok(false),
            other => Err(format!("\"{other}\" is neither yes nor no")),
        },
    )?;
    let names = put(
        answers,
        questions,
        "Other names for the VPN, with spaces between, such as .example.com []",
        |text| {
            let each = text.split_whitespace().map(|name| {
                let parsed: Result<Subject, SubjectError> = name.parse();
                parsed
                    .map(|_| name.to_owned())
                    .map_err(|error| error.to_string())
            });
            each.collect()
        },
    )?;
    Ok(Choices {
        vpn,
        on_down,
        docker_hub,
        names,
    })
}

fn put<T>(
    answers: &mut impl BufRead,
    questions: &mut impl io::Write,
    question: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T> {
    loop {
        write!(questions, "{question}: ")?;
        questions.flush()?;
        let mut answer = String::new();
        if answers
            .read_line(&mut answer)
            .context("the answer cannot be read")?
            == 0
        {
            bail!("the answers ended before the questions did, so nothing is written");
        }
        match parse(answer.trim()) {
            Ok(value) => return Ok(value),
            Err(why) => writeln!(questions, "  {why}")?,
        }
    }
}

/// Puts the file in place as a whole.
fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    let failed = || format!("{} cannot be written; are you root?", path.display());
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(failed)?;
    if !force {
        // Not over one that came meanwhile.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .with_context(failed)?;
        return file.write_all(text.as_bytes()).with_context(failed);
    }
    super::saved::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> (Result<Choices>, String) {
        let mut questions = Vec::new();
        let choices = ask(&mut text.as_bytes(), &mut questions, &[]);
        (choices, String::from_utf8(questions).unwrap())
    }

    #[test]
    fn empty_answers_take_what_is_suggested() {
        let (choices, _) = answered("\n\n\n\n");
        let suggested = Choices {
            docker_hub: true,
            ..Choices::default()
        };
        assert_eq!(choices.unwrap(), suggested);
    }

    #[test]
    fn a_wrong_answer_is_told_and_asked_again() {
        let (choices, questions) =
            answered("w g\nwg0\nmaybe\ndirect\nx\nn\na..b\n.a.example b.example\n");
        let wanted = Choices {
            vpn: Some("wg0".to_owned()),
            on_down: OnDown::Direct,
            docker_hub: false,
            names: vec![".a.example".to_owned(), "b.example".to_owned()],
        };
        assert_eq!(choices.unwrap(), wanted);
        for why in [
            "\"w g\" cannot be an interface",
            "\"maybe\" is neither",
            "\"x\" is neither",
            "a..b",
        ] {
            assert!(questions.contains(why), "{questions}");
        }
    }

    #[test]
    fn answers_that_end_too_early_write_nothing() {
        let (choices, _) = answered("\n");
        assert!(choices.is_err());
    }
}
