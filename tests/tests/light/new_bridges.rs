//! Bridges that come while nobody attaches to them.

use std::{thread, time::Duration};

use anyhow::Result;
use steer_tests::{
    client::Ask,
    fixture::{BRIDGE, Fixture, lookup, open, resolve, server},
    lab::plan::Path,
    pace::patience,
};

#[test]
fn containers_on_a_bridge_that_comes_while_steer_is_dead_wait_for_it() -> Result<()> {
    let lab = Fixture::up()?;
    let bridges = format!("bridges = [\"{BRIDGE}\"]");
    let config = lab.config().replace(&bridges, "bridges = [\"br-*\"]");
    lab.lab.steer(&config, &[])?.kill()?;
    let guest = lab.lab.guest("br-later", 9)?;
    let mut later = lab.lab.client_behind(&guest)?;
    for v6 in [false, true] {
        // Nobody has told of its address: it is nobody's business but for the bridge that it comes from.
        later.ask(&Ask::Send {
            server: server(2, v6),
            connected: false,
        })?;
    }
    thread::sleep(patience(Duration::from_millis(300)));
    let passed = lab.servers.contacts();
    assert!(passed.is_empty(), "{passed:?}");
    // Those that were there go on.
    for (who, client) in &mut lab.clients()? {
        resolve(client, lookup(4, "fresh", false))?;
        assert_eq!(open(client, server(4, false))?.1, Path::Vpn, "{who}");
        assert_eq!(open(client, server(5, false))?.1, Path::Direct, "{who}");
    }

    let steer = lab.lab.steer(&config, &[])?;
    for v6 in [false, true] {
        resolve(&mut later, lookup(6, "fresh", v6))?;
        assert_eq!(open(&mut later, server(6, v6))?.1, Path::Vpn, "v6 {v6}");
        assert_eq!(open(&mut later, server(7, v6))?.1, Path::Direct, "v6 {v6}");
    }
    steer.terminate().map(drop)
}
