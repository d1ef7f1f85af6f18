//! Questions of the DNS for names that nobody asked for before, so that nobody answers from memory.

use std::{
    net::UdpSocket,
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Ask, Told,
    drive::drive,
    latency::{histogram, nanoseconds, times},
    wire,
};

/// Asks one by one, and tells how long each answer took.
pub fn one_by_one(ask: &Ask) -> Result<Told> {
    let names = Names::new(ask);
    let socket = socket(ask)?;
    let mut all = histogram()?;
    let mut buffer = [0; 1500];
    let begin = Instant::now();
    while begin.elapsed() < ask.warming + ask.measured {
        let (id, question) = names.next();
        let asked = Instant::now();
        socket.send(&question)?;
        let len = socket.recv(&mut buffer).context("no answer came")?;
        let took = asked.elapsed();
        check(&buffer[..len], Some(id))?;
        if begin.elapsed() > ask.warming {
            all.saturating_record(nanoseconds(took));
        }
    }
    Ok(Told {
        count: all.len(),
        seconds: ask.measured.as_secs_f64(),
        times: Some(times(&all)),
        ..Told::default()
    })
}

/// Keeps so many questions open on each of so many sockets, and counts the answers.
pub fn many(ask: &Ask, workers: usize, at_once: usize) -> Result<Told> {
    let names = Names::new(ask);
    drive(ask, workers, |_, clock| {
        let socket = socket(ask)?;
        let mut buffer = [0; 1500];
        let mut open = 0;
        while clock.goes_on() {
            while open < at_once {
                socket.send(&names.next().1)?;
                open += 1;
            }
            match socket.recv(&mut buffer) {
                Ok(len) => {
                    check(&buffer[..len], None)?;
                    clock.count(1);
                    open -= 1;
                }
                // Lost, all of them: asked anew.
                Err(_) => open = 0,
            }
        }
        Ok(())
    })
}

fn socket(ask: &Ask) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(ask.resolver)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

fn check(answer: &[u8], id: Option<u16>) -> Result<()> {
    ensure!(
        wire::first_address(answer).is_some(),
        "an answer has no address"
    );
    ensure!(
        id.is_none_or(|id| wire::id(answer) == Some(id)),
        "an answer to another question came"
    );
    Ok(())
}

/// Names that were not asked for before, of the same few addresses.
struct Names<'a> {
    ask: &'a Ask,
    next: AtomicU64,
}

impl<'a> Names<'a> {
    fn new(ask: &'a Ask) -> Self {
        Self {
            ask,
            next: AtomicU64::new(0),
        }
    }

    /// The next one's question, with its id.
    fn next(&self) -> (u16, Vec<u8>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let host = number % u64::from(self.ask.names) + 1;
        let name = format!("n{host}-{}-{number}.{}", process::id(), self.ask.zone);
        let id = number as u16;
        (id, wire::question(id, &name))
    }
}
