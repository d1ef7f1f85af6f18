//! While the VPN is down, what must go through it goes nowhere; only by the user's choice does
//! it go direct.

use anyhow::Result;
use steer_tests::{
    fixture::{Fixture, datagram, lookup, open, resolve, server},
    lab::{Ns, plan::Path},
};

#[test]
fn blocked_by_default() -> Result<()> {
    let fixture = Fixture::up()?;
    let steer = fixture.steer()?;
    take_tunnel_down(&fixture)?;
    for (turn, (who, client)) in (1u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            resolve(client, lookup(turn, "fresh", v6))?;
            assert!(
                open(client, server(turn, v6)).is_err(),
                "{who}, v6 {v6}: TCP got through"
            );
            for connected in [true, false] {
                let got = datagram(client, server(turn, v6), connected);
                assert!(
                    got.is_err(),
                    "{who}, v6 {v6}, connected {connected}: UDP got through"
                );
            }
            assert_eq!(
                open(client, server(turn + 100, v6))?.1,
                Path::Direct,
                "{who}, v6 {v6}"
            );
        }
    }
    let mut leaked = fixture.servers.contacts();
    leaked.retain(|one| {
        [1, 2]
            .iter()
            .any(|n| [server(*n, false), server(*n, true)].contains(&one.server))
    });
    assert!(leaked.is_empty(), "these leaked: {leaked:?}");
    steer.terminate().map(drop)
}

#[test]
fn direct_by_choice() -> Result<()> {
    let fixture = Fixture::up()?;
    let config = fixture
        .config()
        .replace("[vpn]\n", "[vpn]\non_down = \"direct\"\n");
    let steer = fixture.lab.steer(&config, &[])?;
    take_tunnel_down(&fixture)?;
    for (turn, (who, client)) in (1u16..).zip(&mut fixture.clients()?) {
        for v6 in [false, true] {
            resolve(client, lookup(turn, "fresh", v6))?;
            assert_eq!(
                open(client, server(turn, v6))?.1,
                Path::Direct,
                "{who}, v6 {v6}"
            );
        }
    }
    steer.terminate().map(drop)
}

fn take_tunnel_down(fixture: &Fixture) -> Result<()> {
    let down = ["ip", "link", "set", fixture.lab.tunnel_interface(), "down"];
    fixture.lab.run(Ns::Box, &down)?.stdout().map(drop)
}
