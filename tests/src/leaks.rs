//! Whether anything for the VPN leaves by another way, or anything direct fails, while the VPN flaps and steer is killed.
//!
//! `STEER_SECONDS` says for how long, and `STEER_SEED` repeats the choices of a run that printed it (`cargo xtask soak`).

use std::{
    fmt,
    fs::{self, File},
    net::IpAddr,
    path::PathBuf,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use fastrand::Rng;

use crate::{
    client::Ask,
    fixture::{Fixture, exchange, fresh, lookup, open, resolve, server},
    lab::{
        Client, HostSnapshot, Ns, Steer,
        plan::{self, Path, Range},
    },
    pace::{asked, choice, patience},
};

/// How many numbers of names the clients ask for: the even ones are the VPN's.
pub const NUMBERS: u16 = 20_000;

/// What else becomes of the host meanwhile.
pub trait Trouble {
    /// Begins what goes on beside all else.
    fn begin(&mut self, _lab: &Fixture) -> Result<()> {
        Ok(())
    }

    /// Does something, as the dice fall; called again and again.
    fn make(&mut self, lab: &mut Fixture, rng: &mut Rng) -> Result<()>;

    /// Ends what was begun, leaves nothing of it, and says what came of it.
    fn end(&mut self, _lab: &Fixture) -> Result<()> {
        Ok(())
    }
}

/// Has clients ask for names and connect, those from `first` on, while the VPN flaps, steer is killed and started anew by
/// `config`, and `trouble` is made. Fails where a server or a wire saw a wrong path, where a direct flow failed, and where the
/// host is not as it was before.
pub fn seek(lab: &mut Fixture, first: u16, config: &str, trouble: &mut impl Trouble) -> Result<()> {
    let seconds = asked("STEER_SECONDS", choice(&[15], &[5])[0])?;
    let seed = asked("STEER_SEED", fastrand::u64(..))?;
    println!("STEER_SEED={seed} STEER_SECONDS={seconds}");
    let mut rng = Rng::with_seed(seed);

    // Without the VPN's interface, which is another each time.
    lab.lab.tunnel_down()?;
    let before = HostSnapshot::take(&lab.lab)?;
    lab.lab.tunnel_up()?;
    let tunnel = lab.lab.tunnel_interface();
    Wire::watch(lab, Ns::Isp, "box", first)?;
    Wire::watch(lab, Ns::Vpn, tunnel, first)?;
    let capture = Capture::begin(lab)?;
    let mut bulks = Bulk::begin(lab, first + NUMBERS - 1)?;
    for bulk in &mut bulks {
        let alone = Instant::now();
        bulk.go_on(|| alone.elapsed() < Duration::from_secs(1))?;
        println!("before steer: {bulk}");
        bulk.times.clear();
    }
    let mut clients = lab.clients()?;
    let mut steer = Some(lab.lab.steer(config, &[])?);
    trouble.begin(lab)?;
    let (numbers, stop) = (AtomicU16::new(0), AtomicBool::new(false));
    let until = Instant::now() + patience(Duration::from_secs(seconds));
    let [flaps, kills] = thread::scope(|scope| {
        let busy: Vec<_> = clients
            .iter_mut()
            .map(|(who, client)| {
                let (numbers, stop) = (&numbers, &stop);
                let work = move || work(client, first, numbers, stop);
                (*who, scope.spawn(work))
            })
            .collect();
        let carried: Vec<_> = bulks
            .iter_mut()
            .map(|bulk| scope.spawn(|| bulk.go_on(|| !stop.load(Ordering::Relaxed))))
            .collect();
        let disturbed = disturb(lab, &mut steer, config, trouble, &mut rng, until);
        stop.store(true, Ordering::Relaxed);
        let worked: Vec<_> = busy
            .into_iter()
            .map(|(who, busy)| (who, busy.join()))
            .collect();
        // Where that failed steer has ended, and what clients saw of it is no leak.
        let disturbed = disturbed?;
        for carried in carried {
            let carried = carried.join().map_err(|_| anyhow!("a bulk panicked"))?;
            carried.context("a direct connection from before steer")?;
        }
        for (who, done) in worked {
            let done = done
                .map_err(|_| anyhow!("{who} panicked"))?
                .with_context(|| who.to_owned())?;
            println!("{who}: {done:?}");
            ensure!(done.by_vpn > 0 && done.direct > 0, "{who}: {done:?}");
        }
        anyhow::Ok(disturbed)
    })?;
    println!("{flaps} flaps, {kills} kills");
    bulks.iter().for_each(|bulk| println!("meanwhile: {bulk}"));
    trouble.end(lab)?;
    let mut wrong = lab.servers.contacts();
    wrong.retain(|one| number(one.server.ip()).is_some_and(|it| it >= first));
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
    if let Some(steer) = steer.take() {
        steer.terminate()?;
    }
    lab.lab.tunnel_down()?;
    let left = before.diff(&HostSnapshot::take(&lab.lab)?);
    ensure!(left.is_empty(), "steer left: {left}");
    lab.lab.tunnel_up()
}

/// Much over one direct connection, again and again: how long it takes.
struct Bulk {
    who: &'static str,
    client: Client,
    connection: usize,
    /// How long each time took.
    times: Vec<Duration>,
}

impl Bulk {
    const BYTES: usize = 1_000_000;

    fn begin(lab: &Fixture, number: u16) -> Result<Vec<Self>> {
        let begin = |(who, mut client)| {
            let (connection, path) = open(&mut client, server(number, false))?;
            ensure!(path == Path::Direct, "{who}, before steer: {path:?}");
            Ok(Self {
                who,
                client,
                connection,
                times: Vec::new(),
            })
        };
        lab.clients()?.into_iter().map(begin).collect()
    }

    /// Sends and reads as long as that holds, and leaves the processors to others in between.
    fn go_on(&mut self, holds: impl Fn() -> bool) -> Result<()> {
        while holds() {
            let start = Instant::now();
            exchange(&mut self.client, self.connection, Self::BYTES).context(self.who)?;
            self.times.push(start.elapsed());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl fmt::Display for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |part: usize| {
            let time = times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
            time.map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        write!(
            f,
            "{}: 1 MB there and back {} times, in {:.1} ms (median), {:.1} ms (99 of 100), {:.1} ms (slowest)",
            self.who,
            times.len(),
            at(50),
            at(99),
            at(100),
        )
    }
}

/// Packets to the servers, counted at the provider or at the VPN's far end.
#[derive(Debug)]
struct Wire {
    /// Of the names that are for the VPN.
    vpn: u64,
    /// Of the others.
    direct: u64,
}

impl Wire {
    const TABLE: &str = "leaks";

    /// Counts what comes in by an interface of a namespace for the numbers from `first` on, as what other tests began may
    /// still send, and for what the lab with Docker serves.
    fn watch(lab: &Fixture, ns: Ns, interface: &str, first: u16) -> Result<()> {
        let (fresh, last) = (Range::Fresh, first + NUMBERS - 1);
        let v4 = format!("{}-{}", fresh.host_v4(first), fresh.host_v4(last));
        let v6 = format!("{}-{}", fresh.host_v6(first), fresh.host_v6(last));
        let mut rules = String::new();
        let mut count = |path: &str, what: &str| {
            rules += &format!("iifname {interface} {what} counter comment {path}\n");
        };
        for (bit, path) in [(0, "vpn"), (1, "direct")] {
            count(
                path,
                &format!("ip daddr {v4} ip daddr & 0.0.0.1 == 0.0.0.{bit}"),
            );
            count(path, &format!("ip6 daddr {v6} ip6 daddr & ::1 == ::{bit}"));
        }
        for range in [Range::Blocked, Range::Refusing] {
            count("vpn", &format!("ip daddr {}", range.v4()));
            count("vpn", &format!("ip6 daddr {}", range.v6()));
        }
        for host in plan::HOSTS.iter().filter(|host| host.range == Range::Open) {
            count(
                "direct",
                &format!("ip daddr {}", host.range.host_v4(host.host)),
            );
            count(
                "direct",
                &format!("ip6 daddr {}", host.range.host_v6(host.host)),
            );
        }
        let table = Self::TABLE;
        let hook = "type filter hook prerouting priority -400;";
        let text = format!("table inet {table} {{\nchain in {{ {hook}\n{rules} }}\n}}\n");
        let line = format!("echo '{text}' | nft -f -");
        lab.lab.shell(ns, &line).map(drop)
    }

    /// What was counted, and counts no more.
    fn take(lab: &Fixture, ns: Ns) -> Result<Self> {
        let list = ["nft", "-j", "list", "table", "inet", Self::TABLE];
        let listed: serde_json::Value = serde_json::from_str(&lab.lab.run(ns, &list)?.stdout()?)?;
        let objects = listed["nftables"].as_array().context("nft lists objects")?;
        let count = |path: &str| -> u64 {
            let rules = objects.iter().map(|object| &object["rule"]);
            rules
                .filter(|rule| rule["comment"] == path)
                .flat_map(|rule| rule["expr"].as_array().into_iter().flatten())
                .filter_map(|statement| statement["counter"]["packets"].as_u64())
                .sum()
        };
        let delete = ["nft", "delete", "table", "inet", Self::TABLE];
        lab.lab.run(ns, &delete)?.stdout()?;
        Ok(Self {
            vpn: count("vpn"),
            direct: count("direct"),
        })
    }
}

/// What of the VPN's goes to the provider, in words.
struct Capture {
    child: Child,
    text: PathBuf,
}

impl Capture {
    fn begin(lab: &Fixture) -> Result<Self> {
        let mut is_wrong = vec![
            // The even ones.
            format!("(dst net {} and ip[19] & 1 == 0)", Range::Fresh.v4()),
            format!("(dst net {} and ip6[39] & 1 == 0)", Range::Fresh.v6()),
        ];
        for range in [Range::Blocked, Range::Refusing] {
            is_wrong.extend([range.v4(), range.v6()].map(|net| format!("dst net {net}")));
        }
        let text = lab.lab.dir().join("capture");
        let child = lab
            .lab
            .command(Ns::Isp, "tcpdump")?
            .args(["-i", "box", "-n", "-tt", "-l", "-v"])
            .arg(is_wrong.join(" or "))
            .stdin(Stdio::null())
            .stdout(File::create(&text)?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start tcpdump: is it installed?")?;
        Ok(Self { child, text })
    }

    /// The first of them.
    fn end(self) -> Result<String> {
        let text = fs::read_to_string(&self.text)?;
        Ok(text.lines().take(40).collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

/// What a client did.
#[derive(Debug, Default)]
struct Done {
    by_vpn: usize,
    blocked: usize,
    direct: usize,
}

/// Asks for names of both paths, of which nobody knew, and connects to them, until it is told to stop. What is for the VPN may
/// fail, and what is not may not.
fn work(client: &mut Client, first: u16, numbers: &AtomicU16, stop: &AtomicBool) -> Result<Done> {
    /// Connections that a client keeps.
    const KEPT: usize = 400;
    const BYTES: usize = 10_000;
    let mut done = Done::default();
    let mut lasting = None;
    while !stop.load(Ordering::Relaxed) {
        for v6 in [false, true] {
            let number = first + 2 * (numbers.fetch_add(1, Ordering::Relaxed) % (NUMBERS / 2));
            for (number, zone) in [(number, "fresh"), (number + 1, "plain")] {
                let name = lookup(number, zone, v6);
                resolve(client, name).with_context(|| format!("n{number}.{zone}, v6 {v6}"))?;
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
                    ensure!(path == Path::Vpn, "n{number}.fresh, v6 {v6}: {path:?}");
                    done.by_vpn += 1;
                }
                Err(_) => done.blocked += 1,
            }
            let number = number + 1;
            let why = || format!("direct, n{number}.plain, v6 {v6}");
            let (connection, path) = open(client, server(number, v6)).with_context(why)?;
            ensure!(path == Path::Direct, "n{number}.plain, v6 {v6}: {path:?}");
            exchange(client, connection, BYTES).with_context(why)?;
            done.direct += 1;
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

/// Lets the VPN flap, kills steer and makes trouble, as the dice fall, until it is time; how often the first two.
fn disturb(
    lab: &mut Fixture,
    steer: &mut Option<Steer>,
    config: &str,
    trouble: &mut impl Trouble,
    rng: &mut Rng,
    until: Instant,
) -> Result<[usize; 2]> {
    let [mut flaps, mut kills] = [0; 2];
    while Instant::now() < until {
        let (flap, kill) = *rng
            .choice(&[(true, false), (false, true), (true, true)])
            .context("a choice")?;
        if flap {
            lab.lab.tunnel_down()?;
            a_while(rng);
            flaps += 1;
        }
        if kill {
            if let Some(steer) = steer.take() {
                steer.kill()?;
            }
            a_while(rng);
            *steer = Some(lab.lab.steer(config, &[])?);
            kills += 1;
        }
        trouble.make(lab, rng)?;
        if flap {
            lab.lab.tunnel_up()?;
        }
        a_while(rng);
    }
    Ok([flaps, kills])
}

/// Less than half a second.
pub fn a_while(rng: &mut Rng) {
    thread::sleep(Duration::from_millis(rng.u64(0..400)));
}
