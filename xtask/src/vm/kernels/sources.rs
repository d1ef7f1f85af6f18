//! Where this machine gets Debian's packages from, as its own apt sources say, and the suites there that have kernels.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Debian's releases that are consulted, oldest first: 5.10 is the first kernel of bullseye.
const RELEASES: [&str; 4] = ["bullseye", "bookworm", "trixie", "forky"];
/// The suites without a release date. Mirrors keep their indexes beyond the validity they declare.
const ROLLING: [&str; 3] = ["forky", "sid", "experimental"];
/// What else a machine may call a suite of Debian.
const ALIASES: [&str; 8] = [
    "sid",
    "unstable",
    "experimental",
    "testing",
    "stable",
    "oldstable",
    "oldoldstable",
    "duke",
];

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The releases, their backports, sid and experimental.
    Main,
    /// The security updates of the releases.
    Security,
}

/// An archive of Debian that this machine uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its address, as the machine's own source has it.
    pub uri: String,
    /// What it holds.
    pub kind: Kind,
    /// The value of `Signed-By`, as it stands there: files, fingerprints or a whole key over several lines.
    pub signed_by: Option<String>,
}

/// How many suites are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Those whose indexes are small, and sid: they have the newest of every series.
    Usual,
    /// The releases themselves too, which have patch levels that the others have dropped.
    Everything,
}

/// A suite of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite<'a> {
    /// Where it is.
    pub archive: &'a Archive,
    /// Its name there.
    pub name: String,
}

/// Debian's archives among the apt sources in `folder` (`/etc/apt`); none on a machine that uses another distribution.
///
/// # Errors
/// When a source cannot be read.
pub fn archives(folder: &Path) -> Result<Vec<Archive>> {
    let parts = folder.join("sources.list.d");
    let mut files = vec![folder.join("sources.list")];
    if let Ok(entries) = fs::read_dir(&parts) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();

    let mut found: Vec<Archive> = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line,
            Some("sources") => deb822,
            _ => continue,
        };
        if !file.is_file() {
            continue;
        }
        let text = fs::read(&file)
            .with_context(|| format!("the apt source {} cannot be read", file.display()))?;
        for archive in parse(&String::from_utf8_lossy(&text)) {
            let same = |other: &&mut Archive| {
                other.kind == archive.kind
                    && other.uri.trim_end_matches('/') == archive.uri.trim_end_matches('/')
            };
            match found.iter_mut().find(same) {
                // apt refuses one archive with two opinions on who signs it.
                Some(known) => known.signed_by = known.signed_by.take().or(archive.signed_by),
                None => found.push(archive),
            }
        }
    }
    Ok(found)
}

/// The suites of `archives` to look for kernels in.
pub fn suites(archives: &[Archive], reach: Reach) -> Vec<Suite<'_>> {
    // Without the security updates, the releases themselves have the newest of some series.
    let has_security = archives
        .iter()
        .any(|archive| archive.kind == Kind::Security);
    let of = |archive: &Archive| -> Vec<String> {
        let with = |suffix| {
            RELEASES
                .map(|release| format!("{release}{suffix}"))
                .to_vec()
        };
        match archive.kind {
            Kind::Security => with("-security"),
            Kind::Main => {
                let mut names = with("-backports");
                names.extend(["sid", "experimental"].map(str::to_owned));
                if reach == Reach::Everything || !has_security {
                    names.extend(with(""));
                }
                names
            }
        }
    };
    archives
        .iter()
        .flat_map(|archive| {
            of(archive)
                .into_iter()
                .map(move |name| Suite { archive, name })
        })
        .collect()
}

impl Suite<'_> {
    /// The suite as an entry of a `.sources` file, for packages of `architecture` alone.
    pub fn render(&self, architecture: &str) -> String {
        let Self { archive, name } = self;
        // Targets: the machine's configuration may ask for translations, icons and lists of files as well.
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {name}\nComponents: main\nArchitectures: {architecture}\nTargets: Packages\n",
            archive.uri
        );
        if ROLLING.contains(&name.as_str()) {
            text.push_str("Check-Valid-Until: no\n");
        }
        if let Some(signed_by) = &archive.signed_by {
            text.push_str(&format!("Signed-By: {signed_by}\n"));
        }
        text
    }
}

/// The archives of a file in apt's one-line format (`sources.list(5)`).
fn one_line(text: &str) -> Vec<Archive> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let rest = line.strip_prefix("deb")?;
            let rest = rest.strip_prefix([' ', '\t', '['])?;
            let bracketed = line["deb".len()..].trim_start().strip_prefix('[');
            let (options, rest) = match bracketed {
                Some(options) => options.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_whitespace();
            let (uri, suite) = (words.next()?, words.next()?);
            let signed_by = options
                .split_whitespace()
                .find_map(|option| option.strip_prefix("signed-by="))
                .map(str::to_owned);
            archive(&[uri], &[suite], &words.collect::<Vec<_>>(), signed_by)
        })
        .collect()
}

/// The archives of a file in apt's deb822 format (`sources.list(5)`).
fn deb822(text: &str) -> Vec<Archive> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(|stanza| {
            let field = |name: &str| -> Option<String> {
                let is_start = |line: &&str| {
                    line.split_once(':')
                        .is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
                };
                let start = stanza.iter().position(is_start)?;
                let mut value = stanza[start].split_once(':')?.1.trim().to_owned();
                for line in &stanza[start + 1..] {
                    if !line.starts_with([' ', '\t']) {
                        break;
                    }
                    value.push('\n');
                    value.push_str(line);
                }
                Some(value)
            };
            let words = |name: &str| field(name).unwrap_or_default();
            if words("Enabled").eq_ignore_ascii_case("no")
                || !words("Types").split_whitespace().any(|word| word == "deb")
            {
                return None;
            }
            let (uris, suites, components) = (words("URIs"), words("Suites"), words("Components"));
            let list = |text: &'_ str| -> Vec<String> {
                text.split_whitespace().map(str::to_owned).collect()
            };
            let (uris, suites, components) = (list(&uris), list(&suites), list(&components));
            archive(&uris, &suites, &components, field("Signed-By"))
        })
        .collect()
}

/// The archive that an entry names, if it is one of Debian's.
fn archive<T: AsRef<str>>(
    uris: &[T],
    suites: &[T],
    components: &[T],
    signed_by: Option<String>,
) -> Option<Archive> {
    let kind = suites.iter().find_map(|suite| kind(suite.as_ref()))?;
    components
        .iter()
        .find(|component| component.as_ref() == "main")?;
    // The addresses of one entry are mirrors of each other.
    let uri = uris
        .iter()
        .map(AsRef::as_ref)
        .find(|uri| !uri.starts_with("cdrom:"))?;
    Some(Archive {
        uri: uri.to_owned(),
        kind,
        signed_by,
    })
}

/// What kind of archive has a suite of this name; `None` when it is not one of Debian's.
fn kind(suite: &str) -> Option<Kind> {
    let end = suite.find(['-', '/']).unwrap_or(suite.len());
    let (release, rest) = suite.split_at(end);
    if !RELEASES.contains(&release) && !ALIASES.contains(&release) {
        return None;
    }
    match rest {
        "-security" | "/updates" => Some(Kind::Security),
        "" | "-updates" | "-proposed-updates" | "-backports" | "-backports-sloppy" => {
            Some(Kind::Main)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scratch::Scratch, *};

    fn made(uri: &str, kind: Kind, signed_by: Option<&str>) -> Archive {
        Archive {
            uri: uri.to_owned(),
            kind,
            signed_by: signed_by.map(str::to_owned),
        }
    }

    #[test]
    fn one_line_sources_are_read() {
        let text = "# deb http://old.example/debian bookworm main\n\
            deb http://a.example/debian bookworm main non-free # ours\n\
            deb-src http://a.example/debian bookworm main\n\
            deb [ arch=amd64 signed-by=/k.gpg ] http://s.example/sec bookworm-security main\n\
            deb cdrom:[Debian 12]/ bookworm main\n\
            deb [signed-by=/p.gpg] https://p.example/pg bookworm-pgdg main\n\
            deb https://d.example/docker bookworm stable\n\
            deb http://u.example/ubuntu noble-security main\n";
        assert_eq!(
            one_line(text),
            [
                made("http://a.example/debian", Kind::Main, None),
                made("http://s.example/sec", Kind::Security, Some("/k.gpg")),
            ]
        );
    }

    #[test]
    fn deb822_sources_are_read() {
        let text = "Types: deb deb-src\n# a comment\nURIs: cdrom:/x http://a.example/debian\n\
            Suites: trixie trixie-updates\nComponents: main\nsigned-by: /k.gpg\n\n\n\
            Types: deb\nURIs: http://s.example/sec\nSuites: trixie-security\nComponents:\n main\n contrib\n\
            Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\nComponents: main\n\n\
            Types: deb-src\nURIs: http://src.example/debian\nSuites: sid\nComponents: main\n";
        let key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc";
        assert_eq!(
            deb822(text),
            [
                made("http://a.example/debian", Kind::Main, Some("/k.gpg")),
                made("http://s.example/sec", Kind::Security, Some(key)),
            ]
        );
    }

    #[test]
    fn one_archive_in_two_entries_is_one_and_other_files_do_not_count() {
        let folder = Scratch::new();
        let parts = folder.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        let entry = "deb http://a.example/debian bookworm main\n";
        fs::write(folder.path().join("sources.list"), entry).unwrap();
        let same = "Types: deb\nURIs: http://a.example/debian/\nSuites: bookworm-backports\nComponents: main\nSigned-By: /k\n";
        fs::write(parts.join("debian.sources"), same).unwrap();
        fs::write(parts.join("off.list.disabled"), entry.replace("a.", "b.")).unwrap();
        assert_eq!(
            archives(folder.path()).unwrap(),
            [made("http://a.example/debian", Kind::Main, Some("/k"))]
        );
    }

    #[test]
    fn validity_is_waived_for_rolling_suites_alone() {
        let archives = [
            made("http://a.example/debian", Kind::Main, Some("/k.gpg")),
            made("http://s.example/sec", Kind::Security, None),
        ];
        let entries: Vec<_> = suites(&archives, Reach::Everything)
            .iter()
            .map(|suite| suite.render("arm64"))
            .collect();
        let waived: Vec<_> = entries
            .iter()
            .filter(|entry| entry.contains("Check-Valid-Until: no"))
            .filter_map(|entry| entry.lines().find_map(|line| line.strip_prefix("Suites: ")))
            .collect();
        assert_eq!(waived, ["sid", "experimental", "forky"]);
        assert_eq!(
            entries.last().unwrap(),
            "Types: deb\nURIs: http://s.example/sec\nSuites: forky-security\nComponents: main\n\
             Architectures: arm64\nTargets: Packages\n"
        );
        let signed = entries
            .iter()
            .filter(|entry| entry.ends_with("Signed-By: /k.gpg\n"));
        assert_eq!(signed.count(), 10);

        let usual = suites(&archives, Reach::Usual);
        assert!(usual.iter().all(|suite| suite.name != "bookworm"));
        let alone = suites(&archives[..1], Reach::Usual);
        assert!(alone.iter().any(|suite| suite.name == "bookworm"));
    }
}
