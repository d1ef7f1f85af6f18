//! steer as a library: configuration, host discovery, loading of the kernel programs, routing.

pub mod cli;
pub mod config;
pub mod control;
pub mod datapath;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod events;
pub mod host;
pub mod inspect;
pub mod instance;
pub mod learn;
pub mod natpmp;
pub mod origin;
pub mod pattern;
pub mod prefetch;
pub mod progress;
pub mod relay;
pub mod report;
pub mod route;
pub mod rules;
pub mod scope;
mod stamp;
mod suggest;
pub mod top;
mod words;
