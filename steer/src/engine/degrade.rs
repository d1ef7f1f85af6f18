//! What an older kernel lacks, and what steer does without it.

use crate::{
    datapath::{Attachment, Datapath},
    error::sentence,
    host::{Host, NetnsCookie, cgroup::Hierarchy},
};

/// What this kernel lacks of what steer uses where it is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Lacks {
    /// Links of classifiers to interfaces (6.6).
    tcx: bool,
    /// Its own network namespace, told by a socket (5.14) or by a program.
    netns: Option<NoNetns>,
}

/// Why steer does not know its own network namespace.
#[derive(Clone, Debug)]
enum NoNetns {
    /// A program could not be asked.
    Failed(String),
    /// A program was not asked, though it should have been.
    Unseen,
}

impl Lacks {
    /// Finds what is missing, and does what can be done without it.
    pub(super) fn make_do(datapath: &mut Datapath, host: &mut Host) -> Self {
        let asked = attachment();
        if let Some(attachment) = asked {
            datapath.attach_by(attachment);
        }
        let mut lacks = Self {
            tcx: asked.is_none() && datapath.attachment() == Attachment::Clsact,
            netns: None,
        };
        if host.netns.is_none() {
            match netns(datapath) {
                Ok(cookie) => host.netns = Some(cookie),
                Err(why) => lacks.netns = Some(why),
            }
        }
        lacks
    }

    /// A line for each thing that is other than on a newer kernel.
    pub(super) fn notes(self, kernel: &str) -> Vec<String> {
        let tcx = self
            .tcx
            .then(|| format!("clsact instead of tcx: kernel {kernel} has no tcx"));
        let netns = self.netns.map(|why| match why {
            NoNetns::Failed(why) => format!(
                "no guard against packets on the wrong path: kernel {kernel} tells no process its network namespace, and a program could not be asked: {why}"
            ),
            NoNetns::Unseen => format!(
                "processes are not steered, only bridges: kernel {kernel} has lost which cgroups its sockets are of, as some before 5.15 do \
                 when somebody uses net_prio or net_cls of cgroup v1; boot it with cgroup_no_v1=net_prio,net_cls"
            ),
        });
        tcx.into_iter().chain(netns).collect()
    }
}

fn netns(datapath: &mut Datapath) -> Result<NetnsCookie, NoNetns> {
    let failed = |error: &dyn std::error::Error| NoNetns::Failed(sentence(error));
    let cgroup = Hierarchy::read().map_err(|error| failed(&error))?.own();
    let cgroup = cgroup.ok_or_else(|| {
        NoNetns::Failed("this process's own cgroup is below no mount of cgroup2".to_owned())
    })?;
    match datapath.netns(&cgroup) {
        Ok(Some(cookie)) => Ok(cookie),
        Ok(None) => Err(NoNetns::Unseen),
        Err(error) => Err(failed(&error)),
    }
}

/// How to attach to bridges, if a debug build is told by `STEER_ATTACHMENT`, so that tests see filters on any kernel.
fn attachment() -> Option<Attachment> {
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
            netns: Some(NoNetns::Failed("so it is".to_owned())),
        };
        assert_eq!(
            lacks.notes("5.10"),
            [
                "clsact instead of tcx: kernel 5.10 has no tcx",
                "no guard against packets on the wrong path: kernel 5.10 tells no process its network namespace, and a program could not be asked: so it is"
            ]
        );
    }
}
