//! UDP: the very first datagram of a flow takes the right path, connected or not.

use anyhow::Result;
use steer_tests::{
    fixture::{Fixture, datagram, lookup, resolve, server},
    lab::plan::Path,
};

#[test]
fn the_first_datagram_takes_the_right_path() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    for (turn, (who, client)) in (1u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            for connected in [true, false] {
                let number = 10 * turn + u16::from(connected);
                resolve(client, lookup(number, "fresh", v6))?;
                let path = datagram(client, server(number, v6), connected)?;
                assert_eq!(path, Path::Vpn, "{who}, v6 {v6}, connected {connected}");
                let path = datagram(client, server(number + 100, v6), connected)?;
                assert_eq!(path, Path::Direct, "{who}, v6 {v6}, connected {connected}");
            }
        }
    }
    let mut wrong = fixture.servers.contacts();
    wrong.retain(|one| one.udp && one.path() == Path::Other);
    assert!(
        wrong.is_empty(),
        "datagrams with a source that is nobody's: {wrong:?}"
    );
    steer.terminate().map(drop)
}
