//! Virtual machines with the kernels that steer has to run on.

#[expect(dead_code, reason = "`cargo xtask vm` will call it")]
pub mod kernels;
