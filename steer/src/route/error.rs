//! What can go wrong, each with the object and what to do about it.

use std::{fmt, io, path::PathBuf};

use super::{
    Change,
    plan::{Mark, Numbers, Priority, TableId},
};

/// Why steer's routing state could not be read, made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mark that would match nothing or everything.
    #[error(
        "the mark {value:#x} with mask {mask:#x} cannot be used: it must not be zero and all its bits must be within \
         the mask; set [routing] mark and mask, for example 0x1000 and 0x3000"
    )]
    BadMark {
        /// Bits set.
        value: u32,
        /// Bits compared.
        mask: u32,
    },
    /// There are more VPNs than marks.
    #[error(
        "the mask {:#x} has no room for the marks of {vpns} VPNs: set [routing] mask to more bits, of which mark is one, for example \
         mask = {:#x}",
        mark.mask(),
        mark.wider(*vpns)
    )]
    NarrowMask {
        /// The first one's.
        mark: Mark,
        /// How many there are.
        vpns: usize,
    },
    /// A table that is the system's.
    #[error(
        "routing table {} is the system's own: set [routing] table to a free number, for example 7350",
        table.0
    )]
    SystemTable {
        /// The table.
        table: TableId,
    },
    /// A priority that is no use.
    #[error(
        "rule priority {priority} cannot be used: it must be from 1 to {}, before the main table's rule; set \
         [routing] priority, for example to 7350",
        32766 - Numbers::PRIORITIES
    )]
    BadPriority {
        /// The first priority of the range.
        priority: Priority,
    },
    /// Somebody else's rule is where ours belong.
    #[error(
        "the rule \"{rule}\" is not steer's, but has one of the priorities {first} to {} that steer uses: move that \
         rule, or set [routing] priority to the first of {} free priorities",
        first.0 + Numbers::PRIORITIES - 1,
        Numbers::PRIORITIES
    )]
    ForeignRule {
        /// The rule as `ip` prints it.
        rule: String,
        /// First of our priorities.
        first: Priority,
    },
    /// Somebody else's route is in our table.
    #[error(
        "routing table {table} is in use: it holds the route \"{route}\", which is not steer's; set [routing] table \
         to a free number"
    )]
    ForeignRoute {
        /// The route as `ip` prints it.
        route: String,
        /// The table.
        table: TableId,
    },
    /// Somebody else's rule takes the packets that we mark.
    #[error(
        "the mark {mark} is in use: the rule \"{rule}\" is about the same bits; set [routing] mark and mask to bits \
         that nobody uses"
    )]
    MarkTaken {
        /// The rule as `ip` prints it.
        rule: String,
        /// The mark.
        mark: Mark,
    },
    /// Somebody else's nft table has our name.
    #[error(
        "the nft table \"inet steer\" is not steer's: {why}; look at it with `nft list table inet steer` and rename \
         or delete it"
    )]
    ForeignNft {
        /// What tells.
        why: String,
    },
    /// No netlink socket.
    #[error("cannot open a routing netlink socket: {source}")]
    Connect {
        /// The cause.
        source: io::Error,
    },
    /// Rules or routes could not be listed.
    #[error("cannot list the {what}: {source}")]
    List {
        /// What was listed.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// Something was refused for want of a privilege.
    #[error("not permitted to do `{command}`: steer needs root, or the capability CAP_NET_ADMIN")]
    Permission {
        /// What was to be done, as a command.
        command: String,
    },
    /// A change was refused.
    #[error("`{change}` failed: {source}{}", Hint(change, source))]
    Change {
        /// The change.
        change: Box<Change>,
        /// The cause.
        source: io::Error,
    },
    /// The `nft` program is not there.
    #[error(
        "the nft program is not installed, and steer needs it to masquerade packets that leave by the VPN: install \
         the package nftables"
    )]
    NftMissing,
    /// The `nft` program failed.
    #[error("`{command}` failed: {message}")]
    Nft {
        /// What it was to do, as a command.
        command: String,
        /// What it said.
        message: String,
    },
    /// The `iptables` program failed.
    #[error(
        "`{command}` failed: {message}; steer needs it to have Docker's firewall let through what is forwarded to containers"
    )]
    Iptables {
        /// What it was to do, as a command.
        command: String,
        /// What it said.
        message: String,
    },
    /// A sysctl could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Sysctl {
        /// Its file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The record of what was changed could not be read or written.
    #[error(
        "cannot {action} {}, the record of what has to be put back: {source}",
        path.display()
    )]
    Ledger {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not everything could be removed.
    #[error(
        "not all of steer's routing state could be removed: {}; run `steer cleanup`",
        Sentences(errors)
    )]
    Incomplete {
        /// What failed.
        errors: Vec<Error>,
    },
}

impl Error {
    pub(super) fn refused(change: &Change, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission {
                command: change.to_string(),
            },
            _ => Self::Change {
                change: Box::new(change.clone()),
                source,
            },
        }
    }

    /// Whether a route was refused because its interface went away or down meanwhile.
    pub(super) fn is_of_a_lost_interface(&self) -> bool {
        let Self::Change { change, source } = self else {
            return false;
        };
        let route = matches!(**change, Change::AddRoute(_) | Change::ReplaceRoute { .. });
        route
            && matches!(
                source.raw_os_error(),
                Some(libc::ENODEV | libc::ENETDOWN | libc::ENXIO)
            )
    }
}

struct Hint<'a>(&'a Change, &'a io::Error);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(change, source) = self;
        match (change, source.raw_os_error()) {
            (Change::AddRule(_), Some(libc::EEXIST)) => f.write_str(
                ": somebody else has added the same rule; delete it or set [routing] priority",
            ),
            (Change::AddRoute(_), Some(libc::EEXIST)) => f.write_str(
                ": somebody else has added the same route; delete it or set [routing] table",
            ),
            (Change::LoosenRpFilter { .. } | Change::RestoreRpFilter { .. }, Some(libc::EROFS)) => {
                f.write_str(": /proc/sys is mounted read-only here; run steer on the host itself")
            }
            _ => Ok(()),
        }
    }
}

struct Sentences<'a>(&'a [Error]);

impl fmt::Display for Sentences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}
