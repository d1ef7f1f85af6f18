//! Ports are kept with a gateway that does not answer for all of them; needs root.

#[path = "route/netns.rs"]
#[expect(dead_code, reason = "the tests of routing need more of it")]
mod netns;

use std::{
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use steer::{
    natpmp::{Gateway, Keeper, PORT},
    route::Protocol,
};
use tokio::{sync::mpsc::unbounded_channel, time::timeout};

const ANSWERED: u16 = 61_000;
const UNANSWERED: u16 = 61_001;
const ASSIGNED: u16 = 40_000;

/// Assigns a port for four seconds to whoever asks for [`ANSWERED`], and says nothing of others.
fn answer(socket: &UdpSocket) -> std::io::Result<()> {
    let begun = Instant::now();
    let mut octets = [0; 64];
    loop {
        let (_, from) = socket.recv_from(&mut octets)?;
        let internal = &octets[4..6];
        if internal != ANSWERED.to_be_bytes() {
            continue;
        }
        let age = begun.elapsed().as_secs() as u32;
        let mut said = vec![0, 128 + octets[1], 0, 0];
        said.extend(age.to_be_bytes());
        said.extend(internal);
        said.extend(ASSIGNED.to_be_bytes());
        said.extend(4u32.to_be_bytes());
        socket.send_to(&said, from)?;
    }
}

#[test]
fn one_that_is_not_answered_keeps_no_other_from_being_renewed() -> Result<()> {
    netns::run(async || {
        let address = Ipv4Addr::LOCALHOST;
        let socket = UdpSocket::bind((address, PORT))?;
        thread::spawn(move || answer(&socket));
        let gateway = Gateway {
            address,
            from: address,
            mark: 1,
        };
        let mappings = [(Protocol::Tcp, ANSWERED), (Protocol::Tcp, UNANSWERED)];
        let (told, mut news) = unbounded_channel();
        tokio::spawn(Keeper::new(gateway, &mappings).keep(told));
        let (mut renewed, mut silent) = (0, false);
        // Of the two minutes in which the other is asked for.
        let kept = timeout(Duration::from_secs(30), async {
            while renewed < 3 || !silent {
                match news.recv().await {
                    Some((0, Ok(granted))) => {
                        ensure!(granted.external == ASSIGNED, "{granted:?}");
                        renewed += u8::from(silent);
                    }
                    Some((1, Err(why))) => {
                        ensure!(why.contains("gives no answer by NAT-PMP"), "{why}");
                        silent = true;
                    }
                    other => anyhow::bail!("told {other:?}"),
                }
            }
            Ok(())
        });
        let kept = kept.await;
        kept.with_context(|| format!("renewed {renewed} times, silent {silent}"))?
    })
}
