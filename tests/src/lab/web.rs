//! A web server on every address of the Internet, and clients that people have: nginx and curl of
//! Debian sid, which speak HTTP/3 and begin with a post-quantum key exchange, and the machine's own curl.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Guest, Lab, Ns, Resolver,
    exec::{Daemon, Ran},
    fetch_sid_web,
    hub::listens,
    sid, sid_cache,
    tls::Certificates,
};
use crate::pace::patience;

/// A curl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curl {
    /// The machine's own: its ClientHello fits in a segment.
    System,
    /// Debian sid's: HTTP/3, and a ClientHello with a share of X25519MLKEM768, of more than 1,500 bytes.
    Sid,
}

/// A request that the web server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name that the client asked for.
    pub host: String,
    /// The address it asked at.
    pub server: IpAddr,
    /// The path that the client's address stands for.
    pub path: super::plan::Path,
    /// Such as `HTTP/3.0`.
    pub protocol: String,
    /// Such as `TLSv1.3`; `-` without TLS.
    pub tls: String,
    /// The group of the key exchange, such as `X25519MLKEM768`; `-` without TLS.
    pub group: String,
}

/// The web server. Dropping it ends it.
pub struct Web {
    root: PathBuf,
    ca: PathBuf,
    log: PathBuf,
    _nginx: Daemon,
}

impl Web {
    /// The requests so far, oldest first; at least `count`, which nginx may log after it has answered.
    pub fn seen(&self, count: usize) -> Result<Vec<Request>> {
        let start = Instant::now();
        loop {
            let text = fs::read_to_string(&self.log)
                .with_context(|| format!("cannot read {}", self.log.display()))?;
            let requests: Vec<_> = text
                .lines()
                .map(|line| {
                    parse(line).with_context(|| format!("nginx logged a strange line: {line}"))
                })
                .collect::<Result<_>>()?;
            if requests.len() >= count {
                return Ok(requests);
            }
            if start.elapsed() > patience(Duration::from_secs(5)) {
                bail!(
                    "the web server saw {} requests, not {count}: {requests:?}",
                    requests.len()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The words of a command line that runs a curl, which trusts this server.
    pub fn curl(&self, curl: Curl) -> Result<Vec<PathBuf>> {
        let mut words = match curl {
            Curl::System => vec!["curl".into()],
            Curl::Sid => sid::own_loader(&self.root, "usr/bin/curl")?,
        };
        words.extend(["--silent", "--show-error", "--cacert"].map(PathBuf::from));
        words.push(self.ca.clone());
        words.extend([
            "--max-time".into(),
            patience(Duration::from_secs(10))
                .as_secs()
                .to_string()
                .into(),
        ]);
        Ok(words)
    }
}

impl Lab {
    /// Starts the web server, on ports 80 and 443, for TCP and for QUIC, with a certificate for
    /// `names`. The box and its guests ask the test's [`Resolver`] from then on.
    pub fn web(&self, names: &[&str]) -> Result<Web> {
        let root = fetch_sid_web(&sid_cache(), &mut |_| {})?;
        fs::write(
            self.dir.join("resolv.conf"),
            format!("nameserver {}\n", Resolver::V4.ip()),
        )?;
        let dir = self.dir.join("web");
        fs::create_dir_all(&dir)?;
        let certificates = Certificates::make_for(&dir, names)?;
        let config = dir.join("nginx.conf");
        fs::write(&config, nginx_conf(&dir, &certificates))?;
        let words = sid::own_loader(&root, "usr/sbin/nginx")?;
        let mut command = self
            .place(Ns::Internet, &self.box_cgroup("servers")?)
            .command(&words[0])?;
        command
            .args(&words[1..])
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"]);
        let mut nginx = Daemon::start("web", command, &self.dir)?;
        nginx.wait(patience(Duration::from_secs(10)), || {
            listens(self, Ns::Internet, "-tln", 443) && listens(self, Ns::Internet, "-uln", 443)
        })?;
        Ok(Web {
            root,
            ca: certificates.ca,
            log: dir.join("access.log"),
            _nginx: nginx,
        })
    }

    /// Runs a command line in a cgroup of the box.
    pub fn run_in(&self, cgroup: &Path, words: &[PathBuf]) -> Result<Ran> {
        run(words, |program| self.command_in(cgroup, program))
    }

    /// Runs a command line in a guest.
    pub fn run_behind(&self, guest: &Guest, words: &[PathBuf]) -> Result<Ran> {
        run(words, |program| self.command_behind(guest, program))
    }
}

fn run(words: &[PathBuf], start: impl FnOnce(&Path) -> Result<Command>) -> Result<Ran> {
    let (program, rest) = words.split_first().context("there is no command to run")?;
    Ran::of(start(program)?.args(rest))
}

fn nginx_conf(dir: &Path, certificates: &Certificates) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
        .concat();
    format!(
        "daemon off; user root; worker_processes 1; pid {dir}/nginx.pid;
         events {{ }}
         http {{
           {temporary}
           log_format web '$host\\t$server_addr\\t$remote_addr\\t$server_protocol\\t$ssl_protocol\\t$ssl_curve';
           access_log {dir}/access.log web;
           ssl_certificate {cert}; ssl_certificate_key {key};
           server {{
             listen 80; listen [::]:80;
             listen 443 ssl; listen [::]:443 ssl;
             listen 443 quic reuseport; listen [::]:443 quic reuseport;
             http2 on;
             location / {{ return 200 \"$remote_addr\\n\"; }}
           }}
         }}\n",
        dir = dir.display(),
        cert = certificates.cert.display(),
        key = certificates.key.display(),
    )
}

fn parse(line: &str) -> Option<Request> {
    let mut fields = line.split('\t');
    let mut next = || fields.next().map(str::to_owned);
    Some(Request {
        host: next()?,
        server: next()?.parse().ok()?,
        path: super::plan::Path::of(next()?.parse().ok()?),
        protocol: next()?,
        tls: next()?,
        group: next()?,
    })
}
