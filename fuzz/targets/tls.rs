#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| steer_properties::tls::check(octets));
