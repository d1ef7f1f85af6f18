//! Numbers that stand anywhere in memory.
//!
//! The machines that the kernel runs on read them at once, and so does the kernel's own machine there, except from its stack.
//! Its compiler does not know that and would put them together octet by octet.

macro_rules! readers {
    ($($(#[$doc:meta])+ $name:ident, $kind:ty, $load:literal;)+) => {$(
        $(#[$doc])+
        ///
        /// # Safety
        /// So many octets there are valid for reads. In a kernel program they are none of its stack's.
        #[inline(always)]
        pub unsafe fn $name(from: *const u8) -> $kind {
            #[cfg(target_arch = "bpf")]
            {
                let number: u64;
                // SAFETY: the caller's promise.
                unsafe {
                    core::arch::asm!($load, out(reg) number, in(reg) from, options(pure, readonly, nostack, preserves_flags));
                }
                number as $kind
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller's promise.
            unsafe {
                from.cast::<$kind>().read_unaligned()
            }
        }
    )+};
}

readers! {
    /// Two octets, as they stand in memory.
    two, u16, "{0} = *(u16 *)({1} + 0)";
    /// Four octets, as they stand in memory.
    four, u32, "{0} = *(u32 *)({1} + 0)";
    /// Eight octets, as they stand in memory.
    eight, u64, "{0} = *(u64 *)({1} + 0)";
}
