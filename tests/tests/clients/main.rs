//! End to end with programs that people have, on the light lab: curl of two generations with nginx, over TLS 1.3,
//! HTTP/3 and post-quantum key exchange. They come from Debian sid, so they are not among the tests of other kernels.

mod by_name;
