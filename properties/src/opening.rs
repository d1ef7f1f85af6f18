//! What the readers of a flow's first octets have in common.

use std::fmt::Debug;

use steer_common::opening::{Opening, Step};

/// Octets that the kernel programs look at.
pub(crate) const SIZE: usize = 4096;

/// What a reader made of the first octets of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Named(String),
    Unnamed,
    Foreign,
    /// More has to come, or come in another way.
    Open,
}

/// Reads octets with `leftover` behind them in the buffer; `read` turns once for each step, which has an end.
pub(crate) fn read(octets: &[u8], leftover: u8, read: impl FnOnce(&Opening<SIZE>) -> Step) -> Seen {
    let mut opening = Box::<Opening<SIZE>>::default();
    opening.buffer().fill(leftover);
    opening.fill(octets);
    match read(&opening) {
        Step::On => panic!("it does not come to an end"),
        Step::Name(name) => {
            assert!((name.at + name.size) as usize <= octets.len(), "{name:?}");
            let text = std::str::from_utf8(opening.text(name)).expect("a name is ASCII");
            let name: Result<steer::rules::Domain, _> = text.parse();
            assert!(
                name.is_ok() || text.contains('_') || text.contains('-'),
                "{text} is nobody's name"
            );
            Seen::Named(text.to_ascii_lowercase())
        }
        Step::NoName => Seen::Unnamed,
        Step::Foreign => Seen::Foreign,
        Step::More | Step::Records => Seen::Open,
    }
}

/// What was told of the beginning stays true of the whole.
pub(crate) fn check_cut(octets: &[u8], cut: u8, read: impl Fn(&[u8]) -> Seen) {
    let beginning = &octets[..octets.len() * usize::from(cut) / 256];
    let told = read(beginning);
    if told != Seen::Open {
        assert_eq!(told, read(octets), "after {} octets", beginning.len());
    }
}
