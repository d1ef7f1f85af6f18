//! As much of HTTP as the loads speak.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use anyhow::Result;

use super::datagrams::Arrived;
use crate::load::{bulk::PIECE, way::read_head};

/// Answers one request.
pub fn serve(mut stream: TcpStream, arrived: &Arrived) -> Result<()> {
    let mut head = [0; 2048];
    let (head, _) = read_head(&mut stream, &mut head)?;
    let target = head
        .split(|octet| *octet == b' ')
        .nth(1)
        .unwrap_or_default();
    match target {
        b"/down" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            let zeros = vec![0; PIECE];
            loop {
                stream.write_all(&zeros)?;
            }
        }
        b"/up" => {
            let mut buffer = vec![0; PIECE];
            while stream.read(&mut buffer)? > 0 {}
            Ok(())
        }
        b"/datagrams" => answer(&mut stream, &arrived.told()),
        _ => {
            let client = stream.peer_addr()?.ip().to_string();
            answer(&mut stream, &client)
        }
    }
}

/// Answers with a line, and waits for the client to close first.
fn answer(stream: &mut TcpStream, line: &str) -> Result<()> {
    let length = line.len() + 1;
    let text = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{line}\n"
    );
    stream.write_all(text.as_bytes())?;
    while stream.read(&mut [0; 64])? > 0 {}
    Ok(())
}
