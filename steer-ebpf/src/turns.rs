//! Loops that the verifier follows turn by turn.
//!
//! Every turn costs it the instructions of the loop's own body, so that body is short or the call of a global function,
//! and a long loop is one of loops. And it looks for the deepest stack along every way from call to call, so that the compiler
//! must not make one call into many by unrolling.

use core::arch::asm;

/// Turns of the inner loop.
pub const TURNS: u32 = 8;

/// So many turns, of which the compiler does not know how many they are.
pub struct Turns {
    done: u64,
    most: u32,
}

/// A loop of at most so many turns.
#[inline(always)]
pub fn turns(most: u32) -> Turns {
    Turns { done: 0, most }
}

impl Iterator for Turns {
    type Item = ();

    #[inline(always)]
    fn next(&mut self) -> Option<()> {
        if self.done >= u64::from(self.most) {
            return None;
        }
        self.done = opaque(self.done + 1);
        Some(())
    }
}

/// A number that the compiler knows nothing about, and the verifier all that it did. As wide as a register, so that what
/// is checked is what is used.
#[inline(always)]
pub fn opaque(mut number: u64) -> u64 {
    // SAFETY: a register is assigned to itself.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

/// A global function that takes a step [`TURNS`] times, as long as that returns a certain number.
macro_rules! repeated {
    ($name:ident, $step:ident while $on:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(slot: u32) -> u32 {
            for () in $crate::turns::turns($crate::turns::TURNS) {
                let status = $step(slot);
                if status != $on {
                    return status;
                }
            }
            $on
        }
    };
}

pub(crate) use repeated;
