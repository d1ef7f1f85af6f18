//! What an older kernel lacks, and what steer does without it.

use crate::datapath::Attachment;

/// What this kernel lacks of what steer uses where it is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lacks {
    /// Links of classifiers to interfaces (6.6).
    pub(super) tcx: bool,
    /// A way to tell the cookie of a network namespace (`SO_NETNS_COOKIE`, 5.14).
    pub(super) cookie: bool,
}

impl Lacks {
    /// A line for each thing that is other than on a newer kernel.
    pub(super) fn notes(self, kernel: &str) -> Vec<String> {
        let tcx = self
            .tcx
            .then(|| format!("clsact instead of tcx: kernel {kernel} has no tcx"));
        let cookie = self.cookie.then(|| {
            format!(
                "no guard against packets on the wrong path: kernel {kernel} does not tell network namespaces apart (5.14 does)"
            )
        });
        tcx.into_iter().chain(cookie).collect()
    }
}

/// How to attach to bridges, if a debug build is told by `STEER_ATTACHMENT`, so that tests see filters on any kernel.
pub(super) fn attachment() -> Option<Attachment> {
    if !cfg!(debug_assertions) {
        return None;
    }
    match std::env::var("STEER_ATTACHMENT").as_deref() {
        Ok("clsact") => Some(Attachment::Clsact),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_a_line_each() {
        assert!(Lacks::default().notes("6.18").is_empty());
        let lacks = Lacks {
            tcx: true,
            ..Lacks::default()
        };
        assert_eq!(
            lacks.notes("6.1"),
            ["clsact instead of tcx: kernel 6.1 has no tcx"]
        );
        let lacks = Lacks {
            cookie: true,
            ..lacks
        };
        assert_eq!(lacks.notes("5.10").len(), 2);
    }
}
