//! While the VPN is down, what must go through it goes nowhere; only by the user's choice does
//! it go direct.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use steer_tests::{
    client::Ask,
    fixture::{Fixture, Shared, datagram, lookup, open, resolve, server},
    lab::{
        Client, HostSnapshot, Ns,
        plan::{Path, Range, TUNNEL_V4, TUNNEL_V6},
    },
    pace::patience,
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
            assert_eq!(open_soon(client, *server)?, Path::Vpn, "{who}, {server}");
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

/// Connects as soon as it can be: the VPN's addresses come one after the other, and it is up with the first of them.
fn open_soon(client: &mut Client, server: SocketAddr) -> Result<Path> {
    let begun = Instant::now();
    loop {
        match open(client, server) {
            Ok((_, path)) => return Ok(path),
            Err(error) if begun.elapsed() > patience(Duration::from_secs(5)) => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
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
    let each = |line: &dyn Fn(IpAddr, IpAddr) -> String| -> String {
        callers.iter().map(|&(from, to)| line(from, to)).collect()
    };
    // The way back to them is not looked at as they come in.
    let filter = |lab: &Shared, value: u8| {
        lab.in_box(&format!(
            "sysctl -qw net.ipv4.conf.all.rp_filter={value} net.ipv4.conf.default.rp_filter={value}"
        ))
    };
    filter(&lab, 0)?;
    let come = each(&|from, _| format!("ip address add {from} dev lo;"));
    lab.lab.shell(Ns::Vpn, &come)?;
    let ip = |address: IpAddr| if address.is_ipv4() { "ip" } else { "ip6" };
    let count = |hook: &str, rules: String| {
        let chain = format!("{{ type filter hook {hook} priority -400; }}");
        format!("nft 'add table inet stray; add chain inet stray in {chain}; {rules}'")
    };
    let at_the_provider =
        |from: IpAddr, _| format!("add rule inet stray in {} daddr {from} counter;", ip(from));
    let at_the_host = |from: IpAddr, _| {
        format!(
            "add rule inet stray in {} saddr {from} tcp dport 9 counter;",
            ip(from)
        )
    };
    let provider = count("prerouting", each(&at_the_provider));
    lab.lab.shell(Ns::Isp, &provider)?;
    lab.in_box(&count("input", each(&at_the_host)))?;
    lab.lab.tunnel_down()?;
    lab.wait_said(" is down")?;
    lab.running()?.pause()?;
    lab.lab.tunnel_up()?;
    let call = each(&|from, to| {
        let to = SocketAddr::new(to, 9);
        format!("curl -sS --max-time 1 --interface {from} http://{to} 2>&1 || true;")
    });
    lab.lab.shell(Ns::Vpn, &call)?;
    lab.running()?.go_on()?;
    lab.wait_said(" is up")?;
    let counted = "nft list table inet stray; nft delete table inet stray";
    let came = lab.in_box(counted)?;
    let went = lab.lab.shell(Ns::Isp, counted)?;
    assert!(!came.contains("packets 0 "), "not all were called: {came}");
    assert_eq!(
        went.matches("packets 0 ").count(),
        2,
        "answers at the provider: {went}"
    );
    let go = each(&|from, _| format!("ip address del {from} dev lo;"));
    lab.lab.shell(Ns::Vpn, &go)?;
    lab.stop()?;
    filter(&lab, 1)?;
    make_tunnel_anew(&mut lab)?;
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
