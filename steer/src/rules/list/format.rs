//! The formats by name, and by what a file looks like.

use super::lines;
use crate::suggest;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Lines that are looked at to tell a format.
const LOOKED_AT: usize = 1000;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// A rule a line; a name is that name and all below it.
    Plain,
    /// `0.0.0.0 example.com`; a name is that name alone.
    Hosts,
    /// `server=/example.com/…` and the like; a name is that name and all below it.
    Dnsmasq,
    /// `||example.com^`: that name and all below it.
    Adblock,
    /// v2fly's text lists.
    V2fly,
    /// v2fly's lists as protocol buffers.
    Geosite,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Hosts,
        Self::Dnsmasq,
        Self::Adblock,
        Self::V2fly,
        Self::Geosite,
    ];

    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Hosts => "hosts",
            Self::Dnsmasq => "dnsmasq",
            Self::Adblock => "adblock",
            Self::V2fly => "v2fly",
            Self::Geosite => "geosite",
        }
    }

    /// The format that a list is most likely of: by the lines that only one format has.
    pub fn guess(octets: &[u8]) -> Self {
        // The first octet of a geosite.dat is the tag of its first entry, which would be an empty line in a text.
        if octets.first() == Some(&b'\n') && octets.iter().take(64).any(|&octet| octet < 9) {
            return Self::Geosite;
        }
        let mut votes = [0; Self::ALL.len()];
        let written = lines(octets).filter(|(_, line)| !line.trim_ascii().is_empty());
        for (_, line) in written.take(LOOKED_AT) {
            let line = String::from_utf8_lossy(line.trim_ascii());
            if let Some(format) = Self::of_line(&line) {
                votes[format as usize] += 1;
            }
        }
        let most = votes.iter().copied().max().unwrap_or(0);
        Self::ALL
            .into_iter()
            .find(|&format| most > 0 && votes[format as usize] == most)
            .unwrap_or(Self::Plain)
    }

    fn of_line(line: &str) -> Option<Self> {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| line.starts_with(prefix));
        let mut fields = line.split_ascii_whitespace();
        let first_is_address = fields.next().is_some_and(|it| it.parse::<IpAddr>().is_ok());
        let second = fields.next();
        if starts(&["||", "@@", "!", "[Adblock"]) {
            Some(Self::Adblock)
        } else if starts(&["server=/", "local=/", "address=/", "ipset=/", "nftset=/"]) {
            Some(Self::Dnsmasq)
        } else if first_is_address && second.is_some_and(|name| !name.starts_with('#')) {
            Some(Self::Hosts)
        } else if starts(&["domain:", "full:", "regexp:", "include:"])
            || second.is_some_and(|attribute| attribute.starts_with(['@', '&']))
        {
            Some(Self::V2fly)
        } else {
            None
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// A format that there is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFormat(String);

impl std::error::Error for UnknownFormat {}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Format::ALL.map(Format::name);
        write!(f, "there is no format \"{}\"", self.0)?;
        match suggest::nearest(&self.0, names) {
            Some(name) => write!(f, "; did you mean \"{name}\"?"),
            None => write!(f, "; those known: {}", names.join(", ")),
        }
    }
}
