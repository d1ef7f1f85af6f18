//! The kernel programs, run by `BPF_PROG_TEST_RUN`.

use steer::datapath::{Datapath, PROGRAMS};

#[test]
fn loads() {
    let datapath = Datapath::load(None).unwrap_or_else(|e| panic!("{e:?}"));
    for name in PROGRAMS {
        let info = datapath.program(name).unwrap().info().unwrap();
        eprintln!("{name}: {:?} verified", info.verified_instruction_count());
    }
}
