//! Whether anything for the VPN leaves by another way, or anything direct fails, while the VPN flaps and steer is killed.
//!
//! `STEER_SECONDS` says for how long, and `STEER_SEED` repeats the choices of a run that printed it (`cargo xtask soak`).

use std::{
    mem,
    net::IpAddr,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use fastrand::Rng;

use self::{
    bulk::Bulk,
    times::Times,
    wire::{Capture, Wire},
};
use crate::{
    client::Ask,
    fixture::{Fixture, exchange, fresh, lookup, open, resolve, server},
    lab::{Client, HostSnapshot, Ns, Steer, plan::Path},
    pace::{asked, choice, patience},
};

mod bulk;
mod times;
mod wire;

/// How many numbers of names the clients ask for: the even ones are the VPN's.
pub const NUMBERS: u16 = 20_000;
/// How many of them before steer starts.
const BEFORE: u16 = 5_000;

/// What else becomes of the host meanwhile.
pub trait Trouble: Default {
    /// Begins what goes on beside all else, with steer.
    fn begin(&mut self, _lab: &Fixture) -> Result<()> {
        Ok(())
    }

    /// Does something, as the dice fall; called again and again, with steer and without.
    fn make(&mut self, lab: &mut Fixture, rng: &mut Rng) -> Result<()>;

    /// Ends what was begun, leaves nothing of it, and says what came of it.
    fn end(&mut self, _lab: &Fixture) -> Result<()> {
        Ok(())
    }
}

/// Has clients ask for names and connect, those from `first` on, while the VPN flaps, steer is killed and started anew by
/// `config`, and trouble is made. Fails where a server or a wire saw a wrong path, where a direct flow failed, and where the
/// host is not as it was before. How long direct flows take is told as a ratio to the same without steer.
pub fn seek<T: Trouble>(lab: &mut Fixture, first: u16, config: &str) -> Result<()> {
    let seconds = asked("STEER_SECONDS", choice(&[15], &[5])[0])?;
    let seed = asked("STEER_SEED", fastrand::u64(..))?;
    println!("STEER_SEED={seed} STEER_SECONDS={seconds}");
    let mut rng = Rng::with_seed(seed);
    let (start, last) = (first + BEFORE, first + NUMBERS - 1);

    // Without the VPN's interface, which is another each time.
    lab.lab.tunnel_down()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.lab.tunnel_up()?;
    let mut bulks = Bulk::begin(lab, last)?;
    for bulk in &mut bulks {
        let alone = Instant::now();
        bulk.go_on(|| alone.elapsed() < Duration::from_secs(1))?;
        let times = mem::take(&mut bulk.times);
        println!("undisturbed: {}, {}: {times}", bulk.who, Measured::BULK);
    }
    let without = Stretch::new(first..start, seconds / 3);
    println!("without steer:");
    let without = without.pass(lab, &mut bulks, None, &mut T::default(), &mut rng)?;

    let tunnel = lab.lab.tunnel_interface();
    Wire::watch(lab, Ns::Isp, "box", start..=last)?;
    Wire::watch(lab, Ns::Vpn, tunnel, start..=last)?;
    let capture = Capture::begin(lab)?;
    let mut steered = Steered {
        config,
        steer: Some(lab.lab.steer(config, &[])?),
        kills: 0,
    };
    let mut trouble = T::default();
    trouble.begin(lab)?;
    let with = Stretch::new(start..last, seconds);
    println!("with steer:");
    let steers = Some(&mut steered);
    let with = with.pass(lab, &mut bulks, steers, &mut trouble, &mut rng)?;
    println!("{} kills", steered.kills);
    for (with, without) in with.iter().zip(&without) {
        let ratio = with.times.median().as_secs_f64() / without.times.median().as_secs_f64();
        let Measured { who, what, .. } = with;
        println!("{who}, {what}: {ratio:.2} of the time without steer (median)");
    }
    trouble.end(lab)?;
    let mut wrong = lab.servers.contacts();
    wrong.retain(|one| number(one.server.ip()).is_some_and(|it| it >= start));
    println!("the servers saw {} connections and datagrams", wrong.len());
    wrong.retain(|one| is_for_vpn(one.server.ip()) != (one.path() == Path::Vpn));
    ensure!(wrong.is_empty(), "these took a wrong path: {wrong:?}");
    let (isp, far) = (Wire::take(lab, Ns::Isp)?, Wire::take(lab, Ns::Vpn)?);
    println!("packets at the provider: {isp:?}, at the VPN's far end: {far:?}");
    ensure!(isp.direct > 0 && far.vpn > 0, "nothing was counted");
    ensure!(
        (isp.vpn, far.direct) == (0, 0),
        "packets on a wrong path: at the provider {isp:?}, at the VPN's far end {far:?}:\n{}",
        capture.end()?
    );
    if let Some(steer) = steered.steer {
        steer.terminate()?;
    }
    lab.lab.tunnel_down()?;
    let left = before.diff(&HostSnapshot::take(&lab.lab)?);
    ensure!(left.is_empty(), "steer left: {left}");
    lab.lab.tunnel_up()
}

/// steer, killed and started anew.
struct Steered<'a> {
    config: &'a str,
    steer: Option<Steer>,
    kills: usize,
}

impl Steered<'_> {
    fn kill(&mut self, lab: &Fixture, rng: &mut Rng) -> Result<()> {
        if let Some(steer) = self.steer.take() {
            steer.kill()?;
        }
        a_while(rng);
        self.steer = Some(lab.lab.steer(self.config, &[])?);
        self.kills += 1;
        Ok(())
    }
}

/// A time in which clients ask for names and connect, direct connections carry much, and the host is disturbed.
struct Stretch {
    numbers: Range<u16>,
    /// How many of the even ones were taken.
    taken: AtomicU16,
    lasts: Duration,
    is_over: AtomicBool,
}

impl Stretch {
    fn new(numbers: Range<u16>, seconds: u64) -> Self {
        Self {
            numbers,
            taken: AtomicU16::new(0),
            lasts: patience(Duration::from_secs(seconds)),
            is_over: AtomicBool::new(false),
        }
    }

    /// Passes it, with steer or without, and says how it went and how long direct things took.
    fn pass(
        &self,
        lab: &mut Fixture,
        bulks: &mut [Bulk],
        steered: Option<&mut Steered<'_>>,
        trouble: &mut impl Trouble,
        rng: &mut Rng,
    ) -> Result<Vec<Measured>> {
        let mut clients = lab.clients()?;
        let start = Instant::now();
        let vpns = if steered.is_some() {
            Path::Vpn
        } else {
            Path::Direct
        };
        let mut measured = Vec::new();
        let flaps = thread::scope(|scope| {
            let busy: Vec<_> = clients
                .iter_mut()
                .map(|(who, client)| (*who, scope.spawn(move || self.work(client, vpns))))
                .collect();
            let carried: Vec<_> = bulks
                .iter_mut()
                .map(|bulk| scope.spawn(|| bulk.go_on(|| !self.is_over())))
                .collect();
            let disturbed = disturb(lab, steered, trouble, rng, start + self.lasts);
            self.is_over.store(true, Ordering::Relaxed);
            let worked: Vec<_> = busy
                .into_iter()
                .map(|(who, busy)| (who, busy.join()))
                .collect();
            // Where that failed steer has ended, and what clients saw of it is no leak.
            let flaps = disturbed?;
            for carried in carried {
                let carried = carried.join().map_err(|_| anyhow!("a bulk panicked"))?;
                carried.context("a direct connection from before steer")?;
            }
            for (who, done) in worked {
                let done = done
                    .map_err(|_| anyhow!("{who} panicked"))?
                    .with_context(|| who.to_owned())?;
                let Done {
                    vpns,
                    blocked,
                    names,
                    direct,
                } = done;
                println!("{who}: {vpns} connections by the names for the VPN, {blocked} blocked");
                ensure!(vpns > 0 && direct.count() > 0, "{who} did nothing");
                for (what, times) in [
                    ("a name looked up", names),
                    ("a direct connection with 10 kB there and back", direct),
                ] {
                    measured.push(Measured { who, what, times });
                }
            }
            anyhow::Ok(flaps)
        })?;
        println!("{flaps} flaps in {:.0?}", start.elapsed());
        measured.extend(bulks.iter_mut().map(|bulk| Measured {
            who: bulk.who,
            what: Measured::BULK,
            times: mem::take(&mut bulk.times),
        }));
        for Measured { who, what, times } in &measured {
            println!("{who}, {what}: {times}");
        }
        Ok(measured)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// An even number, not taken before unless all were.
    fn take(&self) -> u16 {
        let pairs = (self.numbers.end - self.numbers.start) / 2;
        self.numbers.start + 2 * (self.taken.fetch_add(1, Ordering::Relaxed) % pairs)
    }

    /// Asks for names of both paths, of which nobody knew, and connects to them, until it is over. What is for the VPN may
    /// fail, goes by `vpns` where it does not, and what is direct may not fail.
    fn work(&self, client: &mut Client, vpns: Path) -> Result<Done> {
        /// Connections that a client keeps.
        const KEPT: usize = 400;
        const BYTES: usize = 10_000;
        let mut done = Done::default();
        let mut lasting = None;
        while !self.is_over() {
            for v6 in [false, true] {
                let number = self.take();
                for (number, zone) in [(number, "fresh"), (number + 1, "plain")] {
                    let name = lookup(number, zone, v6);
                    let resolved = done.names.of(|| resolve(client, name));
                    resolved.with_context(|| format!("n{number}.{zone}, v6 {v6}"))?;
                }
                // The datagrams are not waited for: the servers tell where they came from.
                for number in [number, number + 1] {
                    let _ = client.ask(&Ask::Send {
                        server: server(number, v6),
                        connected: number % 4 < 2,
                    });
                }
                match open(client, server(number, v6)) {
                    Ok((_, path)) => {
                        ensure!(path == vpns, "n{number}.fresh, v6 {v6}: {path:?}");
                        done.vpns += 1;
                    }
                    Err(_) => done.blocked += 1,
                }
                let number = number + 1;
                let why = || format!("direct, n{number}.plain, v6 {v6}");
                let direct = || {
                    let (connection, path) = open(client, server(number, v6))?;
                    exchange(client, connection, BYTES)?;
                    anyhow::Ok((connection, path))
                };
                let (connection, path) = done.direct.of(direct).with_context(why)?;
                ensure!(path == Path::Direct, "n{number}.plain, v6 {v6}: {path:?}");
                let lasts = *lasting.get_or_insert(connection);
                if connection > KEPT {
                    exchange(client, lasts, BYTES).context("a direct connection that lasted")?;
                    client.ask(&Ask::Close)?;
                    lasting = None;
                }
            }
        }
        Ok(done)
    }
}

/// What a client did.
#[derive(Default)]
struct Done {
    /// What is for the VPN, and could connect.
    vpns: usize,
    /// What is, and could not.
    blocked: usize,
    names: Times,
    direct: Times,
}

/// How long something took somebody.
struct Measured {
    who: &'static str,
    what: &'static str,
    times: Times,
}

impl Measured {
    const BULK: &str = "1 MB there and back";
}

/// The number of a server's address.
fn number(server: IpAddr) -> Option<u16> {
    let number = match server.to_canonical() {
        IpAddr::V4(v4) => u16::from_be_bytes([v4.octets()[2], v4.octets()[3]]),
        IpAddr::V6(v6) => v6.segments()[7],
    };
    (fresh(number, server.to_canonical().is_ipv6()) == server.to_canonical()).then_some(number)
}

fn is_for_vpn(server: IpAddr) -> bool {
    number(server).is_some_and(|number| number % 2 == 0)
}

/// Lets the VPN flap, kills steer and makes trouble, as the dice fall, until it is time; how often the first.
fn disturb(
    lab: &mut Fixture,
    mut steered: Option<&mut Steered<'_>>,
    trouble: &mut impl Trouble,
    rng: &mut Rng,
    until: Instant,
) -> Result<usize> {
    let mut flaps = 0;
    while Instant::now() < until {
        let (flap, kill) = *rng
            .choice(&[(true, false), (false, true), (true, true)])
            .context("a choice")?;
        if flap {
            lab.lab.tunnel_down()?;
            a_while(rng);
            flaps += 1;
        }
        if kill && let Some(steered) = &mut steered {
            steered.kill(lab, rng)?;
        }
        trouble.make(lab, rng)?;
        if flap {
            lab.lab.tunnel_up()?;
        }
        a_while(rng);
    }
    Ok(flaps)
}

/// Less than half a second.
pub fn a_while(rng: &mut Rng) {
    thread::sleep(Duration::from_millis(rng.u64(0..400)));
}
