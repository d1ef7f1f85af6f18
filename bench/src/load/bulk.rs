//! Much, one way.

use std::{
    io::{Read as _, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};

use super::{
    Ask, Told,
    drive::drive,
    server::HTTP_PORT,
    way::{Way, get, read_head},
};

/// What is read or written at once.
pub const PIECE: usize = 256 << 10;

/// Receives over so many connections.
pub fn download(ask: &Ask, way: &Way, streams: usize) -> Result<Told> {
    let turn = AtomicUsize::new(0);
    drive(ask, streams, |_, clock| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let mut stream = way.connect(turn, HTTP_PORT)?;
        stream.write_all(get(way.name(turn), "/down").as_bytes())?;
        let mut buffer = vec![0; PIECE];
        read_head(&mut stream, &mut buffer)?;
        while clock.goes_on() {
            let read = stream.read(&mut buffer)?;
            ensure!(read > 0, "the server stopped sending");
            clock.count(read as u64);
        }
        Ok(())
    })
}

/// Sends over so many connections.
pub fn upload(ask: &Ask, way: &Way, streams: usize) -> Result<Told> {
    let turn = AtomicUsize::new(0);
    drive(ask, streams, |_, clock| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let mut stream = way.connect(turn, HTTP_PORT)?;
        stream.write_all(get(way.name(turn), "/up").as_bytes())?;
        let buffer = vec![0; PIECE];
        while clock.goes_on() {
            let written = stream.write(&buffer)?;
            clock.count(written as u64);
        }
        Ok(())
    })
}
