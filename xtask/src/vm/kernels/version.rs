//! Versions of Debian's packages, and of the kernels in them.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A Debian package's version, ordered as dpkg orders them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version(String);

impl Version {
    /// The kernel's own version, as people say it: `7.3~rc7-1~exp1` is `7.3-rc7`.
    pub fn kernel(&self) -> String {
        let whole = self.0.split_once(':').map_or(&*self.0, |(_, rest)| rest);
        let upstream = whole
            .rsplit_once('-')
            .map_or(whole, |(upstream, _)| upstream);
        upstream.replace('~', "-")
    }

    /// As apt has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The numbers of the kernel's version, without what tells a release candidate.
    pub fn numbers(&self) -> Vec<u32> {
        let kernel = self.kernel();
        let end = kernel
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(kernel.len());
        kernel[..end]
            .split('.')
            .map_while(|n| n.parse().ok())
            .collect()
    }

    fn parts(&self) -> (u64, &[u8], &[u8]) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("0", &self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        let epoch = epoch.parse().unwrap_or(0);
        (epoch, upstream.as_bytes(), revision.as_bytes())
    }
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (epoch, upstream, revision) = self.parts();
        let (other_epoch, other_upstream, other_revision) = other.parts();
        epoch
            .cmp(&other_epoch)
            .then_with(|| compare(upstream, other_upstream))
            .then_with(|| compare(revision, other_revision))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares by turns a run of other characters and a number, as deb-version(7) has it: `~` comes before the end.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let weight = |rest: &[u8]| match rest.first() {
        None => 0,
        Some(b'~') => -1,
        Some(c) if c.is_ascii_digit() => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    let starts_other = |rest: &[u8]| rest.first().is_some_and(|c| !c.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while starts_other(a) || starts_other(b) {
            let order = weight(a).cmp(&weight(b));
            if order.is_ne() {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (first, second) = (number(&mut a), number(&mut b));
        let order = (first.len(), first).cmp(&(second.len(), second));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the digits at the start, without leading zeros.
fn number<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest
        .iter()
        .position(|c| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ordered = [
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0",
            "1.0-0.1",
            "1.0a",
            "1.0+deb",
            "6.1.27-1",
            "6.1.192-1",
            "6.1.192-2",
            "6.12.90-1~bpo12+1",
            "6.12.90-1",
            "6.12.90-2~bpo12+1",
            "6.12.107-1",
            "7.3~rc7-1~exp1",
            "7.3-1",
            "7.3.4-1~bpo13+1",
            "1:0.1-1",
        ];
        for (at, older) in ordered.iter().enumerate() {
            for newer in &ordered[at + 1..] {
                let (older, newer) = (Version::from(*older), Version::from(*newer));
                assert!(older < newer, "{older:?} < {newer:?}");
            }
        }
        assert_eq!(
            Version::from("6.01.2-1").cmp(&Version::from("6.1.2-1")),
            Ordering::Equal
        );
    }

    #[test]
    fn a_version_is_told_as_people_say_it() {
        for (version, said) in [
            ("5.10.262-1", "5.10.262"),
            ("6.12.90-2~bpo12+1", "6.12.90"),
            ("7.3~rc7-1~exp1", "7.3-rc7"),
            ("2:6.18-1", "6.18"),
        ] {
            assert_eq!(Version::from(version).kernel(), said);
        }
    }
}
