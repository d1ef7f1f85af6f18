//! steer as a library: configuration, host discovery, loading of the kernel programs, routing.

pub mod cli;
pub mod config;
pub mod datapath;
pub mod error;
pub mod host;
pub mod origin;
pub mod route;
pub mod rules;
mod suggest;
