//! What a DNS answer teaches, in one call: for user space, and as the model of what the kernel programs do step by step.

use crate::{
    decide::Match,
    dns::{Error, Found, Message, STEPS, Step},
    suffix::Key,
    types::{RuleEntry, Verdict},
};

/// What an answer says of its question's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taught {
    /// Hash of the name asked for.
    pub name: u64,
    /// The rule of that name, or else of the first of its aliases that has one.
    pub matched: Match,
    /// Whether the answer was read to its end, as far as it matters: an address in the rest is not known.
    pub whole: bool,
}

/// Reads an answer under a key and rules, and shows each address of a name that a rule speaks of.
///
/// # Errors
/// When there is no question in it.
pub fn teach(
    message: &mut Message,
    key: &Key,
    rule: impl Fn(u64) -> Option<RuleEntry>,
    each: impl FnMut(&Found),
) -> Result<Taught, Error> {
    let judge = |message: &mut Message| {
        let mut matched = Match::default();
        message.hash_name(key, |hash, whole| {
            if let Some(entry) = rule(hash) {
                matched.suffix(hash, whole, &entry);
            }
        });
        matched
    };
    teach_by(message, key, judge, each)
}

/// Reads an answer as [`teach`] does, whoever judges the name that was read last.
///
/// # Errors
/// When there is no question in it.
pub fn teach_by(
    message: &mut Message,
    key: &Key,
    mut judge: impl FnMut(&mut Message) -> Match,
    mut each: impl FnMut(&Found),
) -> Result<Taught, Error> {
    message.read_question()?;
    let name = message.hash_name(key, |_, _| {});
    let mut matched = judge(message);
    let mut whole = true;
    if matched.verdict == Verdict::NONE {
        let end = walk(message, |message, step, _| {
            if step == Step::Alias {
                message.begin_alias();
                message.read_name()?;
                matched = judge(message);
            }
            Ok(matched.verdict == Verdict::NONE)
        });
        whole = end.is_ok();
    }
    if matched.verdict != Verdict::NONE {
        let end = walk(message, |_, step, found| {
            if step == Step::Address {
                each(found);
            }
            Ok(true)
        });
        whole = end.is_ok();
    }
    Ok(Taught {
        name,
        matched,
        whole,
    })
}

/// Goes through the answer section while `visit` says so.
fn walk(
    message: &mut Message,
    mut visit: impl FnMut(&mut Message, Step, &Found) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut found = Found::default();
    message.begin_answers();
    for _ in 0..STEPS {
        let step = message.step(&mut found)?;
        if step == Step::End || !visit(message, step, &found)? {
            return Ok(());
        }
    }
    Err(Error::CutShort)
}
