//! `steer top`: what goes each path and to whom, live.

pub mod draw;
pub mod input;
pub mod screen;
pub mod state;

#[cfg(test)]
mod tests;
