//! The stack that the kernel programs take, as the strictest kernels count it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

/// Octets that a program and all that it calls may take together (`MAX_BPF_STACK`).
const MOST: u32 = 512;
/// Functions that may have called each other (`MAX_CALL_FRAMES`).
const FRAMES: usize = 8;
/// What each function's own are rounded up to; kernels with a compiler for their machine round to 16 by now.
const ROUND: u32 = 32;
/// The frame pointer.
const R10: u8 = 10;

/// What a function is in the object: its section's index, and where in it.
type Place = (usize, u64);

#[derive(Debug, Default)]
struct Function {
    name: String,
    own: u32,
    calls: BTreeSet<Place>,
}

/// The way from call to call that takes most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Way {
    octets: u32,
    names: Vec<String>,
}

/// Looks whether every kernel has the stack for the object's programs, and says how much the deepest takes, by which way.
///
/// # Errors
/// When one takes more, or the object cannot be read.
pub fn check(object: &object::File<'_>) -> Result<String> {
    let functions = functions(object)?;
    let mut known = BTreeMap::new();
    let mut deepest = Way::default();
    for place in functions.keys() {
        let way = way(&functions, *place, &mut known, 0)?;
        let told = way.names.join(" → ");
        ensure!(
            way.octets <= MOST && way.names.len() <= FRAMES,
            "{told} takes {} octets of stack in {} frames, of {MOST} in {FRAMES}, as kernels count that round each frame up to {ROUND}",
            way.octets,
            way.names.len()
        );
        if way.octets > deepest.octets {
            deepest = way;
        }
    }
    Ok(format!(
        "{} of {MOST} octets: {}",
        deepest.octets,
        deepest.names.join(" → ")
    ))
}

fn way(
    functions: &BTreeMap<Place, Function>,
    place: Place,
    known: &mut BTreeMap<Place, Way>,
    above: usize,
) -> Result<Way> {
    if let Some(way) = known.get(&place) {
        return Ok(way.clone());
    }
    let function = functions
        .get(&place)
        .context("something is called that is no function")?;
    ensure!(above < functions.len(), "{} calls itself", function.name);
    let mut below = Way::default();
    for &callee in &function.calls {
        let way = way(functions, callee, known, above + 1)?;
        if (way.octets, way.names.len()) > (below.octets, below.names.len()) {
            below = way;
        }
    }
    let mut names = vec![function.name.clone()];
    names.extend(below.names);
    let way = Way {
        octets: function.own.max(1).next_multiple_of(ROUND) + below.octets,
        names,
    };
    known.insert(place, way.clone());
    Ok(way)
}

fn functions(object: &object::File<'_>) -> Result<BTreeMap<Place, Function>> {
    let mut functions = BTreeMap::new();
    for symbol in object.symbols() {
        let (SymbolKind::Text, Some(section)) = (symbol.kind(), symbol.section_index()) else {
            continue;
        };
        let code = object.section_by_index(section)?;
        let code = code.data()?;
        let (from, to) = (symbol.address(), symbol.address() + symbol.size());
        let octets = code
            .get(usize::try_from(from)?..usize::try_from(to)?)
            .context("a function lies outside of its section")?;
        let name = symbol.name()?.to_owned();
        let own = frame(octets);
        let calls = BTreeSet::new();
        functions.insert((section.0, from), Function { name, own, calls });
    }
    for section in object.sections() {
        for (at, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                continue;
            };
            let symbol = object.symbol_by_index(symbol)?;
            let callee = symbol.section_index().map(|of| (of.0, symbol.address()));
            let caller = functions
                .range_mut((section.index().0, 0)..=(section.index().0, at))
                .next_back();
            // Others are those of maps and data.
            if let (Some(callee), Some((_, caller))) = (callee, caller)
                && symbol.kind() == SymbolKind::Text
            {
                caller.calls.insert(callee);
            }
        }
    }
    ensure!(!functions.is_empty(), "it has no functions");
    Ok(functions)
}

/// The octets below the frame pointer that a function uses: at constant distances, for no other are allowed.
fn frame(code: &[u8]) -> u32 {
    /// `mov`, of a register of 64 bits.
    const MOVE: u8 = 0xbf;
    /// `add` of a number to one.
    const ADD: u8 = 0x07;
    /// Classes of loads and stores by a register.
    const MEMORY: std::ops::RangeInclusive<u8> = 1..=3;
    const LOAD: u8 = 1;
    let mut deepest = 0;
    // A register that has just been made the frame pointer.
    let mut copy = None;
    for instruction in code.as_chunks::<8>().0 {
        let &[operation, registers, low, high, number @ ..] = instruction;
        let (target, source) = (registers & 0x0f, registers >> 4);
        let class = operation & 0x07;
        let base = if class == LOAD { source } else { target };
        let distance = if MEMORY.contains(&class) && base == R10 {
            i32::from(i16::from_le_bytes([low, high]))
        } else if operation == ADD && copy == Some(target) {
            i32::from_le_bytes(number)
        } else {
            0
        };
        deepest = deepest.min(distance);
        if operation == MOVE && source == R10 {
            copy = Some(target);
        }
    }
    deepest.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64) -> Place {
        (1, number)
    }

    fn function(name: &str, own: u32, calls: &[u64]) -> Function {
        Function {
            name: name.into(),
            own,
            calls: calls.iter().copied().map(place).collect(),
        }
    }

    #[test]
    fn each_frame_is_rounded_up_and_the_deepest_way_counts() {
        let functions = BTreeMap::from([
            (place(0), function("program", 136, &[8, 16])),
            (place(8), function("large", 100, &[])),
            (place(16), function("small", 40, &[24])),
            (place(24), function("empty", 0, &[])),
        ]);
        let way = way(&functions, place(0), &mut BTreeMap::new(), 0).unwrap();
        assert_eq!(way.octets, 160 + 128);
        assert_eq!(way.names, ["program", "large"]);
    }

    #[test]
    fn who_calls_himself_is_found() {
        let functions = BTreeMap::from([
            (place(0), function("a", 0, &[8])),
            (place(8), function("b", 0, &[0])),
        ]);
        let error = way(&functions, place(0), &mut BTreeMap::new(), 0).unwrap_err();
        assert!(error.to_string().ends_with("calls itself"), "{error}");
    }

    #[test]
    fn frames_are_as_deep_as_what_is_used_of_them() {
        let code = [
            // *(u64 *)(r10 - 16) = r1
            [0x7b, 0x1a, 0xf0, 0xff, 0, 0, 0, 0],
            // r2 = r10; r2 += -40
            [0xbf, 0xa2, 0, 0, 0, 0, 0, 0],
            [0x07, 0x02, 0, 0, 0xd8, 0xff, 0xff, 0xff],
            // r3 += -80
            [0x07, 0x03, 0, 0, 0xb0, 0xff, 0xff, 0xff],
            // r1 = *(u64 *)(r6 - 120)
            [0x79, 0x61, 0x88, 0xff, 0, 0, 0, 0],
        ];
        assert_eq!(frame(code.as_flattened()), 40);
        assert_eq!(frame(&[]), 0);
    }
}
