//! steer as a library: configuration, host discovery, loading of the kernel programs, routing.

pub mod datapath;
pub mod error;
pub mod route;
