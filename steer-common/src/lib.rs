//! Shared by the kernel programs and user space.
#![cfg_attr(not(test), no_std)]
