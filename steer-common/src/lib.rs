//! What steer's kernel programs and its user space share: the layouts of the maps, and every parser and every
//! decision as pure functions over values, so that the code the kernel runs is tested on the host.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod answer;
pub mod decide;
pub mod dns;
pub mod http;
pub mod opening;
pub mod packet;
pub mod process;
pub mod quic;
pub mod scope;
pub mod slot;
pub mod stats;
pub mod suffix;
pub mod tls;
pub mod types;
pub mod unaligned;
pub mod usage;
