//! How to get to the servers: their addresses, looked up as any client does, and perhaps a proxy.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Ask, server::HTTP_PORT, wire};

/// How long anything may take before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The way to the servers of a zone.
pub struct Way {
    targets: Vec<Target>,
    proxy: Option<SocketAddr>,
}

struct Target {
    name: String,
    address: Ipv4Addr,
}

impl Way {
    /// Looks up the names. Who goes by a proxy leaves that to it.
    pub fn find(ask: &Ask) -> Result<Self> {
        let targets = (1..=ask.names).map(|number| {
            let name = format!("n{number}.{}", ask.zone);
            let address = match ask.proxy {
                Some(_) => Ipv4Addr::UNSPECIFIED,
                None => look_up(ask.resolver, &name)?,
            };
            Ok(Target { name, address })
        });
        Ok(Self {
            targets: targets.collect::<Result<_>>()?,
            proxy: ask.proxy,
        })
    }

    /// The address of the server whose turn it is; without a meaning where a proxy looks it up.
    pub fn address(&self, turn: usize) -> Ipv4Addr {
        self.target(turn).address
    }

    /// The name of the server whose turn it is.
    pub fn name(&self, turn: usize) -> &str {
        &self.target(turn).name
    }

    /// A connection to the server whose turn it is.
    pub fn connect(&self, turn: usize, port: u16) -> Result<TcpStream> {
        let Target { name, address } = self.target(turn);
        let to = self.proxy.unwrap_or_else(|| (*address, port).into());
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)
            .with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        if self.proxy.is_some() {
            let ask = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
            stream.write_all(ask.as_bytes())?;
            let mut answer = [0; 1024];
            let (head, rest) = read_head(&mut stream, &mut answer)?;
            ensure!(
                head.starts_with(b"HTTP/1.1 200") && rest.is_empty(),
                "the proxy refused {name}:{port}: {}",
                String::from_utf8_lossy(head)
            );
        }
        Ok(stream)
    }

    /// Asks the server whose turn it is for a little, over a connection of its own, and returns what it says.
    pub fn request<'a>(&self, turn: usize, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        self.ask(turn, "/small", buffer)
    }

    /// The same for another thing.
    pub fn ask<'a>(&self, turn: usize, target: &str, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
        let mut stream = self.connect(turn, HTTP_PORT)?;
        let name = self.name(turn);
        stream.write_all(get(name, target).as_bytes())?;
        let (head, body) = read_head(&mut stream, buffer)?;
        ensure!(
            head.starts_with(b"HTTP/1.1 200"),
            "{name} did not answer well"
        );
        Ok(body)
    }

    /// Whom the first server sees.
    pub fn seen(&self) -> Result<IpAddr> {
        let mut buffer = [0; 1024];
        let body = self.request(0, &mut buffer)?;
        let text = std::str::from_utf8(body)?.trim();
        text.parse()
            .with_context(|| format!("the server says {text} instead of an address"))
    }

    fn target(&self, turn: usize) -> &Target {
        &self.targets[turn % self.targets.len()]
    }
}

/// A request as a browser makes it.
pub fn get(name: &str, target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: steer-bench\r\nAccept: */*\r\n\r\n"
    )
}

/// Reads an answer's head and what came with it.
pub fn read_head<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> Result<(&'a [u8], &'a [u8])> {
    const END: &[u8] = b"\r\n\r\n";
    let mut len = 0;
    loop {
        let read = stream.read(&mut buffer[len..]).context("no answer came")?;
        ensure!(read > 0, "the connection ended before an answer came");
        len += read;
        if let Some(place) = buffer[..len].windows(END.len()).position(|it| it == END) {
            return Ok(buffer[..len].split_at(place + END.len()));
        }
    }
}

/// Looks up a name; a question or an answer may be lost.
pub fn look_up(resolver: SocketAddr, name: &str) -> Result<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket
        .connect(resolver)
        .with_context(|| format!("the resolver {resolver} cannot be reached"))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buffer = [0; 1500];
    for id in 1..=4 {
        socket.send(&wire::question(id, name))?;
        if let Ok(len) = socket.recv(&mut buffer) {
            let address = wire::first_address(&buffer[..len]);
            return address.with_context(|| format!("{resolver} knows no address of {name}"));
        }
    }
    bail!("{resolver} does not answer for {name}")
}
