//! The other end of the lab's servers: a program that a test starts in a cgroup or in a
//! container's namespace and tells, line by line, what to ask for.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType};
use serde::{Deserialize, Serialize};

use crate::pace::patience;

/// One thing to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Look up a name, and keep the socket that asked; [`Told::Addresses`].
    Resolve(Lookup),
    /// Look up a name and connect to each address the moment the answer is there;
    /// [`Told::Reached`]. Ends early where nothing works.
    Reach {
        /// The names, one after the other.
        lookups: Vec<Lookup>,
        /// The port to connect to.
        port: u16,
    },
    /// Connect and keep the connection; [`Told::Opened`].
    Open(SocketAddr),
    /// Send this many bytes on a connection and read their echo; [`Told::Done`].
    Exchange {
        /// What [`Told::Opened`] said.
        connection: usize,
        /// How many.
        bytes: usize,
    },
    /// Send these octets on a connection, each piece in a segment of its own, and read their echo; [`Told::Done`], or
    /// an error if the connection ends before.
    Greet {
        /// What [`Told::Opened`] said.
        connection: usize,
        /// The pieces.
        pieces: Vec<Vec<u8>>,
    },
    /// Close all connections and sockets that were kept; [`Told::Done`].
    Close,
    /// Send a datagram to each from one unconnected socket and read each answer before the next;
    /// [`Told::SeenEach`].
    Datagrams(Vec<SocketAddr>),
    /// Send a datagram from a new socket and wait for no answer; [`Told::Done`].
    Send {
        /// Where to.
        server: SocketAddr,
        /// Whether to connect the socket first.
        connected: bool,
    },
    /// Send a datagram from a new socket and read the answer; [`Told::Seen`].
    Datagram {
        /// Where to.
        server: SocketAddr,
        /// Whether to connect the socket first.
        connected: bool,
    },
    /// Connect a new socket to one, and send a datagram to another from it; [`Told::Done`].
    SendPast {
        /// To whom it is connected.
        first: SocketAddr,
        /// Whether that is dissolved before it sends.
        dissolved: bool,
        /// Where to.
        server: SocketAddr,
    },
    /// Send these octets from a new socket again and again, as QUIC does, and read the answer; from another new socket
    /// if this one is ended meanwhile. [`Told::Seen`].
    Insist {
        /// Where to.
        server: SocketAddr,
        /// Whether to connect the socket first.
        connected: bool,
        /// What to send.
        octets: Vec<u8>,
    },
    /// Look up a name from a socket that is not connected; [`Told::Seen`] says who answered.
    WhoAnswers(Lookup),
    /// Send datagrams for good from one new socket, and wait until the first is answered; [`Told::Done`].
    Chat {
        /// Where to.
        server: SocketAddr,
        /// Whether to connect the socket first.
        connected: bool,
    },
    /// Send an echo request by a raw socket and wait for the answer; [`Told::Done`].
    Ping(IpAddr),
    /// Listen on this port, over TCP and UDP and both families, and send back what comes; [`Told::Done`].
    Listen(u16),
    /// Send datagrams that nobody waits for; [`Told::Done`].
    Flood(Flood),
    /// Look up so many names, `aNUMBER.` and then the one given, from one socket; [`Told::Done`].
    ResolveMany(Lookup, u32),
}

/// Datagrams to many, each a flow of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flood {
    /// The first of the addresses.
    pub first: Ipv4Addr,
    /// How many addresses there are.
    pub addresses: u32,
    /// How many datagrams; those to one address go to ports of their own, from 1024 on.
    pub flows: u32,
}

/// A name to look up, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lookup {
    /// The name server.
    pub resolver: SocketAddr,
    /// The name.
    pub name: String,
    /// Whether to ask for AAAA rather than A.
    pub v6: bool,
    /// Whether to ask by TCP.
    pub tcp: bool,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Told {
    /// The name's addresses.
    Addresses(Vec<IpAddr>),
    /// Each address connected to, and whom its server saw, or why it could not be reached.
    Reached(Vec<(IpAddr, Result<SocketAddr, String>)>),
    /// A connection's number, and whom its server saw.
    Opened {
        /// For [`Ask::Exchange`].
        connection: usize,
        /// The client's address.
        seen: SocketAddr,
    },
    /// Whom the server saw.
    Seen(SocketAddr),
    /// Whom each server saw.
    SeenEach(Vec<SocketAddr>),
    /// It is done.
    Done,
}

/// Answers each line of `input` by a line of `output`, until the input's end.
pub fn serve(input: impl BufRead, mut output: impl Write) -> Result<()> {
    let mut held = Held::default();
    for line in input.lines() {
        let ask = serde_json::from_str(&line?).context("cannot read what is asked")?;
        let told = answer(ask, &mut held).map_err(|error| format!("{error:#}"));
        writeln!(output, "{}", serde_json::to_string(&told)?)?;
        output.flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Held {
    connections: Vec<TcpStream>,
    askers: Vec<Option<UdpSocket>>,
}

fn answer(ask: Ask, held: &mut Held) -> Result<Told> {
    match ask {
        Ask::Resolve(lookup) => {
            let (addresses, asker) = resolve(&lookup)?;
            held.askers.push(asker);
            Ok(Told::Addresses(addresses))
        }
        Ask::Reach { lookups, port } => {
            let mut reached = Vec::new();
            for lookup in &lookups {
                // Each failure may take its time, and a few tell as much as all would.
                if reached
                    .iter()
                    .filter(|(_, seen): &&(_, Result<_, _>)| seen.is_err())
                    .count()
                    > 3
                {
                    break;
                }
                for address in resolve(lookup)?.0 {
                    let opened = open(SocketAddr::new(address, port));
                    let seen = opened
                        .map(|(_, seen)| seen)
                        .map_err(|error| format!("{error:#}"));
                    reached.push((address, seen));
                }
            }
            Ok(Told::Reached(reached))
        }
        Ask::Open(server) => {
            let (stream, seen) = open(server)?;
            held.connections.push(stream);
            Ok(Told::Opened {
                connection: held.connections.len() - 1,
                seen,
            })
        }
        Ask::Exchange { connection, bytes } => {
            let stream = held
                .connections
                .get_mut(connection)
                .context("there is no such connection")?;
            exchange(stream, bytes).map(|()| Told::Done)
        }
        Ask::Greet { connection, pieces } => {
            let stream = held
                .connections
                .get_mut(connection)
                .context("there is no such connection")?;
            greet(stream, &pieces).map(|()| Told::Done)
        }
        Ask::Close => {
            *held = Held::default();
            Ok(Told::Done)
        }
        Ask::Send { server, connected } => send(server, connected, b"hello").map(|_| Told::Done),
        Ask::SendPast {
            first,
            dissolved,
            server,
        } => send_past(first, dissolved, server).map(|()| Told::Done),
        Ask::Datagram { server, connected } => {
            answered(&send(server, connected, b"hello")?, server).map(Told::Seen)
        }
        Ask::Insist {
            server,
            connected,
            octets,
        } => insist(server, connected, &octets).map(Told::Seen),
        Ask::WhoAnswers(lookup) => who_answers(&lookup).map(Told::Seen),
        Ask::Chat { server, connected } => chat(server, connected).map(|()| Told::Done),
        Ask::Ping(address) => ping(address).map(|()| Told::Done),
        Ask::Listen(port) => listen(port).map(|()| Told::Done),
        Ask::Flood(what) => flood(&what).map(|()| Told::Done),
        Ask::ResolveMany(lookup, count) => resolve_many(&lookup, count).map(|()| Told::Done),
        Ask::Datagrams(servers) => {
            let first = servers.first().context("there is nowhere to send to")?;
            let socket = UdpSocket::bind(unspecified(*first))?;
            socket.set_read_timeout(Some(limit()))?;
            let seen = servers.iter().map(|server| {
                socket.send_to(b"hello", server)?;
                answered(&socket, *server)
            });
            seen.collect::<Result<_>>().map(Told::SeenEach)
        }
    }
}

fn flood(what: &Flood) -> Result<()> {
    let socket = UdpSocket::bind(unspecified(SocketAddr::new(what.first.into(), 0)))?;
    for number in 0..what.flows {
        let address = Ipv4Addr::from(u32::from(what.first) + number % what.addresses);
        let port = u16::try_from(1024 + number / what.addresses)?;
        match socket.send_to(b"x", (address, port)) {
            Ok(_) => {}
            // It is held back, or nobody listened there before.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::HostUnreachable
                ) => {}
            Err(error) => return Err(error).context(format!("flow {number}")),
        }
    }
    Ok(())
}

fn resolve_many(lookup: &Lookup, count: u32) -> Result<()> {
    let socket = UdpSocket::bind(unspecified(lookup.resolver))?;
    socket.connect(lookup.resolver)?;
    socket.set_read_timeout(Some(patience(Duration::from_millis(50))))?;
    let mut buffer = [0; 4096];
    for number in 0..count {
        let (message, query) = question(&Lookup {
            name: format!("a{number}.{}", lookup.name),
            ..lookup.clone()
        })?;
        socket.send(&message.to_vec()?)?;
        // One that there is no room for is held back.
        while let Ok(length) = socket.recv(&mut buffer) {
            let answer = Message::from_vec(&buffer[..length])?;
            if answer.metadata.id == message.metadata.id && answer.queries.contains(&query) {
                break;
            }
        }
    }
    Ok(())
}

fn question(lookup: &Lookup) -> Result<(Message, Query)> {
    let name = Name::from_ascii(format!("{}.", lookup.name))?;
    let kind = if lookup.v6 {
        RecordType::AAAA
    } else {
        RecordType::A
    };
    let query = Query::query(name, kind);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    Ok((message, query))
}

fn resolve(lookup: &Lookup) -> Result<(Vec<IpAddr>, Option<UdpSocket>)> {
    let (message, query) = question(lookup)?;
    let packet = message.to_vec()?;
    let (answer, asker) = if lookup.tcp {
        (
            Message::from_vec(&ask_stream(lookup.resolver, &packet)?)?,
            None,
        )
    } else {
        let fits = |answer: &Message| {
            answer.metadata.id == message.metadata.id && answer.queries.contains(&query)
        };
        ask_datagram(lookup.resolver, &packet, fits)
            .with_context(|| format!("no answer for {}", lookup.name))?
    };
    let addresses = answer
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr());
    Ok((addresses.collect(), asker))
}

fn ask_datagram(
    resolver: SocketAddr,
    packet: &[u8],
    fits: impl Fn(&Message) -> bool,
) -> Result<(Message, Option<UdpSocket>)> {
    let socket = UdpSocket::bind(unspecified(resolver))?;
    socket.connect(resolver)?;
    socket.send(packet)?;
    let start = Instant::now();
    let mut buffer = [0; 4096];
    while start.elapsed() < limit() {
        socket.set_read_timeout(Some(limit()))?;
        let length = socket.recv(&mut buffer)?;
        // As a stub resolver does: what does not fit is not even looked at.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && fits(&answer)
        {
            return Ok((answer, Some(socket)));
        }
    }
    bail!("{resolver} did not answer in {} s", limit().as_secs())
}

fn who_answers(lookup: &Lookup) -> Result<SocketAddr> {
    let (message, _) = question(lookup)?;
    let socket = UdpSocket::bind(unspecified(lookup.resolver))?;
    socket.set_read_timeout(Some(limit()))?;
    socket.send_to(&message.to_vec()?, lookup.resolver)?;
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let answer = Message::from_vec(&buffer[..length])?;
    ensure!(
        answer.metadata.id == message.metadata.id,
        "another's answer"
    );
    Ok(from)
}

fn chat(server: SocketAddr, connected: bool) -> Result<()> {
    let socket = send(server, connected, b"hello")?;
    answered(&socket, server)?;
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(50));
            // What becomes of it, others see.
            let _ = match connected {
                true => socket.send(b"hello"),
                false => socket.send_to(b"hello", server),
            };
        }
    });
    Ok(())
}

fn ping(address: IpAddr) -> Result<()> {
    const V4: [u8; 8] = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
    const V6: [u8; 8] = [128, 0, 0, 0, 0x12, 0x34, 0, 1];
    let (family, protocol, request, answer) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, V4, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, V6, 129),
    };
    let socket = nix::sys::socket::socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(limit()))?;
    socket.send_to(&request, SocketAddr::new(address, 0))?;
    let start = Instant::now();
    let mut buffer = [0; 256];
    while start.elapsed() < limit() {
        let (length, from) = socket.recv_from(&mut buffer)?;
        // Over IPv4 it has its header.
        let at = if address.is_ipv4() { 20 } else { 0 };
        if from.ip() == address && length > at && buffer[at] == answer {
            return Ok(());
        }
    }
    bail!("{address} does not answer")
}

fn listen(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("::", port))?;
    let socket = UdpSocket::bind(("::", port))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut stream.try_clone()?, &mut stream));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Whoever is not answered tells.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(())
}

fn ask_stream(resolver: SocketAddr, packet: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&resolver, limit())?;
    stream.set_read_timeout(Some(limit()))?;
    let mut framed = u16::try_from(packet.len())?.to_be_bytes().to_vec();
    framed.extend(packet);
    stream.write_all(&framed)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn open(server: SocketAddr) -> Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::connect_timeout(&server, limit())
        .with_context(|| format!("cannot connect to {server}"))?;
    stream.set_read_timeout(Some(limit()))?;
    let mut line = String::new();
    // Nothing follows the line unasked, so the buffer takes nothing with it.
    BufReader::new(&stream)
        .read_line(&mut line)
        .context("the server does not greet")?;
    let seen = line
        .trim()
        .parse()
        .with_context(|| format!("a strange greeting: {line:?}"))?;
    Ok((stream, seen))
}

fn exchange(stream: &mut TcpStream, bytes: usize) -> Result<()> {
    let sent: Vec<u8> = (0..bytes).map(|number| (number % 251) as u8).collect();
    let mut echo = vec![0; bytes];
    for (sent, echo) in sent.chunks(8192).zip(echo.chunks_mut(8192)) {
        stream.write_all(sent)?;
        stream.read_exact(echo)?;
    }
    ensure!(echo == sent, "the echo differs");
    Ok(())
}

fn greet(stream: &mut TcpStream, pieces: &[Vec<u8>]) -> Result<()> {
    stream.set_nodelay(true)?;
    for piece in pieces {
        stream.write_all(piece)?;
        // Else the kernel may send two pieces as one.
        thread::sleep(patience(Duration::from_millis(50)));
    }
    let mut echo = vec![0; pieces.iter().map(Vec::len).sum()];
    stream.read_exact(&mut echo)?;
    ensure!(echo == pieces.concat(), "the echo differs");
    Ok(())
}

fn send(server: SocketAddr, connected: bool, octets: &[u8]) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(unspecified(server))?;
    socket.set_read_timeout(Some(limit()))?;
    if connected {
        socket.connect(server)?;
        socket.send(octets)?;
    } else {
        socket.send_to(octets, server)?;
    }
    Ok(socket)
}

fn send_past(first: SocketAddr, dissolved: bool, server: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(unspecified(server))?;
    socket.connect(first)?;
    if dissolved {
        dissolve(&socket)?;
    }
    socket.send_to(b"hello", server)?;
    Ok(())
}

fn dissolve(socket: &UdpSocket) -> io::Result<()> {
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as u16,
        sa_data: [0; 14],
    };
    let size = size_of_val(&nobody) as u32;
    // SAFETY: the kernel reads the address, which is as long as it is told.
    match unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn insist(server: SocketAddr, connected: bool, octets: &[u8]) -> Result<SocketAddr> {
    let wait = patience(Duration::from_millis(300));
    let start = Instant::now();
    let mut socket = send(server, connected, octets)?;
    loop {
        socket.set_read_timeout(Some(wait))?;
        let error = match answered(&socket, server) {
            Ok(seen) => return Ok(seen),
            Err(error) => error,
        };
        let ended = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionAborted);
        ensure!(start.elapsed() < limit(), "{error:#}");
        if ended {
            socket = send(server, connected, octets)?;
        } else if connected {
            socket.send(octets)?;
        } else {
            socket.send_to(octets, server)?;
        }
    }
}

fn answered(socket: &UdpSocket, server: SocketAddr) -> Result<SocketAddr> {
    let mut buffer = [0; 128];
    let length = socket
        .recv(&mut buffer)
        .with_context(|| format!("no answer from {server}"))?;
    let line = String::from_utf8_lossy(&buffer[..length]);
    line.trim()
        .parse()
        .with_context(|| format!("a strange answer: {line:?}"))
}

fn unspecified(peer: SocketAddr) -> SocketAddr {
    if peer.is_ipv6() {
        ([0u16; 8], 0).into()
    } else {
        ([0u8; 4], 0).into()
    }
}

fn limit() -> Duration {
    patience(Duration::from_secs(5))
}
