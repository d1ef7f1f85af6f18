//! squid, which clients ask to CONNECT: names of a list leave by the VPN's address.

use std::{fs, net::SocketAddr};

use anyhow::Result;
use steer_tests::lab::Ns;

use super::{Kept, Part, ip, process, suffixes};
use crate::{
    load::server::RESOLVER,
    stage::{BOX_V4, BRIDGE_V4, Stage, VPN_V4, Who, at},
};

/// Where it listens.
const PORT: u16 = 3128;
/// The routing table of what has the VPN's address.
const TABLE: &str = "101";

/// A squid in the box.
pub struct Proxy {
    squid: process::Process,
}

impl Proxy {
    pub fn up(stage: &Stage) -> Result<Self> {
        let vpn = stage.lab.tunnel_interface();
        let dir = stage.lab.dir();
        ip(
            stage,
            &[
                format!("route add default dev {vpn} table {TABLE}"),
                format!("rule add from {VPN_V4} lookup {TABLE} priority 101"),
            ],
        )?;
        let list = dir.join("bench-squid.list");
        let names: Vec<_> = suffixes().map(|suffix| format!(".{suffix}\n")).collect();
        fs::write(&list, names.concat())?;
        let config = dir.join("bench-squid.conf");
        fs::write(
            &config,
            format!(
                "http_port {BRIDGE_V4}:{PORT}\nhttp_port 127.0.0.1:{PORT}\n\
                 acl blocked dstdomain \"{}\"\n\
                 http_access allow all\n\
                 tcp_outgoing_address {VPN_V4} blocked\n\
                 tcp_outgoing_address {BOX_V4}\n\
                 dns_nameservers {RESOLVER}\nhosts_file none\n\
                 cache deny all\ncache_mem 8 MB\naccess_log none\ncache_store_log none\ncache_log /dev/null\n\
                 pid_filename none\nnetdb_filename none\npinger_enable off\nvia off\nforwarded_for delete\n\
                 max_filedescriptors 16384\nshutdown_lifetime 0 seconds\ncoredump_dir none\n",
                list.display()
            ),
        )?;
        let mut command = stage.lab.command(Ns::Box, "squid")?;
        command.args(["-N", "-d", "1", "-f"]).arg(&config);
        let mut squid = process::Process::start("squid", command, dir.join("bench-squid.log"))?;
        squid.wait(|| {
            let sport = format!("sport = :{PORT}");
            let listening = stage.lab.run(Ns::Box, &["ss", "-Htln", &sport]);
            listening.is_ok_and(|ran| ran.stdout.lines().count() == 2)
        })?;
        Ok(Self { squid })
    }
}

impl Part for Proxy {
    fn proxy(&self, who: Who) -> Option<SocketAddr> {
        Some(at(who, PORT))
    }

    fn memory(&self, _stage: &Stage) -> Result<Vec<Kept>> {
        Ok(vec![Kept {
            whose: "processes",
            octets: process::resident(self.squid.pid())?,
        }])
    }

    fn down(self: Box<Self>, stage: &Stage) -> Result<()> {
        self.squid.end()?;
        ip(
            stage,
            &[
                format!("rule del from {VPN_V4} lookup {TABLE} priority 101"),
                format!("route flush table {TABLE}"),
            ],
        )
    }
}
