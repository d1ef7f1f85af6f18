//! The lab and the end-to-end tests on it.
//!
//! [`lab`] builds a Docker host, an Internet with a geo-block and a VPN in network
//! namespaces of one machine, out of real parts.

pub mod client;
pub mod fixture;
pub mod lab;
pub mod leaks;
pub mod pace;
pub mod quic;
