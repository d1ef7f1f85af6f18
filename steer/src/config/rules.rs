//! The rules of the file, of the flags, of presets and of lists, as one set.

use super::file::{FileList, FileRule};
use super::vpn::Vpns;
use super::{ConfigError, ConfigFile, Overrides};
use crate::origin::{Origin, Sourced};
use crate::progress::Progress;
use crate::rules::list::{self, Format, List, SelectorError, UnknownFormat};
use crate::rules::{Builder, Preset, Rule, RuleSet, SubjectError, Verdict};
use std::path::{Path, PathBuf};

/// What a list came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSummary {
    /// The file or folder.
    pub path: PathBuf,
    /// How it is written.
    pub format: Format,
    /// Where its names and addresses go.
    pub verdict: Verdict,
    /// How many rules it has.
    pub rules: usize,
    /// How many of its lines are no rule.
    pub skipped: usize,
    /// The first few of those, each with its place and the reason.
    pub complaints: Vec<String>,
}

/// All rules, and what they were read from.
pub(super) struct Rules {
    pub(super) set: RuleSet,
    pub(super) lists: Vec<ListSummary>,
    pub(super) files: Vec<PathBuf>,
}

pub(super) fn resolve(
    file: &ConfigFile,
    flags: &Overrides,
    vpns: &Vpns,
    progress: &dyn Progress,
) -> Result<Rules, ConfigError> {
    let mut builder = Builder::default();
    for preset in presets(file, flags) {
        let found = Preset::named(&preset.value)
            .map_err(|unknown| ConfigError::invalid(&preset.origin, unknown.to_string()))?;
        for rule in found.rules() {
            builder.add(rule)?;
        }
    }
    let flag = |values: &[String], name| -> Vec<_> {
        values
            .iter()
            .map(|value| Sourced::new(value.clone(), Origin::Flag(name)))
            .collect()
    };
    for FileRule { rule, vpn } in &file.vpn {
        let vpn = vpn.as_ref().map(|name| vpns.named(name)).transpose()?;
        builder.add(Rule {
            vpn,
            ..parsed(rule.clone(), Verdict::Vpn)?
        })?;
    }
    for (verdict, written) in [
        (Verdict::Direct, file.direct.clone()),
        (Verdict::Block, file.block.clone()),
        (Verdict::Vpn, flag(&flags.vpn_domains, "--vpn-domain")),
        (
            Verdict::Direct,
            flag(&flags.direct_domains, "--direct-domain"),
        ),
        (Verdict::Block, flag(&flags.block_domains, "--block-domain")),
    ] {
        for rule in written {
            builder.add(parsed(rule, verdict)?)?;
        }
    }
    for rule in &flags.added {
        builder.add(rule.clone())?;
    }
    let lists = lists(file, flags, vpns)?;
    let size = |list: &Sourced<List>| std::fs::metadata(&list.value.path).map_or(0, |is| is.len());
    progress.begin("reading lists", lists.iter().map(size).sum());
    let (mut summaries, mut files) = (Vec::new(), Vec::new());
    for Sourced {
        value: list,
        origin,
    } in lists
    {
        let loaded = list::load(&list, progress)
            .map_err(|error| ConfigError::invalid(&origin, error.to_string()))?;
        let (skipped, complaints) = loaded.skipped();
        summaries.push(ListSummary {
            rules: loaded.len(),
            format: loaded.format,
            path: list.path,
            verdict: list.verdict,
            skipped,
            complaints,
        });
        files.extend(loaded.files);
        for (name, parsed) in loaded.parts {
            builder.add_list(&name, list.verdict, list.vpn, parsed)?;
        }
    }
    progress.end();
    Ok(Rules {
        set: builder.build()?,
        lists: summaries,
        files,
    })
}

fn parsed(
    Sourced { value, origin }: Sourced<String>,
    verdict: Verdict,
) -> Result<Rule, ConfigError> {
    let subject = value
        .parse()
        .map_err(|error: SubjectError| ConfigError::invalid(&origin, error.to_string()))?;
    Ok(Rule {
        subject,
        verdict,
        vpn: None,
        origin,
    })
}

/// The lists of the file, whose relative paths begin where it is, then those of the flags.
fn lists(
    file: &ConfigFile,
    flags: &Overrides,
    vpns: &Vpns,
) -> Result<Vec<Sourced<List>>, ConfigError> {
    let folder = file.path.as_deref().and_then(Path::parent);
    let mut lists = Vec::new();
    for list in &file.lists {
        lists.push(file_list(list, folder.unwrap_or(Path::new("")), vpns)?);
    }
    for (verdict, paths, flag) in [
        (Verdict::Vpn, &flags.vpn_lists, "--vpn-list"),
        (Verdict::Direct, &flags.direct_lists, "--direct-list"),
        (Verdict::Block, &flags.block_lists, "--block-list"),
    ] {
        lists.extend(paths.iter().map(|path| {
            let list = List {
                path: path.clone(),
                verdict,
                vpn: None,
                format: None,
                select: Vec::new(),
            };
            Sourced::new(list, Origin::Flag(flag))
        }));
    }
    Ok(lists)
}

fn file_list(list: &FileList, folder: &Path, vpns: &Vpns) -> Result<Sourced<List>, ConfigError> {
    let Some(path) = list.path.as_ref().filter(|path| !path.value.is_empty()) else {
        return Err(ConfigError::invalid(
            &list.origin,
            "a list lacks its path; write { path = \"blocked.txt\", verdict = \"vpn\" }",
        ));
    };
    let verdict = match &list.verdict {
        None => Verdict::Vpn,
        Some(Sourced { value, origin }) => value.parse().map_err(|_| {
            ConfigError::invalid(
                origin,
                format!(
                    "rules.lists.verdict must be \"vpn\", \"direct\" or \"block\"; this is \"{value}\""
                ),
            )
        })?,
    };
    if let Some(vpn) = list.vpn.as_ref().filter(|_| verdict != Verdict::Vpn) {
        return Err(ConfigError::invalid(
            &vpn.origin,
            "what a list sends direct or blocks takes no VPN; leave vpn or the verdict out",
        ));
    }
    let vpn = list.vpn.as_ref().map(|name| vpns.named(name));
    let format = list.format.as_ref().map(|Sourced { value, origin }| {
        value
            .parse()
            .map_err(|error: UnknownFormat| ConfigError::invalid(origin, error.to_string()))
    });
    let select = list.select.iter().map(|Sourced { value, origin }| {
        value
            .parse()
            .map_err(|error: SelectorError| ConfigError::invalid(origin, error.to_string()))
    });
    let read = List {
        path: folder.join(&path.value),
        verdict,
        vpn: vpn.transpose()?,
        format: format.transpose()?,
        select: select.collect::<Result<_, _>>()?,
    };
    Ok(Sourced::new(read, path.origin.clone()))
}

fn presets(file: &ConfigFile, flags: &Overrides) -> Vec<Sourced<String>> {
    if flags.no_presets {
        return Vec::new();
    }
    if !flags.presets.is_empty() {
        return flags
            .presets
            .iter()
            .map(|name| Sourced::new(name.clone(), Origin::Flag("--preset")))
            .collect();
    }
    file.presets
        .clone()
        .unwrap_or_else(|| vec![Sourced::default_value(Preset::DEFAULT.to_owned())])
}
