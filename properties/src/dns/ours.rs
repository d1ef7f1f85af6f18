//! The parser of steer-common, called as the kernel programs call it.

use std::{collections::HashMap, sync::LazyLock};

use steer_common::{
    decide::Match,
    dns::{Error, Found, Message, Role, SIZE, STEPS, Step},
    stats::Outcome,
    suffix::{Hasher, Key, hash_name},
    types::{RuleEntry, Verdict},
};

use super::{Asked, Lesson, Name, RULES};

const KEY: Key = Key([3, 4]);

static BY_HASH: LazyLock<HashMap<u64, RuleEntry>> = LazyLock::new(|| {
    let hashed = |(name, entry): &(&str, RuleEntry)| (hash_name(&KEY, name), *entry);
    RULES.iter().map(hashed).collect()
});

/// What was in the buffer before: nothing of it may tell.
const LEFTOVER: u8 = 0xc0;

pub(super) fn learn(asked: &Asked, octets: &[u8]) -> Lesson {
    let size = octets.len().min(SIZE);
    let mut message = Box::new(Message::new());
    message.buffer().fill(LEFTOVER);
    message.buffer()[..size].copy_from_slice(&octets[..size]);
    message.filled(size as u32);
    if message.role() != Role::Answer {
        return Lesson::none(Outcome::BadMessage);
    }
    if u16::from_be(message.id()) != asked.id {
        return Lesson::none(Outcome::Unasked);
    }
    if message.read_question().is_err() {
        return Lesson::none(Outcome::BadMessage);
    }
    let (name, mut matched) = matching(&mut message);
    if name != hash(&asked.name) {
        return Lesson::none(Outcome::OtherName);
    }
    if matched.verdict == Verdict::NONE {
        matched = match find_alias(&mut message) {
            Ok(Some(matched)) => matched,
            Ok(None) => return Lesson::none(Outcome::NoRule),
            Err(_) => return Lesson::none(Outcome::BadMessage),
        };
    }
    let mut lesson = Lesson::none(Outcome::Learned);
    if learn_addresses(&mut message, matched.verdict, &mut lesson).is_err() {
        lesson.outcome = if matched.verdict.bars_direct() {
            Outcome::HeldBack
        } else {
            Outcome::CutShort
        };
    }
    lesson
}

fn find_alias(message: &mut Message) -> Result<Option<Match>, Error> {
    let mut found = Found::default();
    message.begin_answers();
    for _ in 0..STEPS {
        match message.step(&mut found)? {
            Step::On | Step::Address => {}
            Step::End => return Ok(None),
            Step::Alias => {
                message.begin_alias();
                message.read_name()?;
                let (_, matched) = matching(message);
                if matched.verdict != Verdict::NONE {
                    return Ok(Some(matched));
                }
            }
        }
    }
    Err(Error::CutShort)
}

fn learn_addresses(
    message: &mut Message,
    verdict: Verdict,
    lesson: &mut Lesson,
) -> Result<(), Error> {
    let mut found = Found::default();
    message.begin_answers();
    for _ in 0..STEPS {
        match message.step(&mut found)? {
            Step::On | Step::Alias => {}
            Step::Address if !found.address.is_steerable() => {}
            Step::Address => lesson.learn(found.address.to_ip(), found.ttl, verdict),
            Step::End => return Ok(()),
        }
    }
    Err(Error::CutShort)
}

/// The hash of the name that was read, and what the rules say of it.
fn matching(message: &mut Message) -> (u64, Match) {
    let mut matched = Match::default();
    let hash = message.hash_name(&KEY, |hash, whole| {
        if let Some(entry) = BY_HASH.get(&hash) {
            matched.suffix(hash, whole, entry);
        }
    });
    (hash, matched)
}

fn hash(name: &Name) -> u64 {
    let mut hasher = Hasher::new(&KEY);
    name.labels().rev().for_each(|label| hasher.label(label));
    hasher.finish()
}
