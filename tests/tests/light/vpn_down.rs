//! While the VPN is down, what must go through it goes nowhere; only by the user's choice does
//! it go direct.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use steer_tests::{
    client::Ask,
    fixture::{Fixture, Shared, datagram, lookup, open, resolve, server},
    lab::{
        Client, HostSnapshot, Ns,
        plan::{Path, Range, TUNNEL_V4, TUNNEL_V6},
    },
};

#[test]
fn blocked_by_default() -> Result<()> {
    let mut lab = Shared::steered()?;
    take_tunnel_down(&lab)?;
    let mut servers = Vec::new();
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let [vpn, direct] = tried(&mut lab, who, client, v6)?;
            servers.push(vpn);
            for connected in [true, false] {
                // Some are told that it cannot be sent and some are told nothing.
                let _ = client.ask(&Ask::Send {
                    server: vpn,
                    connected,
                });
                // What was sent before has arrived by then, if it goes this way.
                let path = datagram(client, direct, connected)?;
                assert_eq!(path, Path::Direct, "{who}, v6 {v6}, connected {connected}");
            }
        }
    }
    let mut leaked = lab.contacts();
    leaked.retain(|one| servers.contains(&one.server));
    assert!(leaked.is_empty(), "these leaked: {leaked:?}");
    make_tunnel_anew(&mut lab)?;
    lab.done()
}

#[test]
fn direct_by_choice() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    let config = lab.config();
    let config = config.replace("[vpn]\n", "[vpn]\non_down = \"direct\"\n");
    let steer = lab.lab.steer(&config, &[])?;
    take_tunnel_down(&lab)?;
    for (who, client) in &mut lab.clients()? {
        for v6 in [false, true] {
            let number = lab.numbers(1)?;
            resolve(client, lookup(number, "fresh", v6))?;
            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Direct, "{who}, v6 {v6}");
        }
    }
    steer.terminate()?;
    make_tunnel_anew(&mut lab)?;
    lab.done()
}

#[test]
fn before_it_is_there_it_is_awaited() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    lab.lab.tunnel_down()?;
    let before = HostSnapshot::take(&lab.lab)?;
    let named = lab.config();
    let found = named.replacen(
        &format!("interface = \"{}\"", lab.lab.tunnel_interface()),
        "interface = \"auto\"",
        1,
    );
    for config in [named, found] {
        lab.start_with(&config)?;
        lab.wait_said("vpn      awaited; meanwhile: blocked")?;
        let mut servers = Vec::new();
        let mut clients = lab.clients()?;
        for (who, client) in &mut clients {
            for v6 in [false, true] {
                let [vpn, _] = tried(&mut lab, who, client, v6)?;
                servers.push(vpn);
            }
        }
        lab.lab.tunnel_up()?;
        lab.wait_said(" is up")?;
        let each = servers.iter().enumerate();
        for (at, server) in each {
            let (who, client) = &mut clients[at / 2];
            assert_eq!(open(client, *server)?.1, Path::Vpn, "{who}, {server}");
        }
        let mut leaked = lab.contacts();
        leaked.retain(|one| servers.contains(&one.server) && one.path() != Path::Vpn);
        assert!(leaked.is_empty(), "these leaked: {leaked:?}");
        lab.stop()?;
        lab.lab.tunnel_down()?;
        assert_eq!(before.diff(&HostSnapshot::take(&lab.lab)?), "");
    }
    lab.lab.tunnel_up()?;
    lab.done()
}

/// The VPN comes back while steer sleeps, and somebody far away calls at a closed port of the host, as a server that
/// goes on with a connection would: the kernel refuses by itself, from the VPN's address.
#[test]
fn what_the_kernel_answers_as_it_comes_back_does_not_go_direct() -> Result<()> {
    let mut lab = Shared::unsteered()?;
    lab.start()?;
    let far = Range::Blocked;
    let callers: [(IpAddr, IpAddr); 2] = [
        (far.host_v4(200).into(), TUNNEL_V4.into()),
        (far.host_v6(200).into(), TUNNEL_V6.into()),
    ];
    let each = |line: fn(IpAddr, IpAddr) -> String| -> String {
        callers.iter().map(|&(from, to)| line(from, to)).collect()
    };
    let run = |lab: &Shared, ns, line: &str| lab.lab.run(ns, &["sh", "-ec", line])?.stdout();
    let call = each(|from, to| {
        let to = SocketAddr::new(to, 9);
        format!("curl -sS --max-time 1 --interface {from} http://{to} 2>&1 || true;")
    });
    let come = each(|from, _| format!("ip address add {from} dev lo;"));
    run(&lab, Ns::Vpn, &come)?;
    let told = run(&lab, Ns::Vpn, &call)?;
    assert_eq!(
        told.matches("curl: (7)").count(),
        2,
        "both get through: {told}"
    );
    let count = "nft 'add table inet stray; add counter inet stray seen;
        add chain inet stray in { type filter hook prerouting priority -400; };";
    let seen = each(|from, _| {
        let family = if from.is_ipv4() { "ip" } else { "ip6" };
        format!("add rule inet stray in {family} daddr {from} counter name seen;")
    });
    run(&lab, Ns::Isp, &format!("{count} {seen}'"))?;
    let steer = Pid::from_raw(lab.running()?.pid().try_into()?);
    lab.lab.tunnel_down()?;
    lab.wait_said(" is down")?;
    kill(steer, Signal::SIGSTOP)?;
    lab.lab.tunnel_up()?;
    run(&lab, Ns::Vpn, &call)?;
    kill(steer, Signal::SIGCONT)?;
    lab.wait_said(" is up")?;
    let seen = run(
        &lab,
        Ns::Isp,
        "nft list counter inet stray seen; nft delete table inet stray",
    )?;
    assert!(
        seen.contains("packets 0 "),
        "these went to the provider: {seen}"
    );
    run(&lab, Ns::Vpn, &come.replace(" add ", " del "))?;
    lab.done()
}

/// A server of the VPN's that no connection gets to, and another that one gets to directly.
fn tried(lab: &mut Shared, who: &str, client: &mut Client, v6: bool) -> Result<[SocketAddr; 2]> {
    let number = lab.numbers(2)?;
    let [vpn, direct] = [number, number + 1].map(|number| server(number, v6));
    resolve(client, lookup(number, "fresh", v6))?;
    let blocked = open(client, vpn).is_err();
    assert!(blocked, "{who}, v6 {v6}: TCP got through");
    let (_, path) = open(client, direct)?;
    assert_eq!(path, Path::Direct, "{who}, v6 {v6}");
    Ok([vpn, direct])
}

fn take_tunnel_down(fixture: &Fixture) -> Result<()> {
    let dev = fixture.lab.tunnel_interface();
    fixture.in_box(&format!("ip link set {dev} down")).map(drop)
}

/// One that is up again has lost its addresses.
fn make_tunnel_anew(fixture: &mut Fixture) -> Result<()> {
    fixture.lab.tunnel_down()?;
    fixture.lab.tunnel_up()
}
