//! UDP: the very first datagram of a flow takes the right path, connected or not.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use steer_tests::{
    client::{Ask, Told},
    fixture::{Shared, datagram, lookup, open, resolve, server},
    lab::plan::Path,
};

#[test]
fn the_first_datagram_takes_the_right_path() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            for connected in [true, false] {
                let number = lab.numbers(2)?;
                resolve(client, lookup(number, "fresh", v6))?;
                for (number, right) in [(number, Path::Vpn), (number + 1, Path::Direct)] {
                    let path = datagram(client, server(number, v6), connected)?;
                    assert_eq!(path, right, "{who}, v6 {v6}, connected {connected}");
                }
            }
        }
    }
    let mut wrong = lab.contacts();
    wrong.retain(|one| one.udp && one.path() == Path::Other);
    assert!(
        wrong.is_empty(),
        "datagrams with a source that is nobody's: {wrong:?}"
    );
    lab.done()
}

#[test]
fn one_socket_may_send_by_both_paths_in_turn() -> Result<()> {
    let mut lab = Shared::steered()?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(2)?;
            resolve(client, lookup(number, "fresh", v6))?;
            let (vpn, direct) = (server(number, v6), server(number + 1, v6));
            let servers = vec![direct, vpn, direct, vpn, vpn, direct];
            let Told::SeenEach(seen) = client.ask(&Ask::Datagrams(servers.clone()))? else {
                bail!("{who} was told something else")
            };
            let seen: Vec<_> = seen.iter().map(|seen| Path::of(seen.ip())).collect();
            let right: Vec<_> = servers
                .iter()
                .map(|to| if *to == vpn { Path::Vpn } else { Path::Direct })
                .collect();
            assert_eq!(seen, right, "{who}, v6 {v6}");
        }
    }
    lab.done()
}

#[test]
fn an_ipv6_socket_may_reach_ipv4() -> Result<()> {
    let mut lab = Shared::steered()?;
    let mapped = |server: SocketAddr| match server.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), server.port()),
        IpAddr::V6(_) => server,
    };
    for (who, client) in &mut lab.clients()? {
        let number = lab.numbers(2)?;
        resolve(client, lookup(number, "fresh", false))?;
        for (number, right) in [(number, Path::Vpn), (number + 1, Path::Direct)] {
            let server = mapped(server(number, false));
            assert_eq!(open(client, server)?.1, right, "{who}: TCP");
            for connected in [true, false] {
                let path = datagram(client, server, connected)?;
                assert_eq!(path, right, "{who}: UDP, connected {connected}");
            }
        }
    }
    lab.done()
}
