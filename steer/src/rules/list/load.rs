//! Lists from their files.

use super::select::is_category;
use super::{Complaint, Filter, Format, GeositeError, Parsed, Selector, parse, parse_text};
use crate::progress::Progress;
use crate::route::VpnId;
use crate::rules::Verdict;
use crate::suggest;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Octets that a file may have: the names of all lists together must stay below 4 GiB.
const FILE_MAX: u64 = 512 << 20;

/// A list as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The file; for [`Format::V2fly`] also a folder of them, one a category.
    pub path: PathBuf,
    /// Where the names and addresses go.
    pub verdict: Verdict,
    /// The VPN, if that is the verdict; none: that of the scope, else the default one.
    pub vpn: Option<VpnId>,
    /// How it is written; none: as it looks.
    pub format: Option<Format>,
    /// Which part of it is meant; none: all of it.
    pub select: Vec<Selector>,
}

/// What a list came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What each file says, with the name for messages.
    pub parts: Vec<(Arc<str>, Parsed)>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// How they are written.
    pub format: Format,
}

impl Loaded {
    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|(_, parsed)| parsed.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much was passed over, and of the first the place and the reason.
    pub fn skipped(&self) -> (usize, Vec<String>) {
        let count = self.parts.iter().map(|(_, parsed)| parsed.skipped.count);
        let told = self.parts.iter().flat_map(|(name, parsed)| {
            parsed.skipped.first.iter().map(move |complaint| {
                let Complaint { line, why } = complaint;
                match line {
                    0 => format!("{name}: {why}"),
                    line => format!("{name}:{line}: {why}"),
                }
            })
        });
        (count.sum(), told.take(super::KEPT).collect())
    }
}

/// Why a list cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("cannot read the list {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is very long.
    #[error("the list {} is larger than {} MiB, which is the most", path.display(), FILE_MAX >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file has nothing of what was to be there.
    #[error("the list {}: {source}", path.display())]
    Geosite {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GeositeError,
    },
    /// A selection where there are no parts.
    #[error("the list {} is in the format {format}, which has no parts to select", path.display())]
    NoParts {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
    },
    /// A category of a single text file.
    #[error("the list {} is one category, so \"{selector}\" can only select by attributes, as in \"@cn\"; or name the folder that it is in", path.display())]
    OneCategory {
        /// The file.
        path: PathBuf,
        /// What was to be selected.
        selector: Selector,
    },
    /// A folder without a word of which files.
    #[error("{} is a folder of lists; say which are meant, as in select = [\"geosite:docker\"]", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// Every line was passed over.
    #[error("the list {} has no rule in the format {format}; {first}", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// The format it was read in.
        format: Format,
        /// The first reason.
        first: String,
    },
}

/// Reads a list and all that it includes.
///
/// # Errors
/// A file cannot be read, what is selected is not there, or nothing in it is a rule. Single bad lines are counted instead.
pub fn load(list: &List, progress: &dyn Progress) -> Result<Loaded, ListError> {
    let mut loaded = if list.path.is_dir() {
        folder(list, progress)?
    } else {
        file(list, progress)?
    };
    let why = match list.verdict {
        Verdict::Vpn => None,
        Verdict::Direct => {
            Some("it is an exception, which means nothing in a list that goes direct")
        }
        Verdict::Block => Some(
            "it is an exception, which would go direct whatever the scope; write a rule for it yourself",
        ),
    };
    if let Some(why) = why {
        let parts = loaded.parts.iter_mut();
        parts.for_each(|(_, parsed)| without_exceptions(parsed, why));
    }
    let (_, told) = loaded.skipped();
    match told.into_iter().next() {
        Some(first) if loaded.is_empty() => Err(ListError::Nothing {
            path: list.path.clone(),
            format: loaded.format,
            first,
        }),
        _ => Ok(loaded),
    }
}

fn file(list: &List, progress: &dyn Progress) -> Result<Loaded, ListError> {
    let octets = read(&list.path)?;
    let format = list.format.unwrap_or_else(|| Format::guess(&octets));
    let mut loaded = Loaded {
        parts: Vec::new(),
        files: vec![list.path.clone()],
        format,
    };
    match format {
        Format::V2fly => {
            if let Some(selector) = list.select.iter().find(|one| one.category.is_some()) {
                return Err(ListError::OneCategory {
                    path: list.path.clone(),
                    selector: selector.clone(),
                });
            }
            let filter = Filter::of(&list.select);
            let parsed = parse_text(format, &octets, &filter, progress);
            with_includes(&mut loaded, &list.path, parsed, filter, progress);
        }
        Format::Geosite => {
            let parsed =
                parse(format, &octets, &list.select).map_err(|source| ListError::Geosite {
                    path: list.path.clone(),
                    source,
                })?;
            loaded.parts.push((name(&list.path), parsed));
        }
        _ if !list.select.is_empty() => {
            return Err(ListError::NoParts {
                path: list.path.clone(),
                format,
            });
        }
        _ => {
            let parsed = parse_text(format, &octets, &Filter::default(), progress);
            loaded.parts.push((name(&list.path), parsed));
        }
    }
    Ok(loaded)
}

/// The categories of a folder of v2fly's text lists.
fn folder(list: &List, progress: &dyn Progress) -> Result<Loaded, ListError> {
    let nameless = list.select.iter().any(|one| one.category.is_none());
    if nameless || list.select.is_empty() {
        return Err(ListError::Folder {
            path: list.path.clone(),
        });
    }
    let mut loaded = Loaded {
        parts: Vec::new(),
        files: Vec::new(),
        format: Format::V2fly,
    };
    for selector in &list.select {
        let category = selector.category.clone().unwrap_or_default();
        let path = list.path.join(&category);
        if !path.is_file() {
            return Err(ListError::Geosite {
                path: list.path.clone(),
                source: GeositeError::NoCategory {
                    nearest: nearest(&list.path, &category),
                    category,
                },
            });
        }
        let filter = Filter::of(std::slice::from_ref(selector));
        let parsed = parse_text(Format::V2fly, &read(&path)?, &filter, progress);
        with_includes(&mut loaded, &path, parsed, filter, progress);
    }
    Ok(loaded)
}

/// Adds what a file says, and what the files say that it includes.
fn with_includes(
    loaded: &mut Loaded,
    path: &Path,
    parsed: Parsed,
    filter: Filter,
    progress: &dyn Progress,
) {
    /// A file, what is let through of it, and which line of which part names it.
    type Wanted = (PathBuf, Filter, usize, u32);
    let wanted = |parsed: &mut Parsed, path: &Path, filter: &Filter, part: usize| -> Vec<Wanted> {
        std::mem::take(&mut parsed.includes)
            .into_iter()
            .map(|include| {
                let included = path.with_file_name(include.name);
                (
                    included,
                    filter.and(&include.conditions),
                    part,
                    include.line,
                )
            })
            .collect()
    };
    let mut seen = vec![(path.to_owned(), filter.clone())];
    let add = |loaded: &mut Loaded, path: &Path, mut parsed: Parsed, filter: &Filter| {
        let wanted = wanted(&mut parsed, path, filter, loaded.parts.len());
        if !loaded.files.iter().any(|file| file == path) {
            loaded.files.push(path.to_owned());
        }
        loaded.parts.push((name(path), parsed));
        wanted
    };
    let mut waiting = VecDeque::from(add(loaded, path, parsed, &filter));
    let mut unreadable = Vec::new();
    while let Some((path, filter, part, line)) = waiting.pop_front() {
        let this = (path, filter);
        if seen.contains(&this) || unreadable.contains(&this.0) {
            continue;
        }
        let (path, filter) = &this;
        match read(path) {
            Ok(octets) => {
                let parsed = parse_text(Format::V2fly, &octets, filter, progress);
                waiting.extend(add(loaded, path, parsed, filter));
            }
            Err(why) => {
                unreadable.push(path.clone());
                loaded.parts[part].1.skipped.add(line, &why.to_string());
            }
        }
        seen.push(this);
    }
}

/// In a list that does not take the VPN, an exception would be for what is not said.
fn without_exceptions(parsed: &mut Parsed, why: &str) {
    let exceptions = std::mem::take(&mut parsed.exceptions);
    for (_, _, line) in exceptions.iter() {
        parsed.skipped.add(line, why);
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ListError> {
    let failed = |source| ListError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len().min(FILE_MAX);
    let mut octets = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(FILE_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(failed)?;
    if octets.len() as u64 > FILE_MAX {
        return Err(ListError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(octets)
}

fn name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

fn nearest(folder: &Path, category: &str) -> Option<String> {
    let names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_category(name))
        .collect();
    suggest::nearest(category, names.iter().map(String::as_str)).map(str::to_owned)
}
