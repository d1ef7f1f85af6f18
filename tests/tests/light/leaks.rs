//! Nothing for the VPN leaves by another way, and nothing direct fails, whatever becomes of the VPN, of steer and of bridges.

use anyhow::Result;
use fastrand::Rng;
use steer_tests::{
    fixture::{BRIDGE, Fixture, Shared},
    leaks::{NUMBERS, Trouble, a_while, seek},
};

/// Bridges that come and go.
#[derive(Default)]
struct Bridges(usize);

impl Trouble for Bridges {
    fn make(&mut self, lab: &mut Fixture, rng: &mut Rng) -> Result<()> {
        if rng.bool() {
            lab.in_box("ip link add br-passing type bridge; ip link set br-passing up")?;
            a_while(rng);
            lab.in_box("ip link del br-passing")?;
            self.0 += 1;
        }
        Ok(())
    }

    fn end(&mut self, _: &Fixture) -> Result<()> {
        println!("{} bridges", self.0);
        Ok(())
    }
}

#[test]
fn nothing_leaks_and_nothing_fails_while_the_vpn_flaps_and_steer_is_killed() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let first = lab.numbers(NUMBERS + 1)?.next_multiple_of(2);
    // With every bridge that there is or will be.
    let bridges = format!("bridges = [\"{BRIDGE}\"]");
    let config = lab.config().replace(&bridges, "bridges = [\"br-*\"]");
    seek::<Bridges>(&mut lab, first, &config)?;
    lab.done()
}
