//! What user space learns from the first octets of flows, where the kernel cannot: names in ClientHellos that came in
//! pieces and in QUIC Initials, and DNS messages that came over TCP.

pub mod held;
pub mod hello;
pub mod messages;
pub mod quic;
pub mod raw;
pub mod refuse;
pub mod reinject;
pub mod reset;
pub mod stream;
mod table;

#[cfg(test)]
mod tests;
