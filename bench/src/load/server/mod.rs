//! The servers of the lab's Internet: the same for every contender.

mod datagrams;
mod http;
mod names;
mod tls;

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result};

use datagrams::Arrived;

/// Where HTTP is spoken, on every address.
pub const HTTP_PORT: u16 = 8080;
/// Where TLS is.
pub const TLS_PORT: u16 = 8443;
/// Where datagrams are received.
pub const DATAGRAM_PORT: u16 = 7000;
/// Where names are resolved.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 55);
/// The zone that no rule speaks of.
pub const OPEN: &str = "open.example";
/// The zone that takes the VPN.
pub const BLOCKED: &str = "blocked.example";
/// What is printed once everything listens.
pub const READY: &str = "ready";

/// Threads that accept: more than there are connections at once.
const ACCEPTORS: usize = 64;

/// What the servers need.
#[derive(clap::Args)]
pub struct Options {
    /// The certificate.
    #[arg(long)]
    certificate: PathBuf,
    /// Its key.
    #[arg(long)]
    key: PathBuf,
}

/// The network of a zone's addresses, which end in 1 to 250.
pub fn network(zone: &str) -> [u8; 3] {
    if zone == BLOCKED {
        [10, 200, 1]
    } else {
        [10, 200, 0]
    }
}

/// The address of a zone with this number.
pub fn address(zone: &str, number: u32) -> Ipv4Addr {
    let [a, b, c] = network(zone);
    Ipv4Addr::new(a, b, c, (number.saturating_sub(1) % 250 + 1) as u8)
}

/// Serves until it is killed.
///
/// # Errors
/// When something cannot be bound.
pub fn run(options: &Options) -> Result<()> {
    let arrived = Arc::new(Arrived::default());
    for zone in [OPEN, BLOCKED] {
        let socket = datagrams::bind(zone)?;
        let arrived = Arc::clone(&arrived);
        thread::spawn(move || datagrams::receive(&socket, &arrived));
    }
    let resolver = Arc::new(names::bind()?);
    for _ in 0..2 {
        let resolver = Arc::clone(&resolver);
        thread::spawn(move || names::answer(&resolver));
    }
    let config = tls::config(options)?;
    accept(TLS_PORT, move |stream| tls::serve(stream, &config))?;
    accept(HTTP_PORT, move |stream| http::serve(stream, &arrived))?;
    println!("{READY}");
    std::io::stdout().flush()?;
    loop {
        thread::park();
    }
}

/// Has threads serve what comes on a port. What goes wrong with a connection is its client's to tell.
fn accept(
    port: u16,
    serve: impl Fn(TcpStream) -> Result<()> + Clone + Send + 'static,
) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .with_context(|| format!("cannot listen on port {port}"))?;
    // The standard library's backlog is 128.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
    for _ in 0..ACCEPTORS {
        let (listener, serve) = (listener.try_clone()?, serve.clone());
        thread::Builder::new()
            .stack_size(512 << 10)
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = stream.set_nodelay(true);
                    let _ = serve(stream);
                }
            })?;
    }
    Ok(())
}
