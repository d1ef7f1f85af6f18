//! Docker Hub as the box sees it: a real registry behind nginx, a token service, a layer host,
//! and a geo-block; besides, two sites of the Internet, and dnsmasq to find them all.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    Families, Lab, Ns, ResolverPlace,
    exec::{Daemon, Ran},
    plan::{HOSTS, Host, LAYER_HOST, PUBLIC_RESOLVER_V4, RESOLVER_V4, RESOLVER_V6, VPN_V4, VPN_V6},
    tls::Certificates,
};
use crate::pace::patience;

/// A request that an HTTP server of the lab answered.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The name the client asked for.
    pub host: String,
    /// The address it asked at.
    pub server: IpAddr,
    /// The address it came from.
    pub client: IpAddr,
    /// The path that this address stands for.
    pub path: super::plan::Path,
    /// The answer's status.
    pub status: u16,
    /// Bytes sent, headers and body.
    pub bytes: u64,
    /// Whether the answer came from the layer host.
    pub layer: bool,
    /// Method and target.
    pub request: String,
}

pub(super) fn start(lab: &Lab, families: Families, place: ResolverPlace) -> Result<Vec<Daemon>> {
    let certificates = Certificates::make(&lab.dir)?;
    let mut daemons = vec![
        resolver(lab, families)?,
        registry(lab)?,
        nginx(lab, &certificates)?,
    ];
    if place == ResolverPlace::Loopback {
        daemons.push(forwarder(lab, families)?);
    }
    Ok(daemons)
}

/// What nginx has logged, oldest first.
pub(super) fn seen(dir: &Path) -> Result<Vec<Seen>> {
    let log = dir.join("access.log");
    let text =
        fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
    text.lines()
        .map(|line| parse(line).with_context(|| format!("nginx logged a strange line: {line}")))
        .collect()
}

fn parse(line: &str) -> Option<Seen> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let host = next()?.to_owned();
    let server = next()?.parse().ok()?;
    let client: IpAddr = next()?.parse().ok()?;
    Some(Seen {
        layer: host == LAYER_HOST,
        host,
        server,
        client,
        path: super::plan::Path::of(client),
        status: next()?.parse().ok()?,
        bytes: next()?.parse().ok()?,
        request: next()?.to_owned(),
    })
}

fn resolver(lab: &Lab, families: Families) -> Result<Daemon> {
    let mut hosts = String::new();
    for host in &HOSTS {
        let Host {
            name,
            range,
            host,
            v4,
            v6,
        } = *host;
        if v4 && families.v4() {
            writeln!(hosts, "{} {name}", range.host_v4(host))?;
        }
        if v6 && families.v6() {
            writeln!(hosts, "{} {name}", range.host_v6(host))?;
        }
    }
    let file = lab.dir.join("hosts");
    fs::write(&file, hosts)?;
    let addresses = [
        RESOLVER_V4.into(),
        PUBLIC_RESOLVER_V4.into(),
        IpAddr::V6(RESOLVER_V6),
    ];
    let knows = [
        "--local-ttl=60".to_owned(),
        format!("--addn-hosts={}", file.display()),
    ];
    dnsmasq(lab, Ns::Internet, "dnsmasq", &addresses, &knows)
}

/// A resolver on the box's loopback, as systemd-resolved and many a desktop have it.
fn forwarder(lab: &Lab, families: Families) -> Result<Daemon> {
    let upstream = nameserver(families, ResolverPlace::Internet);
    let knows = [format!("--server={upstream}")];
    dnsmasq(
        lab,
        Ns::Box,
        "dnsmasq-box",
        &[Ipv4Addr::LOCALHOST.into()],
        &knows,
    )
}

/// By address, so that a test's name server can have the port on another one.
fn dnsmasq(
    lab: &Lab,
    ns: Ns,
    name: &'static str,
    addresses: &[IpAddr],
    knows: &[String],
) -> Result<Daemon> {
    let mut command = lab.server(ns, "dnsmasq")?;
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file",
    ]);
    command.args([
        "--no-resolv",
        "--no-hosts",
        "--log-facility=-",
        "--bind-interfaces",
    ]);
    command.args(
        addresses
            .iter()
            .map(|address| format!("--listen-address={address}")),
    );
    command.args(knows);
    let mut daemon = Daemon::start(name, command, &lab.dir)?;
    daemon.wait(patience(Duration::from_secs(10)), || {
        listens(lab, ns, "-uln", 53)
    })?;
    Ok(daemon)
}

fn registry(lab: &Lab) -> Result<Daemon> {
    let config = lab.dir.join("registry.yml");
    let root = lab.dir.join("registry");
    fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{ level: warn }}\nhttp: {{ addr: '127.0.0.1:5000' }}\n\
             storage: {{ filesystem: {{ rootdirectory: '{}' }} }}\n",
            root.display()
        ),
    )?;
    let mut command = lab.server(Ns::Internet, "docker-registry")?;
    command.arg("serve").arg(&config);
    let mut daemon = Daemon::start("docker-registry", command, &lab.dir)?;
    daemon.wait(patience(Duration::from_secs(20)), || {
        listens(lab, Ns::Internet, "-tln", 5000)
    })?;
    Ok(daemon)
}

fn nginx(lab: &Lab, certificates: &Certificates) -> Result<Daemon> {
    let config = lab.dir.join("nginx.conf");
    fs::write(&config, nginx_conf(&lab.dir, certificates))?;
    fs::create_dir_all(lab.dir.join("nginx"))?;
    let mut command = lab.server(Ns::Internet, "nginx")?;
    command.arg("-c").arg(&config).arg("-e").arg("stderr");
    let mut daemon = Daemon::start("nginx", command, &lab.dir)?;
    daemon.wait(patience(Duration::from_secs(10)), || {
        listens(lab, Ns::Internet, "-tln", 443)
    })?;
    Ok(daemon)
}

fn nginx_conf(dir: &Path, certificates: &Certificates) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/nginx/{kind};\n", dir.display()))
        .concat();
    let site = |name: &str, rest: &str| {
        format!(
            "server {{ server_name {name}; listen 80; listen [::]:80;
               listen 443 ssl; listen [::]:443 ssl;
               {rest} }}\n"
        )
    };
    let refusing = |name: &str, rest: &str| {
        let refusal = r#"'{"errors":[{"code":"DENIED","message":"not served in your country"}]}'"#;
        let guard = format!("if ($refused) {{ return 403 {refusal}; }}");
        site(
            name,
            &format!("default_type application/json; {guard} {rest}"),
        )
    };
    let sites = [
        refusing(
            "registry-1.docker.io",
            &format!(
                r#"add_header Www-Authenticate $challenge always;
                   if ($http_authorization != "Bearer lab-token") {{
                       return 401 '{{"errors":[{{"code":"UNAUTHORIZED","message":"authentication required"}}]}}';
                   }}
                   location / {{ proxy_pass http://127.0.0.1:5000; }}
                   location ~ ^/v2/.+/blobs/ {{ return 307 https://{LAYER_HOST}$request_uri; }}"#
            ),
        ),
        refusing(
            "auth.docker.io",
            r#"location /token {
                   return 200 '{"token":"lab-token","access_token":"lab-token","expires_in":300}';
               }"#,
        ),
        refusing("index.docker.io", r#"return 200 "index\n";"#),
        refusing("hub.docker.com", r#"return 200 "hub\n";"#),
        site(LAYER_HOST, "location / { proxy_pass http://127.0.0.1:5000; }"),
        site(
            "blocked.example *.blocked.example",
            r#"return 200 "blocked site: you come from $remote_addr\n";"#,
        ),
        site(
            "direct.example *.direct.example",
            r#"return 200 "direct site: you come from $remote_addr\n";"#,
        ),
    ]
    .concat();
    format!(
        "daemon off; user root; worker_processes 1; pid {dir}/nginx.pid;
         events {{ worker_connections 1024; }}
         http {{
           {temporary}
           log_format lab '$host\t$server_addr\t$remote_addr\t$status\t$bytes_sent\t$request_method $request_uri';
           access_log {dir}/access.log lab;
           ssl_certificate {cert}; ssl_certificate_key {key};
           server_names_hash_bucket_size 128;
           client_max_body_size 0;
           geo $refused {{ default 1; {VPN_V4} 0; {VPN_V6} 0; }}
           map $status $challenge {{
             401 'Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\"';
             default '';
           }}
           {sites}
         }}\n",
        dir = dir.display(),
        cert = certificates.cert.display(),
        key = certificates.key.display(),
    )
}

pub(super) fn listens(lab: &Lab, ns: Ns, sockets: &str, port: u16) -> bool {
    let shown = lab
        .command(ns, "ss")
        .and_then(|mut ss| Ran::of(ss.args([sockets, &format!("sport = :{port}")])));
    shown.is_ok_and(|ran| ran.stdout.lines().count() > 1)
}

/// Whom the box's `/etc/resolv.conf` names.
pub(super) fn nameserver(families: Families, place: ResolverPlace) -> IpAddr {
    match (place, families) {
        (ResolverPlace::Loopback, _) => Ipv4Addr::LOCALHOST.into(),
        (ResolverPlace::Internet, Families::V6) => RESOLVER_V6.into(),
        (ResolverPlace::Internet, _) => RESOLVER_V4.into(),
    }
}
