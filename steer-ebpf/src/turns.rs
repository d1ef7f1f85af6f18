//! Loops that the verifier follows turn by turn.
//!
//! Every turn costs it the instructions of the loop's own body, so that body is the call of a global function, and a
//! long loop is one of loops.

/// Turns of the inner loop.
pub const TURNS: u32 = 32;

/// A global function that calls another one [`TURNS`] times, as long as that returns a certain number.
macro_rules! turns {
    ($name:ident, $step:ident while $on:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(slot: u32) -> u32 {
            for _ in 0..$crate::turns::TURNS {
                let status = $step(slot);
                if status != $on {
                    return status;
                }
            }
            $on
        }
    };
}

pub(crate) use turns;
