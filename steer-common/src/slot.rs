//! A value that is read from memory each time it is asked for.

/// Loop state of a parser.
///
/// The kernel's verifier follows what it knows of registers through every turn of a loop, and gives up after a million
/// instructions. What comes from memory is unknown to it, so that turns look alike and are checked once. The compiler
/// would keep the state in registers; volatile access stops it.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Slot(u32);

impl Slot {
    /// Zero.
    pub const fn zero() -> Self {
        Self(0)
    }

    /// The value.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        // SAFETY: a reference is valid and aligned for a read of its type.
        unsafe { core::ptr::read_volatile(&raw const self.0) }
    }

    /// Replaces the value.
    #[inline(always)]
    pub fn set(&mut self, value: u32) {
        // SAFETY: a mutable reference is valid, aligned and exclusive for a write of its type.
        unsafe { core::ptr::write_volatile(&raw mut self.0, value) }
    }
}
