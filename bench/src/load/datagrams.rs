//! Small datagrams, as fast as they go, of one flow.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Ask, Told, batch::Batch, drive::Window, server::DATAGRAM_PORT, way::Way};

/// Sends them; what is counted is what the server received.
pub fn run(ask: &Ask) -> Result<Told> {
    ensure!(ask.proxy.is_none(), "a proxy for TCP takes no datagrams");
    let way = Way::find(ask)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((way.address(0), DATAGRAM_PORT))?;
    let mut batch = Batch::new();
    let mut send_for = |time: Duration| -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            // A datagram that has no room on its way is lost, as any is.
            let _ = batch.send(&socket);
        }
        Ok(())
    };
    send_for(ask.warming)?;
    let settled = |way: &Way| {
        thread::sleep(Duration::from_millis(100));
        received(way)
    };
    let (before, _) = settled(&way)?;
    let window = Window::begin(before)?;
    send_for(ask.measured)?;
    let sent = window.end(before)?;
    let (after, seen) = settled(&way)?;
    Ok(Told {
        seen: Some(seen.parse().context("the server saw no datagram")?),
        count: after - before,
        ..sent
    })
}

/// How many datagrams the server has had, and of whom the last one was.
fn received(way: &Way) -> Result<(u64, String)> {
    let mut buffer = [0; 1024];
    let body = way.ask(0, "/datagrams", &mut buffer)?;
    let text = std::str::from_utf8(body)?.trim();
    let (count, seen) = text
        .split_once(' ')
        .with_context(|| format!("the server counts \"{text}\""))?;
    Ok((count.parse()?, seen.to_owned()))
}
