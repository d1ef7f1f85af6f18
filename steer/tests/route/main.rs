//! Routing on the real kernel, in a network namespace for each test.

mod bypass;
mod host;
mod netns;
mod others;
mod packets;
mod steering;
mod transitions;
mod ways_out;
