//! How long an address stays known: beyond its answers while flows use it.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context, Result};
use steer_tests::{
    fixture::{Fixture, Shared, fresh, lookup, open, resolve, server},
    lab::plan::Path,
    pace::patience,
};

const SECOND: u64 = 1_000_000_000;

/// The words of an entry of `ADDRS`: until when it takes the VPN, until when direct, by which rules, and which VPN.
struct Entry {
    key: String,
    words: [u64; 7],
}

impl Entry {
    fn of(lab: &Fixture, address: IpAddr) -> Result<Self> {
        let octets = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let key = octets.map(|octet| format!("{octet:02x}")).join(" ");
        let line = format!("bpftool map lookup pinned {} key hex {key}", map(lab));
        let shown = lab.in_box(&line)?;
        let word = |name: &str| -> Result<u64> {
            let (_, rest) = shown
                .split_once(&format!("\"{name}\": "))
                .with_context(|| format!("no {name}: {shown}"))?;
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            Ok(digits.unwrap_or_default().parse()?)
        };
        // The last is which VPN, a number of half the size with padding behind it.
        let names = [
            "vpn_until",
            "direct_until",
            "block_until",
            "vpn_rule",
            "direct_rule",
            "block_rule",
            "number",
        ];
        let mut words = [0; 7];
        for (place, name) in words.iter_mut().zip(names) {
            *place = word(name)?;
        }
        Ok(Self { key, words })
    }

    /// Has it expire that many seconds from now.
    fn ends_in(mut self, lab: &Fixture, seconds: u64) -> Result<u64> {
        self.words[0] = monotonic()? + seconds * SECOND;
        let octets = self.words.iter().flat_map(|word| word.to_ne_bytes());
        let value: Vec<_> = octets.map(|octet| format!("{octet:02x}")).collect();
        let (key, value) = (&self.key, value.join(" "));
        lab.in_box(&format!(
            "bpftool map update pinned {} key hex {key} value hex {value} exist",
            map(lab)
        ))?;
        Ok(self.words[0])
    }
}

fn map(lab: &Fixture) -> String {
    lab.lab.steer_bpffs().join("ADDRS").display().to_string()
}

/// Nanoseconds of the clock that the entries go by.
fn monotonic() -> Result<u64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(Duration::from(time).as_nanos().try_into()?)
}

#[test]
fn an_address_stays_while_a_connection_to_it_idles() -> Result<()> {
    /// More than from one look of steer to the next, and less than what it looks ahead.
    const ENDS_IN: u64 = 30;
    let mut lab = Shared::steered()?;
    let mut used = Vec::new();
    let mut unused = Vec::new();
    let mut clients = lab.clients()?;
    for (who, client) in &mut clients {
        for v6 in [false, true] {
            let number = lab.numbers(2)?;
            for number in [number, number + 1] {
                resolve(client, lookup(number, "fresh", v6))?;
            }
            let (_, path) = open(client, server(number, v6))?;
            assert_eq!(path, Path::Vpn, "{who}, v6 {v6}");
            used.push(fresh(number, v6));
            unused.push(fresh(number + 1, v6));
        }
    }
    let ends = |address: &IpAddr| Entry::of(&lab, *address)?.ends_in(&lab, ENDS_IN);
    let used_end = used.iter().map(ends).collect::<Result<Vec<_>>>()?;
    let unused_end = unused.iter().map(ends).collect::<Result<Vec<_>>>()?;
    // Steer looks every ten seconds.
    for _ in 0..25 {
        thread::sleep(patience(Duration::from_secs(1)));
        let mut extended = 0;
        for (address, end) in used.iter().zip(&used_end) {
            extended += usize::from(Entry::of(&lab, *address)?.words[0] > *end);
        }
        if extended == used.len() {
            break;
        }
    }
    for (address, end) in used.iter().zip(&used_end) {
        let now = Entry::of(&lab, *address)?.words[0];
        assert!(now >= end + 200 * SECOND, "{address}: {end} became {now}");
    }
    for (address, end) in unused.iter().zip(&unused_end) {
        assert_eq!(Entry::of(&lab, *address)?.words[0], *end, "{address}");
    }
    lab.done()
}
