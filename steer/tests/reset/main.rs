//! Connections ended and held packets sent on, on the real kernel: a process's, and a container's behind a bridge and a
//! masquerade.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use steer::{
    host::netns::socket_cookie,
    learn::reset::{Connection, Ended, Owner, Resets},
};
use steer_common::{
    packet::{Head, Packet, TCP},
    types::Address,
};

use netns::{Namespace, add_link, ip, set_rp_filter, sh};

mod held;

#[path = "../route/netns.rs"]
#[expect(dead_code, reason = "the tests of routing need more of it")]
mod netns;

const SERVERS: [&str; 2] = ["203.0.113.7:443", "[2001:db8:1::7]:443"];
const CONTAINER: &str = "10.7.0.2";

/// A host with a bridge, a container behind it, and a server on the way out, which hears no hello.
struct Lab {
    container: Namespace,
    server: Namespace,
    /// Sees every packet of the host.
    packets: OwnedFd,
}

impl Lab {
    fn new() -> Result<Self> {
        add_link("wan0", &["203.0.113.1/24", "2001:db8:1::1/64"])?;
        let server = Namespace::new()?;
        server.take("wan0-peer")?;
        server.run(|| {
            ip("link set wan0-peer up")?;
            ip("address add 203.0.113.7/24 dev wan0-peer")?;
            ip("address add 2001:db8:1::7/64 dev wan0-peer nodad")?;
            nft(&[
                "add table inet test",
                "add chain inet test in { type filter hook prerouting priority -300 ; }",
                "add rule inet test in tcp flags & psh == psh drop",
            ])
        })?;
        ip("link add br0 type bridge")?;
        ip("link add port0 type veth peer name eth0")?;
        ip("link set port0 master br0")?;
        for link in ["br0", "port0"] {
            ip(&format!("link set {link} up"))?;
        }
        ip("address add 10.7.0.1/24 dev br0")?;
        ip("address add fd00:7::1/64 dev br0 nodad")?;
        let container = Namespace::new()?;
        container.take("eth0")?;
        container.run(|| {
            ip("link set eth0 up")?;
            ip("address add 10.7.0.2/24 dev eth0")?;
            ip("address add fd00:7::2/64 dev eth0 nodad")?;
            ip("route add default via 10.7.0.1")?;
            ip("-6 route add default via fd00:7::1")?;
            for interface in ["all", "eth0"] {
                set_rp_filter(interface, 1)?;
            }
            Ok(())
        })?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        for interface in ["all", "wan0", "br0"] {
            set_rp_filter(interface, 1)?;
        }
        // As Docker has it, and what a careful firewall adds; steer's program drops a hello where it comes in.
        nft(&[
            "add table inet test",
            "add chain inet test early { type filter hook prerouting priority -300 ; }",
            "add rule inet test early iifname br0 tcp flags & psh == psh drop",
            "add chain inet test post { type nat hook postrouting priority 100 ; }",
            "add rule inet test post ip saddr 10.7.0.0/24 oifname wan0 masquerade",
            "add rule inet test post ip6 saddr fd00:7::/64 oifname wan0 masquerade",
            "add chain inet test in { type filter hook input priority 0 ; }",
            "add rule inet test in ct state invalid drop",
            "add chain inet test through { type filter hook forward priority 0 ; }",
            "add rule inet test through ct state invalid drop",
        ])?;
        let packets = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        Ok(Self {
            container,
            server,
            packets,
        })
    }

    /// A connection on which the client has said something that the server does not hear.
    fn connect(&self, server: &'static str, by_container: bool) -> Result<Waiting> {
        let listener = self.server.run(move || Ok(TcpListener::bind(server)?))?;
        let connect = move || {
            let mut client = TcpStream::connect(server).context(server)?;
            client.write_all(b"hello")?;
            Ok(client)
        };
        let client = if by_container {
            self.container.run(connect)?
        } else {
            connect()?
        };
        let (accepted, _) = listener.accept()?;
        for end in [&client, &accepted] {
            end.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        Ok(Waiting {
            hello: self.hello(server.parse()?)?,
            client,
            server: accepted,
        })
    }

    /// The last segment with a payload to a server, as a program on the bridge or in the cgroup sees it.
    fn hello(&self, remote: SocketAddr) -> Result<Hello> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let mut head = Head::new();
            let buffer = head.buffer();
            buffer.fill(0);
            let size = recv(self.packets.as_raw_fd(), buffer, MsgFlags::empty())?;
            let mut packet = Packet::new(Address::default(), Address::default(), 0);
            if head.parse(size as u32, &mut packet).is_none() {
                continue;
            }
            let to = SocketAddr::new(packet.destination.to_ip(), packet.destination_port.number());
            if packet.protocol == TCP && to == remote && packet.payload_size > 0 {
                return Ok(Hello {
                    local: SocketAddr::new(packet.source.to_ip(), packet.source_port.number()),
                    remote,
                    sequence: packet.sequence,
                    acknowledgment: packet.acknowledgment,
                });
            }
        }
        anyhow::bail!("no hello to {remote} was seen")
    }
}

struct Hello {
    local: SocketAddr,
    remote: SocketAddr,
    sequence: u32,
    acknowledgment: u32,
}

struct Waiting {
    hello: Hello,
    client: TcpStream,
    server: TcpStream,
}

impl Waiting {
    fn end(&self, owner: Owner) -> Result<Ended> {
        let Hello {
            local,
            remote,
            sequence,
            acknowledgment,
        } = self.hello;
        let connection = Connection {
            owner,
            local,
            remote,
            sequence,
            acknowledgment,
        };
        Ok(Resets::new().end(&connection, 0)?)
    }

    fn cookie(&self) -> Result<u64> {
        Ok(socket_cookie(&self.client)?)
    }

    /// How the client's and the server's end learn that it has ended, each within 2 seconds.
    fn ends(mut self) -> Result<(ErrorKind, ErrorKind)> {
        let began = Instant::now();
        let kind = |end: &mut TcpStream| match end.read(&mut [0; 8]) {
            Ok(size) => anyhow::bail!("{size} octets were read"),
            Err(error) => Ok(error.kind()),
        };
        let kinds = (kind(&mut self.client)?, kind(&mut self.server)?);
        let took = began.elapsed();
        ensure!(took < Duration::from_secs(2), "it took {took:?}");
        Ok(kinds)
    }
}

fn nft(commands: &[&str]) -> Result<()> {
    commands.iter().try_for_each(|c| sh("nft", c).map(drop))
}

/// The states of the connections that are tracked to an IPv4 address.
fn tracked(address: &str) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/net/nf_conntrack")?;
    Ok(table
        .lines()
        .filter(|line| line.contains(&format!("dst={address} ")))
        .filter_map(|line| line.split_whitespace().nth(5).map(str::to_owned))
        .collect())
}

#[test]
fn a_containers_connection_is_reset_at_both_ends_and_in_the_translation() -> Result<()> {
    netns::run(async || {
        let lab = Lab::new()?;
        for server in SERVERS {
            let waiting = lab.connect(server, true)?;
            ensure!(
                waiting.hello.local.ip().to_string() == CONTAINER || waiting.hello.local.is_ipv6(),
                "the segment was seen before its translation: {}",
                waiting.hello.local
            );
            let v4 = waiting.hello.local.is_ipv4();
            assert_eq!(waiting.end(Owner::Bridge)?, Ended::Reset);
            let reset = ErrorKind::ConnectionReset;
            assert_eq!(waiting.ends()?, (reset, reset), "{server}");
            if v4 {
                assert_eq!(tracked("203.0.113.7")?, ["CLOSE"]);
            }
        }
        Ok(())
    })
}

#[test]
fn a_processs_socket_is_destroyed_and_its_server_told() -> Result<()> {
    netns::run(async || {
        let lab = Lab::new()?;
        for server in SERVERS {
            let waiting = lab.connect(server, false)?;
            let owner = Owner::Socket(waiting.cookie()?);
            assert_eq!(waiting.end(owner)?, Ended::Destroyed);
            assert_eq!(
                waiting.ends()?,
                (ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset),
                "{server}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_socket_is_found_by_its_cookie_where_its_ends_were_translated() -> Result<()> {
    netns::run(async || {
        let lab = Lab::new()?;
        nft(&[
            "insert rule inet test post ip saddr 203.0.113.1 tcp dport 443 snat ip to 203.0.113.1:50000",
        ])?;
        let waiting = lab.connect(SERVERS[0], false)?;
        assert_eq!(waiting.hello.local.port(), 50000);
        let owner = Owner::Socket(waiting.cookie()?);
        assert_eq!(waiting.end(owner)?, Ended::Destroyed);
        assert_eq!(waiting.ends()?.0, ErrorKind::ConnectionAborted);
        Ok(())
    })
}

#[test]
fn where_no_socket_can_be_destroyed_resets_do() -> Result<()> {
    netns::run(async || {
        let lab = Lab::new()?;
        let reset = ErrorKind::ConnectionReset;
        for server in SERVERS {
            // As on a kernel that cannot destroy any: nobody has this cookie.
            let waiting = lab.connect(server, false)?;
            assert_eq!(waiting.end(Owner::Socket(u64::MAX - 1))?, Ended::Reset);
            assert_eq!(waiting.ends()?, (reset, reset), "a process to {server}");

            // A process in another network namespace.
            let waiting = lab.connect(server, true)?;
            let owner = Owner::Socket(waiting.cookie()?);
            assert_eq!(waiting.end(owner)?, Ended::Reset);
            assert_eq!(waiting.ends()?, (reset, reset), "a namespace's to {server}");
        }
        Ok(())
    })
}

#[test]
fn another_connection_with_the_same_ends_is_left_alone() -> Result<()> {
    netns::run(async || {
        let lab = Lab::new()?;
        let waiting = lab.connect(SERVERS[0], false)?;
        let mut late = lab.connect(SERVERS[0], false)?;
        // The ends of one and the cookie of the other: the cookie decides.
        late.hello = waiting.hello;
        assert_eq!(late.end(Owner::Socket(late.cookie()?))?, Ended::Destroyed);
        let mut client = &waiting.client;
        client.set_read_timeout(Some(Duration::from_millis(300)))?;
        let error = client.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        Ok(())
    })
}
