//! The server's name in a TLS ClientHello.

use rustls::server::Acceptor;
use steer::learn::{
    hello::{Greeting, Greetings},
    stream::{Read, Reader as _},
};
use steer_common::{opening::Step, tls::Hello};

use crate::opening::{SIZE, Seen, check_cut, read};

/// Octets as the first ones of a flow, the last octet as where they are cut: what the kernel's reader says depends on
/// the octets alone, stays true when more come, and is what user space says. Where rustls's server reads a hello, its
/// name is the same.
pub fn check(octets: &[u8]) {
    let Some((&cut, octets)) = octets.split_last() else {
        return;
    };
    let octets = &octets[..octets.len().min(SIZE)];
    let kernel = kernel(octets, 0);
    assert_eq!(
        kernel,
        self::kernel(octets, 0xff),
        "octets behind the hello tell"
    );
    check_cut(octets, cut, |octets| self::kernel(octets, 0));
    check_cut(octets, cut, user);
    if octets.first() != Some(&steer_common::tls::HANDSHAKE) {
        return;
    }
    let user = user(octets);
    assert!(
        kernel == Seen::Open || kernel == user,
        "{kernel:?} and {user:?}"
    );
    match rustls(octets) {
        Ok(Seen::Open) | Err(()) => {}
        Ok(theirs) => assert_eq!(user, theirs),
    }
}

fn kernel(octets: &[u8], leftover: u8) -> Seen {
    read(octets, leftover, |opening| {
        let mut hello = Hello::new();
        let mut step = hello.begin(opening);
        // Each extension takes four octets at least, and each octet of a name a step, once.
        for _ in 0..2 * SIZE {
            if step != Step::On {
                break;
            }
            step = hello.step(opening);
        }
        step
    })
}

pub(crate) fn user(octets: &[u8]) -> Seen {
    match Greetings::new().read(octets) {
        Read::Last(greeting) | Read::Next(greeting, _) => seen(greeting),
        Read::More => Seen::Open,
    }
}

pub(crate) fn seen(greeting: Greeting) -> Seen {
    match greeting {
        Greeting::Named { name, .. } => Seen::Named(name.to_string()),
        Greeting::Unnamed => Seen::Unnamed,
        Greeting::Foreign => Seen::Foreign,
    }
}

/// rustls's server; what it refuses for whatever reason is `Err`.
fn rustls(octets: &[u8]) -> Result<Seen, ()> {
    let mut acceptor = Acceptor::default();
    let mut rest = octets;
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name().map(str::to_ascii_lowercase);
                return Ok(name.map_or(Seen::Unnamed, |name| {
                    Seen::Named(name.strip_suffix('.').unwrap_or(&name).to_owned())
                }));
            }
            Ok(None) if rest.is_empty() => return Ok(Seen::Open),
            Ok(None) => {}
            Err(_) => return Err(()),
        }
        acceptor.read_tls(&mut rest).map_err(|_| ())?;
    }
}
