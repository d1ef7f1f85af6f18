//! What every parser of steer holds to, whatever it is given.
//!
//! A property takes octets and panics where they break it, so that fuzzing (`cargo xtask fuzz`) and ordinary tests ask
//! the same. Where another implementation reads the same format, the property is that the two agree.

pub mod config;
pub mod dns;
pub mod domain;
pub mod http;
pub mod list;
mod opening;
pub mod packet;
pub mod quic;
pub mod seeds;
pub mod stream;
pub mod tls;

/// A parser's property and the name of its fuzz target, which is also the folder of its seeds in `fuzz/corpus`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("config", config::check),
    ("dns", dns::check),
    ("domain", domain::check),
    ("http", http::check),
    ("list", list::check),
    ("packet", packet::check),
    ("quic", quic::check),
    ("stream", stream::check),
    ("tls", tls::check),
];
