//! apt with sources, lists and a cache of its own: the machine's are neither read nor written.
//!
//! What the machine says about proxies and keys counts; its signatures are checked as ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{cache::remove, series::Package, sources::Suite};
use crate::{step, system};

/// apt in a folder of its own, which is removed at the end.
pub struct Apt {
    root: PathBuf,
    architecture: String,
    /// The sources so far, in `.sources` format, each with its suite's index read if it was to be had.
    sources: BTreeSet<String>,
}

/// A suite that could not be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Unread {
    /// The archive that should have it.
    pub uri: String,
    /// Its name.
    pub suite: String,
    /// apt's word on it.
    pub reason: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.suite, self.uri, self.reason)
    }
}

impl Unread {
    /// Whether another try may do better: not where the archive has no such suite, or its signature is not trusted here.
    pub fn may_pass(&self) -> bool {
        ![
            "404",
            "not found",
            "does not exist",
            "signature",
            "NO_PUBKEY",
            "not signed",
        ]
        .iter()
        .any(|word| self.reason.contains(word))
    }

    /// Whether the archive simply has no suite of that name.
    pub fn is_absent(&self) -> bool {
        ["404", "not found", "does not exist"]
            .iter()
            .any(|word| self.reason.contains(word))
    }
}

impl Apt {
    /// Makes the folder `root` anew.
    ///
    /// # Errors
    /// When the machine has no apt or the folder cannot be written.
    pub fn new(root: PathBuf) -> Result<Self> {
        for program in ["apt-get", "dpkg", "dpkg-deb"] {
            if system::find(program).is_none() {
                bail!(
                    "kernels come as Debian's packages, and this machine has no {program} to fetch them"
                );
            }
        }
        let architecture = system::output(Command::new("dpkg").arg("--print-architecture"))
            .context("`dpkg --print-architecture` fails")?;
        remove(&root)?;
        for folder in [
            "sources.d",
            "state/lists/partial",
            "cache/archives/partial",
            "debs",
        ] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        fs::write(root.join("status"), "")?;
        fs::write(root.join("apt.conf"), configuration(&root))?;
        Ok(Self {
            root,
            architecture,
            sources: BTreeSet::new(),
        })
    }

    /// Debian's name for the machine's architecture.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Reads the indexes of `suites` beside those that are read already, and says which could not be had.
    ///
    /// # Errors
    /// When apt cannot be run, or has no index at all in the end.
    pub fn update(&mut self, suites: &[Suite]) -> Result<Vec<Unread>> {
        let new = suites.iter().map(|suite| suite.render(&self.architecture));
        self.sources.extend(new);
        let text: Vec<_> = self.sources.iter().map(String::as_str).collect();
        fs::write(self.root.join("sources.d/steer.sources"), text.join("\n"))?;
        let started = Instant::now();
        let plural = if suites.len() == 1 { "" } else { "s" };
        let label = format!(
            "reading the package indexes of {} suite{plural}",
            suites.len()
        );
        let (status, lines) = step::attempt(&label, self.command().arg("update"))?;
        let unread = unread(&lines);
        let read = self.indexes()?.len();
        if read == 0 {
            let said = unread.first().map(Unread::to_string);
            bail!(
                "no package index could be read ({})",
                said.unwrap_or_else(|| format!(
                    "apt-get ended with {status}: {}",
                    lines.join("; ")
                ))
            );
        }
        step::note(&format!(
            "{label}: {read} read in {}",
            step::seconds(started.elapsed())
        ));
        Ok(unread)
    }

    /// Whether the index of `suite` was read.
    pub fn has_read(&self, suite: &str) -> bool {
        self.indexes()
            .is_ok_and(|indexes| indexes.values().any(|read| read == suite))
    }

    /// The indexes that were read: their files, each with its suite.
    ///
    /// # Errors
    /// When the folder of the lists cannot be read.
    pub fn indexes(&self) -> Result<BTreeMap<PathBuf, String>> {
        let lists = self.root.join("state/lists");
        let entries =
            fs::read_dir(&lists).with_context(|| format!("{} cannot be read", lists.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let suite = suite_of(&name)?.to_owned();
                Some((entry.path(), suite))
            })
            .collect())
    }

    /// Downloads `packages`, whose suites were read before, and returns their files in the same order.
    ///
    /// # Errors
    /// When one cannot be had; apt's last lines are in the message.
    pub fn download(&self, label: &str, packages: &[Package]) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("debs");
        remove(&folder)?;
        fs::create_dir_all(&folder)?;
        let mut command = self.command();
        command.arg("download").current_dir(&folder);
        command.args(packages.iter().map(|package| {
            format!(
                "{}:{}={}",
                package.name,
                self.architecture,
                package.version.as_str()
            )
        }));
        step::run(label, &mut command)?;

        let files: Vec<_> = fs::read_dir(&folder)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        packages
            .iter()
            .map(|package| {
                let is_it = |file: &&PathBuf| {
                    let name = file.file_name().and_then(|name| name.to_str());
                    name.is_some_and(|name| name.starts_with(&format!("{}_", package.name)))
                };
                files.iter().find(is_it).cloned().with_context(|| {
                    format!(
                        "apt-get downloaded {}, yet {} has none",
                        package.name,
                        folder.display()
                    )
                })
            })
            .collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .arg("-c")
            .arg(self.root.join("apt.conf"))
            .env("LC_ALL", "C");
        command
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        let _ = remove(&self.root);
    }
}

/// Read after all of the machine's own configuration, so this has the last word.
///
/// The hooks go because some images empty the machine's package cache in them. apt's own user could not enter a home
/// folder, hence no change of user.
fn configuration(root: &Path) -> String {
    let at = |name: &str| root.join(name).display().to_string();
    format!(
        "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
         Dir::State \"{state}\";\nDir::State::lists \"{lists}\";\nDir::State::status \"{status}\";\n\
         Dir::Cache \"{cache}\";\nDir::Cache::archives \"{archives}\";\n\
         Dir::Cache::pkgcache \"pkgcache.bin\";\nDir::Cache::srcpkgcache \"srcpkgcache.bin\";\n\
         Dir::Log \"{log}\";\nDir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{sources}\";\n\
         Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
         Acquire::GzipIndexes \"false\";\nAcquire::Retries \"2\";\nAPT::Sandbox::User \"root\";\n",
        state = at("state"),
        lists = at("state/lists"),
        status = at("status"),
        cache = at("cache"),
        archives = at("cache/archives"),
        log = at("log"),
        sources = at("sources.d"),
    )
}

/// The suite whose index is kept under this name: `HOST_PATH_dists_SUITE_main_binary-ARCH_Packages`.
fn suite_of(list: &str) -> Option<&str> {
    let (_, rest) = list.strip_suffix("_Packages")?.rsplit_once("_dists_")?;
    Some(rest.split_once("_main_binary-")?.0)
}

/// The suites that apt's output names as failed: `Err:7 URI SUITE Release`, and the reason in the next line.
fn unread(lines: &[String]) -> Vec<Unread> {
    let mut found: Vec<Unread> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("Err:") else {
            continue;
        };
        let mut words = rest.split_whitespace().skip(1);
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        let suite = suite.split('/').next().unwrap_or(suite);
        let reason = lines.get(at + 1).filter(|line| line.starts_with(' '));
        let reason = reason.map_or("", |line| line.trim());
        let reason = reason.split(" [IP:").next().unwrap_or(reason);
        let is_it = |known: &Unread| known.uri == uri && known.suite == suite;
        if !found.iter().any(is_it) {
            found.push(Unread {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_tells_its_suite() {
        let name = "a.example_debian-security_dists_bookworm-security_main_binary-amd64_Packages";
        assert_eq!(suite_of(name), Some("bookworm-security"));
        assert_eq!(suite_of("a.example_debian_dists_sid_InRelease"), None);
        assert_eq!(suite_of("lock"), None);
    }

    #[test]
    fn apt_tells_which_suites_failed_and_why() {
        let said = "Get:1 http://a.example/debian sid InRelease [193 kB]\n\
            Ign:2 http://a.example/debian forky-backports InRelease\n\
            Err:3 http://a.example/debian forky-backports Release\n  404  Not Found [IP: 192.0.2.1 80]\n\
            Err:4 http://a.example/debian trixie InRelease\n  Could not connect to a.example:80 (192.0.2.1)\n\
            Err:5 http://a.example/debian experimental InRelease\n\
            \u{20} The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 12\n\
            Err:6 http://a.example/debian trixie/main amd64 Packages\n  404  Not Found\n\
            Reading package lists...";
        let lines: Vec<_> = said.lines().map(str::to_owned).collect();
        let unread = unread(&lines);
        let told: Vec<_> = unread
            .iter()
            .map(|unread| (&*unread.suite, unread.may_pass(), unread.is_absent()))
            .collect();
        assert_eq!(
            told,
            [
                ("forky-backports", false, true),
                ("trixie", true, false),
                ("experimental", false, false),
            ]
        );
        assert_eq!(
            unread[0].to_string(),
            "forky-backports at http://a.example/debian: 404  Not Found"
        );
    }
}
