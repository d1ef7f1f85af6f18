//! End to end with a dockerd of the lab's own, a registry and a geo-block.

mod conflicts;
mod containers;
mod internal;
mod lab;
mod leaks;
mod mappings;
mod published;
mod pull;
mod restarts;
mod scoped;
mod scopes;
mod session;
mod several_vpns;
