//! Routing on the real kernel, in a network namespace for each test.

mod bypass;
mod containers;
mod dns;
mod host;
mod netns;
mod others;
mod packets;
mod ports;
mod several;
mod steering;
mod transitions;
mod ways_out;
