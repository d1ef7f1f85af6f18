//! Servers that run as threads of the test: echo on every address of the Internet.

use std::{
    io::{ErrorKind, IoSliceMut, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    path::Path as FilePath,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
        sockopt::Ipv6RecvPacketInfo,
    },
};

use super::{Lab, Ns, exec::within, plan::Path};

const TICK: Duration = Duration::from_millis(100);

/// A connection or a datagram that an echo server took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Whether it was a datagram.
    pub udp: bool,
    /// The address and port that it came to.
    pub server: SocketAddr,
    /// Where the server saw it come from.
    pub client: SocketAddr,
}

impl Contact {
    /// The path that the client's address stands for.
    pub fn path(&self) -> Path {
        Path::of(self.client.ip())
    }
}

/// Echo servers for TCP and UDP on one port of every address of the Internet. Each tells first
/// whom it sees, as a line, then echoes; a datagram is answered by that line alone.
pub struct Servers {
    contacts: Arc<Mutex<Vec<Contact>>>,
    _threads: Threads,
}

impl Servers {
    /// All contacts so far, oldest first.
    pub fn contacts(&self) -> Vec<Contact> {
        lock(&self.contacts).clone()
    }
}

impl Lab {
    /// Starts echo servers on `port`.
    pub fn listen(&self, port: u16) -> Result<Servers> {
        let netns = self.netns(Ns::Internet);
        let contacts: Arc<Mutex<Vec<Contact>>> = Arc::default();
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let (tcp, udp) = bind(&netns, any)?;
        setsockopt(&udp, Ipv6RecvPacketInfo, &true)?;
        let mut threads = Threads::default();
        let log = Arc::clone(&contacts);
        threads.spawn(move |stop| accept(&tcp, &stop, |stream, stop| echo(stream, &log, stop)));
        let log = Arc::clone(&contacts);
        threads.spawn(move |stop| answer_datagrams(&udp, &log, &stop));
        Ok(Servers {
            contacts,
            _threads: threads,
        })
    }
}

/// Threads that end when this is dropped.
#[derive(Default)]
pub(super) struct Threads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    pub fn spawn(&mut self, work: impl FnOnce(Arc<AtomicBool>) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(thread::spawn(move || work(stop)));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Serves each connection on a thread of its own, until `stop`.
pub(super) fn accept(
    listener: &TcpListener,
    stop: &AtomicBool,
    serve: impl Fn(TcpStream, &AtomicBool) + Sync,
) {
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            if readable(listener)
                && let Ok((stream, _)) = listener.accept()
            {
                let serve = &serve;
                scope.spawn(move || serve(stream, stop));
            }
        }
    });
}

/// Waits a moment for something to read.
pub(super) fn readable(socket: &impl AsFd) -> bool {
    let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let tick = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
    poll(&mut wait, tick).is_ok_and(|ready| ready > 0)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn echo(mut stream: TcpStream, log: &Mutex<Vec<Contact>>, stop: &AtomicBool) {
    let (Ok(server), Ok(client)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    let (server, client) = (canonical(server), canonical(client));
    lock(log).push(Contact {
        udp: false,
        server,
        client,
    });
    let _ = stream.set_read_timeout(Some(TICK));
    if writeln!(stream, "{client}").is_err() {
        return;
    }
    let mut buffer = [0; 16 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if stream.write_all(&buffer[..length]).is_err() => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, log: &Mutex<Vec<Contact>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if readable(socket) {
            // A datagram that cannot be answered is one that the test will miss.
            let _ = answer_datagram(socket, log);
        }
    }
}

fn answer_datagram(socket: &UdpSocket, log: &Mutex<Vec<Contact>>) -> Result<()> {
    let mut buffer = [0; 2048];
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::empty();
    let fd = socket.as_raw_fd();
    let message = recvmsg::<SockaddrIn6>(fd, &mut slices, Some(&mut space), flags)?;
    let from = message.address.context("a datagram from nowhere")?;
    let mut info = message
        .cmsgs()?
        .find_map(|control| match control {
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
            _ => None,
        })
        .context("a datagram to nowhere")?;
    let server = IpAddr::from(info.ipi6_addr.s6_addr);
    let client = canonical(SocketAddr::V6(SocketAddrV6::from(from)));
    let server = canonical(SocketAddr::new(server, socket.local_addr()?.port()));
    lock(log).push(Contact {
        udp: true,
        server,
        client,
    });
    // The answer is routed anew, not to where the question came in.
    info.ipi6_ifindex = 0;
    let line = format!("{client}\n");
    let slices = [std::io::IoSlice::new(line.as_bytes())];
    sendmsg(
        fd,
        &slices,
        &[ControlMessage::Ipv6PacketInfo(&info)],
        flags,
        Some(&from),
    )?;
    Ok(())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Opens a listener and a UDP socket on one address in a namespace.
pub(super) fn bind(netns: &FilePath, address: SocketAddr) -> Result<(TcpListener, UdpSocket)> {
    let open = || std::io::Result::Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?));
    within(netns, open)?.with_context(|| format!("cannot listen on {address} in the lab"))
}
